//! What a test refers to: an endpoint of the provider, or one grant at the token endpoint.

use super::Recorded;

/// The provider's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`
    Discovery,
    /// The JWK set.
    Jwks,
    /// The authorization endpoint, for browsers.
    Authorization,
    /// The target of the sign-in form.
    SignIn,
    /// The token endpoint.
    Token,
    /// UserInfo.
    UserInfo,
    /// RP-initiated logout, for browsers.
    EndSession,
    /// RFC 7009.
    Revocation,
    /// RFC 7662.
    Introspection,
}

impl Endpoint {
    /// The endpoint of a path below the issuer.
    pub(super) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/.well-known/openid-configuration" => Self::Discovery,
            "/protocol/openid-connect/certs" => Self::Jwks,
            "/protocol/openid-connect/auth" => Self::Authorization,
            "/login-actions/authenticate" => Self::SignIn,
            "/protocol/openid-connect/token" => Self::Token,
            "/protocol/openid-connect/userinfo" => Self::UserInfo,
            "/protocol/openid-connect/logout" => Self::EndSession,
            "/protocol/openid-connect/revoke" => Self::Revocation,
            "/protocol/openid-connect/token/introspect" => Self::Introspection,
            _ => return None,
        })
    }
}

/// What a client requests from the token endpoint: `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The code exchange of a login.
    AuthorizationCode,
    /// A refresh.
    RefreshToken,
    /// A service's own grant.
    ClientCredentials,
    /// A person's password, for tests.
    Password,
}

impl Grant {
    /// The grant of a `grant_type`.
    pub(super) fn named(grant_type: &str) -> Option<Self> {
        Some(match grant_type {
            "authorization_code" => Self::AuthorizationCode,
            "refresh_token" => Self::RefreshToken,
            "client_credentials" => Self::ClientCredentials,
            "password" => Self::Password,
            _ => return None,
        })
    }
}

/// An endpoint, or one grant at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// All requests to this endpoint.
    Endpoint(Endpoint),
    /// Only this grant at the token endpoint.
    Grant(Grant),
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl From<Grant> for Target {
    fn from(grant: Grant) -> Self {
        Self::Grant(grant)
    }
}

impl Target {
    pub(super) fn covers(self, request: &Recorded) -> bool {
        match self {
            Self::Endpoint(endpoint) => request.endpoint == endpoint,
            Self::Grant(grant) => request.grant() == Some(grant),
        }
    }
}
