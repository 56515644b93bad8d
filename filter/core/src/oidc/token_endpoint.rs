//! The token endpoint (RFC 6749 3.2, OIDC Core 3.1.3 and 12): a code or a refresh token in, tokens out.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Dependency, LoginError, Outlook, Rejection, Trouble};
use crate::host::CalloutReply;
use crate::json;
use crate::oidc::answer::{self, NoObject, ProviderEndpoint, Refusal};
use crate::oidc::authorization::redirect_uri;
use crate::oidc::flow::Flow;
use crate::oidc::provider_client::ProviderClient;
use crate::secret::SecretText;
use crate::time::Timestamp;

/// Longest token response, in bytes: enough for three tokens of the maximum length.
const MAX_RESPONSE_LEN: usize = 512 * 1024;
/// Longer lifetimes of access tokens are cut to this, so that the provider is asked at least once a day.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The same for refresh tokens: longer than any session.
const MAX_REFRESH_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// Lifetime of the access token if neither the response nor an ID token gives one.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// Shorter lifetimes are raised to this, so that a session is not refreshed at every request.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// A token response.
pub struct Tokens {
    /// When the response arrived. An ID token is validated for this time, because it may expire while the gate waits
    /// for the keys that verify it.
    pub received: Timestamp,
    /// The ID token, not verified yet. A refresh may return none (OIDC Core 12.2).
    pub id_token: Option<SecretText>,
    /// The access token. Used for UserInfo only, and never passed on.
    pub access_token: SecretText,
    /// The refresh token.
    pub refresh_token: Option<SecretText>,
    /// The lifetime of the access token, if the provider gave one.
    pub expires_in: Option<Duration>,
    /// The lifetime of the refresh token, if the provider gave one (an extension of Keycloak and others).
    pub refresh_expires_in: Option<Duration>,
}

impl Tokens {
    /// When the access token expires, by our clock.
    pub fn access_until(&self, id_token_expires: Option<Timestamp>, asked: Timestamp) -> Timestamp {
        let told = self.expires_in.or_else(|| id_token_expires.map(|expires| expires.duration_since(asked)));
        asked.saturating_add(told.unwrap_or(DEFAULT_LIFETIME).max(MIN_LIFETIME))
    }
}

/// Why a request returned no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The code or refresh token is invalid or expired: `invalid_grant` and other refusals of this request.
    GrantRefused(Rc<str>),
    /// The client may not make this request: the grant type, a scope or an audience is not allowed for it.
    RequestRefused(Rc<str>),
    /// The client id or secret is wrong.
    ClientRefused(Rc<str>),
    /// The reply is not a token response.
    NoTokens(NoTokens),
    /// No reply, or a refusal that says nothing about the code, the refresh token or the client.
    Trouble(Trouble),
}

/// Why a reply with status 200 is not a token response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTokens {
    /// It is not a JSON object.
    #[error(transparent)]
    NoObject(#[from] NoObject),
    /// A member is not a string.
    #[error("{0} is not text")]
    NotText(&'static str),
    /// A required member is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// RFC 6749 7.1: a token of an unknown type must not be used.
    #[error("token_type is not Bearer")]
    NotBearer,
}

/// Exchanges an authorization code.
///
/// # Errors
/// The provider refuses the code or this client, does not answer, or sends something other than a token response.
pub async fn exchange_code(
    client: &ProviderClient,
    code: &SecretText,
    flow: &Flow,
) -> Result<Tokens, Rejection> {
    let redirect_uri = redirect_uri(&client.config);
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", &redirect_uri),
        ("code_verifier", flow.verifier.expose()),
    ];
    request(client, &parameters).await?.map_err(|failure| match failure {
        Failure::GrantRefused(words) => LoginError::CodeRefused(words).into(),
        Failure::ClientRefused(words) | Failure::RequestRefused(words) => {
            LoginError::ClientRefused(words).into()
        }
        Failure::NoTokens(what) => LoginError::TokenResponse(ProviderEndpoint::Token.says(what)).into(),
        Failure::Trouble(trouble) => Dependency::Provider(trouble).into(),
    })
}

