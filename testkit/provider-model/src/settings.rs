//! An administrator's settings of realm and client, with Keycloak's names.

/// Settings of realm and client. The defaults are those of `keycloak/realm-mlflow.example.json`. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmSettings {
    /// Whether a refresh token can be used only once (rotation). If not, it can be used any number of times.
    pub revoke_refresh_token: bool,
    /// How many more times it can be used.
    pub refresh_token_max_reuse: u32,
    /// Lifetime of ID and access tokens (`exp` − `iat`), and `expires_in`.
    pub access_token_lifespan: i64,
    /// A session ends if it is not refreshed for this long; also `refresh_expires_in`.
    pub sso_session_idle_timeout: i64,
    /// A session ends this long after its login. The time that is left limits both of the above.
    pub sso_session_max_lifespan: i64,
    /// Whether the client gets refresh tokens.
    pub use_refresh_tokens: bool,
    /// Whether logout tokens contain `sid`. Otherwise they contain only the user.
    pub backchannel_logout_session_required: bool,
    /// Whether other clients take part in the sessions, which then outlive the revocation of a refresh token.
    pub shares_sessions: bool,
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
            shares_sessions: false,
        }
    }
}
