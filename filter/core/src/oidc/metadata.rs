//! The provider's metadata (OIDC Discovery 3, RFC 8414 2): parsed strictly, and trusted only within its own origin.

use serde_json::{Map, Value};
use url::Url;

use crate::config::Issuer;
use crate::json;

/// Longest metadata document, in bytes.
pub const MAX_METADATA_LEN: usize = 256 * 1024;

/// What the gate needs to know of the provider.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Where browsers are sent to sign in.
    pub authorization_endpoint: Url,
    /// Where codes are exchanged.
    pub token_endpoint: Url,
    /// Where the keys are.
    pub jwks_uri: Url,
    /// Claims about the signed-in person.
    pub userinfo_endpoint: Option<Url>,
    /// Where browsers are sent to sign out (RP-Initiated Logout 1.0 2.1).
    pub end_session_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where the provider is asked about tokens (RFC 7662).
    pub introspection_endpoint: Option<Url>,
    /// Whether every authorization response carries `iss` (RFC 9207 3).
    pub iss_parameter_supported: bool,
}

/// Why the metadata can't be used; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not a JSON object, or too long.
    #[error("the metadata is no JSON object ({0})")]
    Json(String),
    /// OIDC Discovery 4.3: must be exactly the configured issuer.
    #[error(
        "the provider calls itself {found:?}, but issuer.url is {expected:?}; they must be equal to the letter \
         (Keycloak: set KC_HOSTNAME)"
    )]
    Issuer {
        /// As configured.
        expected: String,
        /// As the provider says.
        found: String,
    },
    /// Missing, or of the wrong type.
    #[error("{0} is missing or not a string")]
    Missing(&'static str),
    /// On another host, without TLS, or with parts that no endpoint has.
    #[error("{0} {1:?} is not within the issuer's origin, nor in issuer.allowed_origins")]
    ForeignEndpoint(&'static str, String),
    /// PKCE with S256 is not optional for us.
    #[error("the provider does not offer PKCE with S256")]
    NoS256,
    /// RFC 9126 5: we do not push.
    #[error("the provider accepts pushed authorization requests only, which are not supported")]
    PushedOnly,
}

impl Metadata {
    /// From the document at `/.well-known/openid-configuration`.
    ///
    /// # Errors
    /// The first thing that keeps us from using it.
    pub fn parse(document: &[u8], issuer: &Issuer) -> Result<Self, MetadataError> {
        let document = json::parse_object(document, MAX_METADATA_LEN)
            .map_err(|error| MetadataError::Json(error.to_string()))?;
        let found = text(&document, "issuer").ok_or(MetadataError::Missing("issuer"))?;
        if found != issuer.url {
            let found = found.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(MetadataError::Issuer { expected: issuer.url.clone(), found });
        }
        let required = |name| endpoint(&document, name, issuer)?.ok_or(MetadataError::Missing(name));
        let methods = document.get("code_challenge_methods_supported");
        if methods.is_some_and(|methods| {
            !methods.as_array().is_some_and(|list| list.iter().any(|method| method == "S256"))
        }) {
            return Err(MetadataError::NoS256);
        }
        if flag(&document, "require_pushed_authorization_requests") {
            return Err(MetadataError::PushedOnly);
        }
        Ok(Self {
            authorization_endpoint: required("authorization_endpoint")?,
            token_endpoint: required("token_endpoint")?,
            jwks_uri: required("jwks_uri")?,
            userinfo_endpoint: endpoint(&document, "userinfo_endpoint", issuer)?,
            end_session_endpoint: endpoint(&document, "end_session_endpoint", issuer)?,
            // Nobody needs them to sign in: where they lie elsewhere, they are not used.
            revocation_endpoint: endpoint(&document, "revocation_endpoint", issuer).ok().flatten(),
            introspection_endpoint: endpoint(&document, "introspection_endpoint", issuer).ok().flatten(),
            iss_parameter_supported: flag(&document, "authorization_response_iss_parameter_supported"),
        })
    }
}

fn text<'a>(document: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    document.get(name).and_then(Value::as_str)
}

fn flag(document: &Map<String, Value>, name: &str) -> bool {
    document.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// An endpoint must lie on the issuer's own origin, or on one that the operator allowed: metadata must not choose
/// where secrets are sent.
fn endpoint(
    document: &Map<String, Value>,
    name: &'static str,
    issuer: &Issuer,
) -> Result<Option<Url>, MetadataError> {
    let Some(value) = document.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.as_str().ok_or(MetadataError::Missing(name))?;
    let foreign =
        || MetadataError::ForeignEndpoint(name, text.chars().filter(|c| !c.is_control()).take(200).collect());
    let url = Url::parse(text).map_err(|_| foreign())?;
    let origin = url.origin();
    let allowed = origin == issuer.parsed.origin()
        || issuer.allowed_origins.iter().any(|allowed| *allowed == origin.ascii_serialization());
    let clean = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if allowed && clean && matches!(url.scheme(), "https" | "http") { Ok(Some(url)) } else { Err(foreign()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn issuer() -> Issuer {
        let url = "https://idp.example/realms/mlflow".to_owned();
        Issuer {
            parsed: Url::parse(&url).unwrap(),
            url,
            cluster: "keycloak".into(),
            allowed_origins: vec!["https://keys.example".into()],
            timeout: Duration::from_secs(5),
            startup_wait: Duration::from_secs(5),
            refresh_interval: Duration::from_secs(300),
            max_stale: Duration::from_secs(3600),
            access_token_marks: vec![],
        }
    }

    fn parse(changes: Value) -> Result<Metadata, MetadataError> {
        let mut document = json!({
            "issuer": "https://idp.example/realms/mlflow",
            "authorization_endpoint": "https://idp.example/realms/mlflow/protocol/openid-connect/auth",
            "token_endpoint": "https://idp.example/realms/mlflow/protocol/openid-connect/token",
            "jwks_uri": "https://idp.example/realms/mlflow/protocol/openid-connect/certs",
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        Metadata::parse(document.to_string().as_bytes(), &issuer())
    }

    #[test]
    fn good_metadata_is_accepted() {
        assert!(parse(json!({"code_challenge_methods_supported": ["plain", "S256"]})).is_ok());
        assert!(parse(json!({"jwks_uri": "https://keys.example/certs"})).is_ok(), "allowed origin");
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
            for name in ["token_endpoint", "authorization_endpoint", "jwks_uri", "end_session_endpoint"] {
                let error = parse(json!({name: url})).unwrap_err();
                assert!(
                    matches!(error, MetadataError::ForeignEndpoint(found, _) if found == name),
                    "{name} {url}"
                );
            }
        }
    }

    #[test]
    fn what_we_cannot_do_without_is_asked_for() {
        assert_eq!(
            parse(json!({"token_endpoint": null})).unwrap_err(),
            MetadataError::Missing("token_endpoint")
        );
        assert_eq!(parse(json!({"jwks_uri": []})).unwrap_err(), MetadataError::Missing("jwks_uri"));
        assert_eq!(
            parse(json!({"code_challenge_methods_supported": ["plain"]})).unwrap_err(),
            MetadataError::NoS256
        );
        let pushed = json!({"require_pushed_authorization_requests": true});
        assert_eq!(parse(pushed).unwrap_err(), MetadataError::PushedOnly);
    }
}