/// Redeems a refresh token (RFC 6749 6). `scope` is omitted, which requests the scope that was granted.
///
/// # Errors
/// See [`Failure`].
pub async fn refresh(client: &ProviderClient, refresh_token: &SecretText) -> Result<Tokens, Failure> {
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    request(client, &parameters).await.unwrap_or_else(|rejection| {
        let detail = rejection.detail().unwrap_or_default();
        Err(Failure::Trouble(Trouble {
            outlook: rejection.outlook().unwrap_or(Outlook::Passing),
            detail: detail.into(),
        }))
    })
}

async fn request(
    client: &ProviderClient,
    parameters: &[(&str, &str)],
) -> Result<Result<Tokens, Failure>, Rejection> {
    let known = client.provider.current().await?;
    let endpoint = known.metadata.token_endpoint.as_ref().map_err(Dependency::from)?;
    let callout = client.post(endpoint, parameters);
    Ok(match answer::ask(&*client.host, ProviderEndpoint::Token, callout).await {
        Ok(reply) => parse(&reply, client.host.now()).map_err(Failure::NoTokens),
        Err(refusal) => Err(failure(refusal)),
    })
}

/// RFC 6749 5.1
fn parse(reply: &CalloutReply, received: Timestamp) -> Result<Tokens, NoTokens> {
    let response = answer::object(reply, MAX_RESPONSE_LEN)?;
    // Null and an empty string count as absent.
    let optional = |name: &'static str| match json::string(&response, name) {
        Ok(text) => Ok(text.filter(|text| !text.is_empty()).map(SecretText::new)),
        Err(_) => Err(NoTokens::NotText(name)),
    };
    let required = |name| optional(name)?.ok_or(NoTokens::Missing(name));
    if !required("token_type")?.expose().eq_ignore_ascii_case("bearer") {
        return Err(NoTokens::NotBearer);
    }
    Ok(Tokens {
        received,
        id_token: optional("id_token")?,
        access_token: required("access_token")?,
        refresh_token: optional("refresh_token")?,
        expires_in: lifetime(response.get("expires_in"), MAX_LIFETIME),
        // Zero means that it does not expire (Keycloak, offline access).
        refresh_expires_in: lifetime(response.get("refresh_expires_in"), MAX_REFRESH_LIFETIME)
            .filter(|left| !left.is_zero()),
    })
}

/// In seconds. Some providers send a string. A value that is not a number counts as absent.
fn lifetime(value: Option<&Value>, most: Duration) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds)
        .map_or_else(|_| (seconds > 0.0).then_some(most), |lifetime| Some(lifetime.min(most)))
}

