//! A configuration as it is after reading, for tests to change.

use std::time::Duration;

use url::Url;
use vec1::vec1;

use crate::config::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::mark::AccessTokenMark;
use crate::secret::Secret;

pub const ISSUER: &str = "https://idp.example/realms/mlflow";
pub const REDIS_PASSWORD: &str = "redis-s3cret";

pub fn config() -> Config {
    Config {
        public_url: PublicUrl {
            origin: "https://mlflow.example".into(),
            authority: "mlflow.example".into(),
            secure_cookies: true,
        },
        issuer: Issuer {
            url: ISSUER.into(),
            parsed: Url::parse(ISSUER).unwrap(),
            cluster: "keycloak".into(),
            origins: vec![],
            allowed_origins: vec![],
            timeout: Duration::from_secs(5),
            startup_wait: Duration::from_secs(5),
            refresh_interval: Duration::from_secs(300),
            max_stale: Duration::from_secs(86_400),
            access_token_marks: AccessTokenMark::defaults(),
        },
        client: Client {
            id: "mlflow".into(),
            secret: Some(Secret::new("client-s3cret+%")),
            authentication: ClientAuthentication::ClientSecretBasic,
        },
        browser: Some(BrowserLogin {
            login: Login {
                scope: "openid profile email".into(),
                userinfo: false,
                timeout: Duration::from_secs(600),
                id_token_algorithms: vec1![Algorithm::Rs256],
                trusted_audiences: vec![],
                logout_return_urls: vec![],
                keep_fragment: false,
            },
            session: Session {
                keys: vec1![Secret::new(*b"0123456789abcdefghijklmnopqrstuv")],
                idle_timeout: Duration::from_secs(3600),
                absolute_timeout: Duration::from_secs(12 * 3600),
                cache_ttl: Duration::from_secs(5),
                refresh_ahead: Duration::from_secs(30),
                check_interval: None,
                without_refresh_token: WithoutRefreshToken::End,
                cookie_name: "oidc-gate".into(),
                redis: Redis {
                    cluster: "redis".into(),
                    nodes: None,
                    username: None,
                    password: Some(Secret::new(REDIS_PASSWORD)),
                    prefix: "mlflow".into(),
                    timeout: Duration::from_secs(2),
                },
            },
        }),
        bearer: Some(Bearer {
            audiences: vec1!["mlflow".into()],
            algorithms: vec1![Algorithm::Rs256, Algorithm::Es256],
            max_lifetime: None,
            check_interval: None,
            basic: false,
        }),
        groups: Groups { claim: vec!["groups".into()], format: GroupsFormat::List },
        identity: Identity {
            email_verified: EmailVerified::Optional,
            trusted_headers: vec![],
            assertion: None,
        },
        policy: Policy {
            preset: None,
            static_prefix: String::new(),
            admins: vec!["mlflow_admins".into()],
            users: vec!["mlflow_users".into()],
            viewers: vec![],
            rules: vec![],
        },
        clock_leeway: Duration::from_secs(60),
        limits: Limits::default(),
        warnings: vec![],
    }
}
