//! Identifiers that the provider assigns. They are unique only within an issuer (OIDC Core 2, Back-Channel Logout 1.0
//! 2.1), and have types of their own so that they can't be swapped with it or with each other.

use serde::{Deserialize, Serialize};

/// `sub`: a user or a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

/// `sid`: a session at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sid(String);

impl Subject {
    /// The value of the claim.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Sid {
    /// The value of the claim.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Subject {
    fn from(sub: &str) -> Self {
        Self(sub.to_owned())
    }
}

impl From<&str> for Sid {
    fn from(sid: &str) -> Self {
        Self(sid.to_owned())
    }
}
