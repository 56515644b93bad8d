//! Identifiers that the provider assigns. They are unique only within an issuer (OIDC Core 2, Back-Channel Logout 1.0
//! 2.1). The compiler refuses to confuse them with an issuer or with each other.

use serde::{Deserialize, Serialize};

macro_rules! identifier {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The value of the claim.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(claim: &str) -> Self {
                Self(claim.to_owned())
            }
        }
    };
}

identifier! {
    /// `sub`: a user or a client.
    Subject
}

identifier! {
    /// `sid`: a session at the provider.
    Sid
}
