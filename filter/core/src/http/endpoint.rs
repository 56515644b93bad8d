//! The gate's own endpoints.

use crate::methods::Method;

/// One of the gate's own endpoints. Everything about it that does not need its handler is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Begins a login.
    Login,
    /// The redirect URI (OIDC Core 3.1.2.5).
    Callback,
    /// Signs out.
    Logout,
    /// Where the provider sends browsers after it ended its session.
    SignedOut,
    /// The account page.
    Account,
    /// Ends one of a person's sessions, or all of them.
    AccountSignOut,
    /// The script that MLflow's page loads. Only with the preset for MLflow.
    MlflowScript,
    /// Where logout tokens arrive (OpenID Connect Back-Channel Logout 1.0).
    BackChannelLogout,
    /// Keycloak's administrative callback: everybody, or some sessions, were logged out.
    AdminLogout,
    /// Keycloak's administrative callback: what was issued before a moment is void.
    AdminNotBefore,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Login,
        Self::Callback,
        Self::Logout,
        Self::SignedOut,
        Self::Account,
        Self::AccountSignOut,
        Self::MlflowScript,
        Self::BackChannelLogout,
        Self::AdminLogout,
        Self::AdminNotBefore,
    ];

    /// The endpoint with this path, exactly as it was sent (CB15).
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Login => "/oauth2/login",
            Self::Callback => "/oauth2/callback",
            Self::Logout => "/oauth2/logout",
            Self::SignedOut => "/oauth2/signed-out",
            Self::Account => "/oauth2/account",
            Self::AccountSignOut => "/oauth2/account/sign-out",
            Self::MlflowScript => "/oauth2/mlflow.js",
            Self::BackChannelLogout => "/oauth2/backchannel-logout",
            Self::AdminLogout => "/oauth2/k_logout",
            Self::AdminNotBefore => "/oauth2/k_push_not_before",
        }
    }

    /// Its methods, in the order of an `Allow` header.
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::Login | Self::SignedOut | Self::Account | Self::MlflowScript => {
                &[Method::Get, Method::Head]
            }
            Self::Callback => &[Method::Get],
            Self::Logout => &[Method::Get, Method::Post],
            Self::AccountSignOut | Self::BackChannelLogout | Self::AdminLogout | Self::AdminNotBefore => {
                &[Method::Post]
            }
        }
    }

    /// Whether it reads the body of a POST.
    pub const fn reads_body(self) -> bool {
        matches!(self, Self::BackChannelLogout | Self::AdminLogout | Self::AdminNotBefore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn cb15_an_endpoint_is_its_path_and_nothing_like_it() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::at(endpoint.path()), Some(endpoint));
            for other in ["{}/", "{}?", "/{}", "{}%20", "{};x"] {
                assert_eq!(Endpoint::at(&other.replace("{}", endpoint.path())), None, "{other} {endpoint:?}");
            }
            assert!(endpoint.path().starts_with("/oauth2/"), "no rule can be about it");
            assert!(!endpoint.reads_body() || endpoint.methods() == [Method::Post]);
        }
        assert!(Endpoint::Login.methods().contains(&Method::Head));
        assert!(!Endpoint::Callback.methods().contains(&Method::Head));
    }
}
