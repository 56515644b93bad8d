//! The provider's metadata (OIDC Discovery 3, RFC 8414 2), parsed strictly.
//!
//! The document must name exactly the configured issuer, and it must not decide where secrets are sent. So the gate
//! calls an endpoint only in the issuer's origin or in one of `issuer.origins`, and sends browsers only there or to
//! `issuer.allowed_origins`. An endpoint that can't be used affects only the requests that need it.

use serde_json::{Map, Value};
use url::Url;

use crate::config::{Config, Issuer, Login};
use crate::error::{Dependency, Trouble};
use crate::json;
use crate::oidc::answer::ProviderEndpoint;

/// Longest metadata document, in bytes.
pub const MAX_METADATA_LEN: usize = 256 * 1024;

/// The parts of the provider's metadata that the gate needs. An unusable endpoint is stored with the reason, and
/// affects only the features that need it.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The JWK set.
    pub jwks_uri: Called,
    /// Whether every authorization response carries `iss` (RFC 9207 3).
    pub iss_parameter_supported: bool,
    authorization_endpoint: Found<Url>,
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: Found<Called>,
    /// Where claims about the signed-in user are fetched.
    pub userinfo_endpoint: Found<Called>,
    /// Where browsers are sent to sign out (RP-Initiated Logout 1.0 2.1). If there is none, signing out ends only the
    /// session at this gate.
    pub end_session_endpoint: Found<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Found<Called>,
    /// Where tokens are introspected (RFC 7662).
    pub introspection_endpoint: Found<Called>,
    /// Requirements of the authorization request: PKCE with S256, and no pushed requests.
    request: Result<(), MetadataError>,
}

/// An endpoint, or why it can't be used.
type Found<T> = Result<T, MetadataError>;

/// An endpoint that the gate calls itself, with the cluster that serves its origin. Requests to it carry secrets and
/// must not reach another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The endpoint's URL.
    pub url: Url,
    /// The Envoy cluster that serves it.
    pub cluster: String,
}

/// The parts of the metadata that a configuration needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Browser login is configured.
    login: bool,
    /// UserInfo is called after a login.
    userinfo: bool,
    /// Bearer tokens are checked by introspection.
    introspection: bool,
}

impl Needs {
    /// The needs of this configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            login: config.browser.is_some(),
            userinfo: config.browser.as_ref().is_some_and(|browser| browser.login.userinfo),
            introspection: config.bearer.as_ref().is_some_and(|bearer| bearer.check_interval.is_some()),
        }
    }
}