/// RFC 6749 5.2: tells whether the grant, the client or neither was refused.
fn failure(Refusal { status, error, trouble }: Refusal) -> Failure {
    if trouble.outlook == Outlook::Passing {
        return Failure::Trouble(trouble);
    }
    match (status, error.as_deref()) {
        (_, Some("temporarily_unavailable" | "server_error" | "slow_down")) => {
            Failure::Trouble(Trouble::passing(trouble.detail))
        }
        (_, Some("invalid_client" | "unauthorized_client")) => Failure::ClientRefused(trouble.detail),
        (_, Some("unsupported_grant_type" | "invalid_scope" | "invalid_target")) => {
            Failure::RequestRefused(trouble.detail)
        }
        // A widely used provider refuses codes and refresh tokens with status 403 and `invalid_grant`.
        (_, Some("invalid_grant")) | (Some(400 | 401), Some(_)) => Failure::GrantRefused(trouble.detail),
        // A reply of a firewall, a proxy or another server says nothing about the grant.
        _ => Failure::Trouble(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn parse(body: &[u8]) -> Result<Tokens, NoTokens> {
        let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
        super::parse(&CalloutReply { status: 200, headers, body: body.to_vec() }, Timestamp::default())
    }

    #[test]
    fn it22_bearer_in_any_case_and_nothing_else() {
        let body = |token_type: &str| {
            format!(r#"{{"token_type":{token_type},"id_token":"a","access_token":"b"}}"#).into_bytes()
        };
        for good in ["\"Bearer\"", "\"bearer\"", "\"bEARER\""] {
            assert!(parse(&body(good)).is_ok(), "{good}");
        }
        for bad in ["\"mac\"", "\"N_A\"", "\"\"", "null", "1", "[\"Bearer\"]", "\" Bearer\""] {
            assert!(parse(&body(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn it22_odd_lifetimes_are_no_error_and_never_long() {
        for (expires_in, expected) in [
            ("300", Some(300)),
            ("\"300\"", Some(300)),
            ("1e300", Some(86_400)),
            ("99999999", Some(86_400)),
            ("-5", None),
            ("0", Some(0)),
            ("null", None),
            ("[]", None),
            ("\"NaN\"", None),
            ("\"soon\"", None),
        ] {
            let body = format!(
                r#"{{"token_type":"Bearer","access_token":"b","expires_in":{expires_in},"refresh_expires_in":{expires_in}}}"#
            );
            let tokens = parse(body.as_bytes()).unwrap();
            assert_eq!(tokens.expires_in.map(|lifetime| lifetime.as_secs()), expected, "{expires_in}");
            let expected = match expires_in {
                "1e300" => Some(MAX_REFRESH_LIFETIME.as_secs()),
                "99999999" => Some(MAX_REFRESH_LIFETIME.as_secs()),
                _ => expected.filter(|seconds| *seconds > 0),
            };
            assert_eq!(
                tokens.refresh_expires_in.map(|lifetime| lifetime.as_secs()),
                expected,
                "{expires_in}"
            );
        }
    }

    #[test]
    fn it21_whatever_is_no_token_response_is_refused() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "\"x\"",
            "{\"token_type\":\"Bearer\"",
            "<html>",
            "\u{1f}\u{8b}",
            r#"{"token_type":"Bearer","id_token":"a"}"#,
            r#"{"token_type":"Bearer","access_token":"b","refresh_token":["x"]}"#,
            r#"{"token_type":"Bearer","id_token":1,"access_token":"b"}"#,
            r#"{"token_type":"Bearer","id_token":"a","id_token":"b","access_token":"b"}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(&vec![b' '; MAX_RESPONSE_LEN + 1]).is_err());
    }

    #[test]
    fn f402_refusals_of_the_grant_of_us_and_of_neither_are_told_apart() {
        let refusal = |status, error: Option<&str>, outlook| Refusal {
            status: Some(status),
            error: error.map(str::to_owned),
            trouble: Trouble { detail: "x".into(), outlook },
        };
        let lasting = |status, error| failure(refusal(status, error, Outlook::Lasting));
        let grant = Failure::GrantRefused("x".into());
        let client = Failure::ClientRefused("x".into());
        let request = Failure::RequestRefused("x".into());
        for (status, error, expected) in [
            (400, "invalid_grant", &grant),
            (401, "invalid_grant", &grant),
            (403, "invalid_grant", &grant),
            (400, "invalid_request", &grant),
            (400, "invalid_client", &client),
            (401, "invalid_client", &client),
            (403, "invalid_client", &client),
            (400, "unauthorized_client", &client),
            (400, "unsupported_grant_type", &request),
            (400, "invalid_scope", &request),
        ] {
            assert_eq!(lasting(status, Some(error)), *expected, "{status} {error}");
        }
        // None of these ends a session.
        for (status, error) in [
            (400, None),
            (401, None),
            (403, None),
            (403, Some("access_denied")),
            (404, None),
            (404, Some("not_found")),
            (405, None),
            (421, None),
            (302, None),
            (204, None),
        ] {
            assert_eq!(lasting(status, error), Failure::Trouble(Trouble::lasting("x")), "{status} {error:?}");
        }
        let passing = Failure::Trouble(Trouble::passing("x"));
        for error in ["temporarily_unavailable", "server_error", "slow_down"] {
            assert_eq!(lasting(400, Some(error)), passing, "{error}");
        }
        for status in [408, 425, 429, 500, 503] {
            assert_eq!(
                failure(refusal(status, Some("invalid_grant"), Outlook::Passing)),
                passing,
                "{status}"
            );
        }
    }
}
