//! One login under way, from the authorization request to the callback.

use serde::{Deserialize, Serialize};

use crate::secret::SecretText;
use crate::time::Timestamp;

/// How many characters of `state` name the flow's cookie.
pub const TAG_LEN: usize = 8;

/// One login in progress. It is stored only in the browser's cookie: unauthenticated traffic writes nothing to Redis.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// CSRF token of the authorization request.
    pub state: SecretText,
    /// Binds the ID token to this login.
    pub nonce: SecretText,
    /// PKCE secret (RFC 7636 4.1): 43 characters.
    pub verifier: SecretText,
    /// The path that the user requested.
    pub return_path: String,
    /// When it began. The gate enforces its timeout and does not rely on the cookie's Max-Age.
    pub created: Timestamp,
}

impl Flow {
    /// The part of `state` that names the flow's cookie.
    pub fn tag(&self) -> &str {
        self.state.expose().get(..TAG_LEN).unwrap_or_default()
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
