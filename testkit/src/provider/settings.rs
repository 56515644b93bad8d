//! What an administrator sets for the realm and the client, in Keycloak's own words.

/// Settings of realm and client; at the start as `keycloak/realm-mlflow.example.json` has them. Times are seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmSettings {
    /// Refresh tokens are good once (rotation). Off: as often as anybody likes.
    pub revoke_refresh_token: bool,
    /// How many more times than once.
    pub refresh_token_max_reuse: u32,
    /// `exp` − `iat` of ID and access tokens, `expires_in`.
    pub access_token_lifespan: i64,
    /// A session that is not refreshed for so long ends; `refresh_expires_in`.
    pub sso_session_idle_timeout: i64,
    /// A session ends so long after its login; what is left of it caps both of the above.
    pub sso_session_max_lifespan: i64,
    /// Whether the client gets refresh tokens at all.
    pub use_refresh_tokens: bool,
    /// Whether logout tokens name the session; else the user only.
    pub backchannel_logout_session_required: bool,
}

impl Default for RealmSettings {
    fn default() -> Self {
        Self {
            revoke_refresh_token: true,
            refresh_token_max_reuse: 0,
            access_token_lifespan: 300,
            sso_session_idle_timeout: 3600,
            sso_session_max_lifespan: 43_200,
            use_refresh_tokens: true,
            backchannel_logout_session_required: true,
        }
    }
}