/// Why the metadata, or an endpoint in it, cannot be used; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not a JSON object, or too long.
    #[error("the metadata is not a JSON object ({0})")]
    Json(String),
    /// OIDC Discovery 4.3: must be exactly the configured issuer.
    #[error("the provider's issuer is {found:?}, but issuer.url is {expected:?}; they must be identical")]
    Issuer {
        /// The configured issuer.
        expected: String,
        /// The issuer in the metadata.
        found: String,
    },
    /// A required member is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A member is not a string.
    #[error("{0} is not a string")]
    WrongType(&'static str),
    /// The endpoint is not a URL, is on another origin, or has a scheme, user information or a fragment that is not
    /// allowed.
    #[error("{0} {1:?} is not within the issuer's origin, nor in issuer.origins or issuer.allowed_origins")]
    ForeignEndpoint(&'static str, String),
    /// The origin is allowed for browsers, but no cluster is configured for it.
    #[error("{0} can't be called: its origin {1} has no cluster; add both to issuer.origins")]
    NoCluster(&'static str, String),
    /// RFC 9700 2.1.1: the gate requires PKCE with S256.
    #[error("the provider does not offer PKCE with S256")]
    NoS256,
    /// RFC 9126 5: the gate sends no pushed requests.
    #[error("the provider accepts pushed authorization requests only, which are not supported")]
    PushedOnly,
}

/// Lasts until an administrator or the provider corrects the metadata.
impl From<&MetadataError> for Dependency {
    fn from(error: &MetadataError) -> Self {
        Self::ProviderMetadata(Trouble::lasting(ProviderEndpoint::Discovery.says(error)))
    }
}

impl Metadata {
    /// From the document at `/.well-known/openid-configuration`.
    ///
    /// # Errors
    /// The first problem that makes the whole document unusable.
    pub fn parse(document: &[u8], issuer: &Issuer) -> Result<Self, MetadataError> {
        let document = json::parse_object(document, MAX_METADATA_LEN)
            .map_err(|error| MetadataError::Json(error.to_string()))?;
        let found = text(&document, "issuer").ok_or(MetadataError::Missing("issuer"))?;
        if found != issuer.url {
            let found = found.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(MetadataError::Issuer { expected: issuer.url.clone(), found });
        }
        let endpoint = |name| endpoint(&document, name, issuer);
        let called = |name| called(name, endpoint(name)?, issuer);
        Ok(Self {
            jwks_uri: called("jwks_uri")?,
            iss_parameter_supported: flag(&document, "authorization_response_iss_parameter_supported"),
            authorization_endpoint: endpoint("authorization_endpoint"),
            token_endpoint: called("token_endpoint"),
            userinfo_endpoint: called("userinfo_endpoint"),
            end_session_endpoint: endpoint("end_session_endpoint"),
            revocation_endpoint: called("revocation_endpoint"),
            introspection_endpoint: called("introspection_endpoint"),
            request: request(&document),
        })
    }

    /// The authorization endpoint, if a login with this configuration can be completed.
    ///
    /// # Errors
    /// The first problem that prevents a login.
    pub fn login(&self, login: &Login) -> Result<&Url, &MetadataError> {
        self.request.as_ref()?;
        self.token_endpoint.as_ref()?;
        if login.userinfo {
            self.userinfo_endpoint.as_ref()?;
        }
        self.authorization_endpoint.as_ref()
    }

    /// What the configuration needs and cannot use, each with its effect.
    pub fn missing(&self, needs: Needs) -> Vec<String> {
        const NO_LOGIN: &str = "nobody can sign in";
        let needed = [
            (needs.login, self.request.as_ref().err(), NO_LOGIN),
            (needs.login, self.authorization_endpoint.as_ref().err(), NO_LOGIN),
            (needs.login, self.token_endpoint.as_ref().err(), NO_LOGIN),
            (needs.userinfo, self.userinfo_endpoint.as_ref().err(), NO_LOGIN),
            (
                needs.introspection,
                self.introspection_endpoint.as_ref().err(),
                "no bearer token can be checked",
            ),
        ];
        let missing = needed.into_iter().filter(|(is_needed, ..)| *is_needed);
        missing.filter_map(|(_, problem, effect)| Some(format!("{}: {effect}", problem?))).collect()
    }

    /// Members that are present but unusable, and that the configuration does not need.
    pub fn ignored(&self, needs: Needs) -> Vec<String> {
        const UNUSED: &str = "this configuration does not use it";
        let [sign_out, revocation] = match needs.login {
            true => ["sign-out ends only the session at this gate", "sign-out revokes no token"],
            false => [UNUSED; 2],
        };
        let unneeded = [
            (!needs.login, self.authorization_endpoint.as_ref().err(), UNUSED),
            (!needs.login, self.token_endpoint.as_ref().err(), UNUSED),
            (!needs.userinfo, self.userinfo_endpoint.as_ref().err(), UNUSED),
            (!needs.introspection, self.introspection_endpoint.as_ref().err(), UNUSED),
            (true, self.end_session_endpoint.as_ref().err(), sign_out),
            (true, self.revocation_endpoint.as_ref().err(), revocation),
        ];
        let ignored = unneeded.into_iter().filter_map(|(is_unneeded, problem, effect)| match problem? {
            MetadataError::Missing(_) => None,
            problem => is_unneeded.then(|| format!("{problem}; it is ignored: {effect}")),
        });
        ignored.collect()
    }
}

fn text<'a>(document: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    document.get(name).and_then(Value::as_str)
}

fn flag(document: &Map<String, Value>, name: &str) -> bool {
    document.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// RFC 9700 2.1.1: PKCE with S256 is required. RFC 9126 5: pushed authorization requests are not supported.
fn request(document: &Map<String, Value>) -> Result<(), MetadataError> {
    let has_s256 = |methods: &Value| {
        methods.as_array().is_some_and(|methods| methods.iter().any(|method| method == "S256"))
    };
    if json::member(document, "code_challenge_methods_supported").is_some_and(|methods| !has_s256(methods)) {
        return Err(MetadataError::NoS256);
    }
    if flag(document, "require_pushed_authorization_requests") {
        return Err(MetadataError::PushedOnly);
    }
    Ok(())
}

/// The endpoint must be on the issuer's own origin or on one that the operator allowed: the metadata must not choose
/// where secrets are sent. Null and an empty string count as absent.
fn endpoint(document: &Map<String, Value>, name: &'static str, issuer: &Issuer) -> Found<Url> {
    let value = json::member(document, name).filter(|value| *value != "");
    let text = value.ok_or(MetadataError::Missing(name))?.as_str().ok_or(MetadataError::WrongType(name))?;
    let foreign =
        || MetadataError::ForeignEndpoint(name, text.chars().filter(|c| !c.is_control()).take(200).collect());
    let url = Url::parse(text).map_err(|_| foreign())?;
    let allowed = cluster(&url, issuer).is_some()
        || issuer.allowed_origins.contains(&url.origin().ascii_serialization());
    let clean = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if allowed && clean && matches!(url.scheme(), "https" | "http") { Ok(url) } else { Err(foreign()) }
}

/// Adds the cluster that serves the URL's origin. Another cluster would reach another host, and the request carries a
/// code, a token or the client secret.
fn called(name: &'static str, url: Url, issuer: &Issuer) -> Found<Called> {
    match cluster(&url, issuer) {
        Some(cluster) => Ok(Called { cluster: cluster.to_owned(), url }),
        None => Err(MetadataError::NoCluster(name, url.origin().ascii_serialization())),
    }
}

/// The cluster that serves the origin of `url`.
fn cluster<'a>(url: &Url, issuer: &'a Issuer) -> Option<&'a str> {
    if url.origin() == issuer.parsed.origin() {
        return Some(&issuer.cluster);
    }
    let origin = url.origin().ascii_serialization();
    issuer.origins.iter().find(|served| served.origin == origin).map(|served| served.cluster.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServedOrigin;
    use crate::jose::mark::AccessTokenMark;
    use crate::testing::test;
    use serde_json::json;
    use std::time::Duration;

    const ALL: Needs = Needs { login: true, userinfo: true, introspection: true };
    const NOTHING: Needs = Needs { login: false, userinfo: false, introspection: false };

    fn login() -> Login {
        Login { userinfo: true, ..crate::testing::config::config().browser.unwrap().login }
    }

    fn issuer() -> Issuer {
        let url = "https://idp.example/realms/mlflow".to_owned();
        Issuer {
            parsed: Url::parse(&url).unwrap(),
            url,
            cluster: "keycloak".into(),
            origins: vec![ServedOrigin { origin: "https://keys.example".into(), cluster: "keys".into() }],
            allowed_origins: vec!["https://login.example".into()],
            timeout: Duration::from_secs(5),
            startup_wait: Duration::from_secs(5),
            refresh_interval: Duration::from_secs(300),
            max_stale: Duration::from_secs(3600),
            access_token_marks: AccessTokenMark::defaults(),
        }
    }

    fn parse(changes: Value) -> Result<Metadata, MetadataError> {
        let mut document = json!({
            "issuer": "https://idp.example/realms/mlflow",
            "authorization_endpoint": "https://idp.example/realms/mlflow/protocol/openid-connect/auth",
            "token_endpoint": "https://idp.example/realms/mlflow/protocol/openid-connect/token",
            "jwks_uri": "https://idp.example/realms/mlflow/protocol/openid-connect/certs",
            "userinfo_endpoint": "https://idp.example/realms/mlflow/protocol/openid-connect/userinfo",
            "introspection_endpoint": "https://idp.example/realms/mlflow/protocol/openid-connect/introspect",
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        Metadata::parse(document.to_string().as_bytes(), &issuer())
    }

    #[test]
    fn good_metadata_is_accepted() {
        assert!(parse(json!({"code_challenge_methods_supported": ["plain", "S256"]})).is_ok());
    }

    #[test]
    fn f702_what_is_called_has_the_cluster_of_its_origin_or_is_not_called() {
        let keys = parse(json!({"jwks_uri": "https://KEYS.example:443/certs"})).unwrap().jwks_uri;
        assert_eq!((keys.url.as_str(), keys.cluster.as_str()), ("https://keys.example/certs", "keys"));
        let own = parse(json!({})).unwrap();
        assert_eq!(own.jwks_uri.cluster, "keycloak");
        assert!(
            [
                own.token_endpoint.as_ref(),
                own.userinfo_endpoint.as_ref(),
                own.introspection_endpoint.as_ref()
            ]
            .iter()
            .all(|endpoint| endpoint.unwrap().cluster == "keycloak")
        );

        // Browsers may be sent there, but the gate has no cluster to reach it.
        let elsewhere = "https://login.example/x";
        let no_cluster = |name| MetadataError::NoCluster(name, "https://login.example".into());
        assert_eq!(parse(json!({"jwks_uri": elsewhere})).unwrap_err(), no_cluster("jwks_uri"));
        for name in ["token_endpoint", "userinfo_endpoint"] {
            let metadata = parse(json!({name: elsewhere})).unwrap();
            assert_eq!(metadata.login(&login()), Err(&no_cluster(name)));
            let said = format!(
                "{name} can't be called: its origin https://login.example has no cluster; add both to issuer.origins: \
                 nobody can sign in"
            );
            assert_eq!(metadata.missing(ALL), [said]);
        }
        let metadata = parse(json!({
            "introspection_endpoint": elsewhere, "revocation_endpoint": elsewhere,
            "authorization_endpoint": elsewhere, "end_session_endpoint": elsewhere,
        }))
        .unwrap();
        assert_eq!(metadata.introspection_endpoint.as_ref(), Err(&no_cluster("introspection_endpoint")));
        assert_eq!(metadata.revocation_endpoint.as_ref().ok(), None);
        assert_eq!(metadata.login(&login()).map(Url::as_str), Ok(elsewhere));
        assert_eq!(metadata.end_session_endpoint.as_ref().ok().map(Url::as_str), Some(elsewhere));
        assert_eq!(metadata.missing(ALL).len(), 1);
        assert!(metadata.ignored(ALL)[0].starts_with("revocation_endpoint can't be called: its origin"));
    }

    #[test]
    fn jw01_it27_the_issuer_must_be_equal_to_the_letter() {
        for found in [
            "https://idp.example/realms/mlflow/",
            "https://IDP.example/realms/mlflow",
            "http://idp.example/realms/mlflow",
            "https://idp.example:443/realms/mlflow",
            "https://idp.example/realms",
            "https://\u{456}dp.example/realms/mlflow",
        ] {
            assert!(matches!(parse(json!({"issuer": found})), Err(MetadataError::Issuer { .. })), "{found}");
        }
        assert_eq!(parse(json!({"issuer": 1})).unwrap_err(), MetadataError::Missing("issuer"));
    }

    #[test]
    fn jw02_endpoints_elsewhere_are_refused() {
        for url in [
            "https://evil.example/token",
            "http://idp.example/token",
            "https://user:pw@idp.example/token",
            "https://idp.example/token#x",
            "file:///etc/passwd",
            "https://idp.example:8443/token",
            "//idp.example/x",
            "/token",
            "javascript:alert(1)",
            "https://idp.example.evil.example/token",
        ] {
            let error = parse(json!({"jwks_uri": url})).unwrap_err();
            assert!(matches!(error, MetadataError::ForeignEndpoint("jwks_uri", _)), "{url}");
            for name in ["token_endpoint", "authorization_endpoint", "userinfo_endpoint"] {
                let metadata = parse(json!({name: url})).unwrap();
                let error = metadata.login(&login()).unwrap_err();
                assert!(
                    matches!(error, MetadataError::ForeignEndpoint(found, _) if *found == name),
                    "{name} {url}"
                );
                assert!(metadata.missing(ALL)[0].contains(name), "{name} {url}");
            }
            let metadata = parse(json!({
                "end_session_endpoint": url, "revocation_endpoint": url, "introspection_endpoint": url,
            }));
            let metadata = metadata.unwrap();
            assert_eq!(
                (metadata.end_session_endpoint.as_ref().ok(), metadata.revocation_endpoint.as_ref().ok()),
                (None, None),
                "{url}"
            );
            assert!(metadata.introspection_endpoint.as_ref().is_err(), "{url}");
        }
    }

    #[test]
    fn what_we_cannot_do_without_is_asked_for() {
        assert_eq!(parse(json!({"jwks_uri": []})).unwrap_err(), MetadataError::WrongType("jwks_uri"));
        for (changes, expected) in [
            (json!({"token_endpoint": null}), MetadataError::Missing("token_endpoint")),
            (json!({"token_endpoint": ""}), MetadataError::Missing("token_endpoint")),
            (json!({"token_endpoint": 7}), MetadataError::WrongType("token_endpoint")),
            (json!({"userinfo_endpoint": null}), MetadataError::Missing("userinfo_endpoint")),
            (json!({"code_challenge_methods_supported": ["plain"]}), MetadataError::NoS256),
            (json!({"code_challenge_methods_supported": "S256"}), MetadataError::NoS256),
            (json!({"require_pushed_authorization_requests": true}), MetadataError::PushedOnly),
        ] {
            let metadata = parse(changes.clone()).unwrap();
            assert_eq!(metadata.login(&login()), Err(&expected), "{changes}");
            assert_eq!(metadata.missing(ALL), [format!("{expected}: nobody can sign in")], "{changes}");
            assert_eq!(metadata.missing(NOTHING), [""; 0], "{changes}");
        }
        assert!(parse(json!({"code_challenge_methods_supported": null})).unwrap().login(&login()).is_ok());
    }

    #[test]
    fn f201_what_the_configuration_does_not_use_is_only_spoken_of() {
        let elsewhere = "https://elsewhere.example/x";
        let metadata = parse(json!({
            "authorization_endpoint": "urn:none", "token_endpoint": 7, "userinfo_endpoint": elsewhere,
            "end_session_endpoint": elsewhere, "revocation_endpoint": "", "introspection_endpoint": null,
        }))
        .unwrap();
        assert_eq!(metadata.missing(NOTHING), [""; 0]);
        let ignored = metadata.ignored(NOTHING);
        assert_eq!(ignored.len(), 4, "{ignored:#?}");
        assert!(
            ignored.iter().all(|line| line.ends_with("it is ignored: this configuration does not use it"))
        );
        let needs = Needs { userinfo: false, introspection: false, ..ALL };
        let ignored = metadata.ignored(needs);
        assert_eq!(ignored.len(), 2, "{ignored:#?}");
        assert!(ignored[0].starts_with("userinfo_endpoint \"https://elsewhere.example/x\" is not within"));
        assert!(ignored[1].ends_with("sign-out ends only the session at this gate"), "{ignored:#?}");
        let missing = metadata.missing(needs);
        assert_eq!(missing.len(), 2, "{missing:#?}");
    }
}
