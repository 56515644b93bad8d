//! Users, and the client's service account.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// A user, or the client's service account.
#[derive(Clone, Debug)]
pub struct User {
    /// The name for the sign-in form.
    pub username: String,
    /// The password.
    pub password: String,
    /// `sub`.
    pub subject: String,
    /// Full paths (`/mlflow_users`), as Keycloak's mapper writes them.
    pub groups: Vec<String>,
    /// Claims that extend or replace the usual ones.
    pub claims: Map<String, Value>,
    /// Disabled users cannot sign in, and their tokens are invalid. The client is not notified.
    pub enabled: bool,
    /// Tokens issued earlier (seconds since 1970) are invalid. Set when an administrator logs the user out.
    pub not_before: i64,
}

impl User {
    /// A user with the development password.
    pub fn new(username: &str, groups: &[&str]) -> Self {
        let hash = Sha256::digest(username);
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        // Fixed values, so that a developer's cookies and data stay valid after a restart.
        let subject = [
            part(0, 8),
            part(8, 12),
            format!("4{}", part(13, 16)),
            format!("8{}", part(17, 20)),
            part(20, 32),
        ];
        Self {
            username: username.to_owned(),
            password: "password123".to_owned(),
            subject: subject.join("-"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            claims: Map::new(),
            enabled: true,
            not_before: 0,
        }
    }

    /// The user's claims, as Keycloak writes them to ID token, access token and UserInfo.
    pub(crate) fn profile(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        set("email_verified", json!(true));
        set("name", json!(format!("{} Example", self.username)));
        // Without groups the claim is absent, not an empty list.
        if !self.groups.is_empty() {
            set("groups", json!(self.groups));
        }
        set("preferred_username", json!(self.username));
        set("given_name", json!(self.username));
        set("family_name", json!("Example"));
        set("email", json!(format!("{}@example.com", self.username)));
        claims.extend(self.claims.clone());
        claims
    }
}
