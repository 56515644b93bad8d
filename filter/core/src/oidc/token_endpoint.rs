//! The token endpoint (RFC 6749 3.2, OIDC Core 3.1.3 and 12): a code or a refresh token in, tokens out.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Dependency, LoginError, Rejection};
use crate::json;
use crate::oidc::authorization::{Flow, redirect_uri};
use crate::oidc::relying_party::RelyingParty;
use crate::oidc::{client, provider};

/// Longest token response, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;
/// A lifetime beyond this is taken for this: the provider is asked again once a day at least.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The same for a refresh token: longer than any session.
const MAX_REFRESH_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the endpoint gave us.
pub struct Tokens {
    /// The ID token, not verified yet; a refresh may come without (OIDC Core 12.2).
    pub id_token: Option<String>,
    /// For UserInfo; never given to anybody else.
    pub access_token: String,
    /// Renews all of this.
    pub refresh_token: Option<String>,
    /// How long the access token lives, when the provider says so.
    pub expires_in: Option<Duration>,
    /// How long the refresh token lives, when the provider says so (an extension of Keycloak and others).
    pub refresh_expires_in: Option<Duration>,
}

/// Why there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The code or refresh token is not good (any more): `invalid_grant` and other refusals of this very request.
    GrantRefused,
    /// Client id or secret are wrong.
    ClientRefused,
    /// Not an answer that a token endpoint gives.
    NoTokens(&'static str),
    /// No answer.
    Away,
}

/// Exchanges an authorization code.
///
/// # Errors
/// The provider refuses the code or us, does not answer, or answers with something that is no token response.
pub async fn exchange_code(rp: &RelyingParty, code: &str, flow: &Flow) -> Result<Tokens, Rejection> {
    let redirect_uri = redirect_uri(rp);
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect_uri),
        ("code_verifier", &flow.verifier),
    ];
    request(rp, &parameters).await?.map_err(|failure| match failure {
        Failure::GrantRefused => LoginError::CodeRefused.into(),
        Failure::ClientRefused => LoginError::ClientRefused.into(),
        Failure::NoTokens(what) => LoginError::TokenResponse(what).into(),
        Failure::Away => Dependency::Provider.into(),
    })
}

/// Spends a refresh token (RFC 6749 6). Without `scope`: what was granted stays granted.
///
/// # Errors
/// See [`Failure`].
pub async fn refresh(rp: &RelyingParty, refresh_token: &str) -> Result<Tokens, Failure> {
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    request(rp, &parameters).await.unwrap_or(Err(Failure::Away))
}

async fn request(
    rp: &RelyingParty,
    parameters: &[(&str, &str)],
) -> Result<Result<Tokens, Failure>, Rejection> {
    let known = rp.provider.current().await?;
    let callout = client::post(rp, &known.metadata.token_endpoint, parameters);
    let Ok(reply) = rp.host.call(callout).await else { return Ok(Err(Failure::Away)) };
    Ok(match reply.status {
        200 if provider::is_json(&reply) => parse(&reply.body),
        200 => Err(Failure::NoTokens("content type is not JSON")),
        400 | 401 => Err(refusal(&reply.body)),
        // Redirects are not followed: the request carries our secret.
        300..=399 => Err(Failure::NoTokens("redirect")),
        201..=299 => Err(Failure::NoTokens("no content")),
        _ => Err(Failure::Away),
    })
}

/// RFC 6749 5.1
fn parse(body: &[u8]) -> Result<Tokens, Failure> {
    let response =
        json::parse_object(body, MAX_RESPONSE_LEN).map_err(|_| Failure::NoTokens("not a JSON object"))?;
    // Null and empty text are ways to write "none".
    let optional = |name: &'static str| match json::string(&response, name) {
        Ok(text) => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
        Err(_) => Err(Failure::NoTokens("a member has the wrong type")),
    };
    let required = |name| optional(name)?.ok_or(Failure::NoTokens("a member is missing"));
    // RFC 6749 7.1: a type that we don't understand must not be used.
    if !required("token_type")?.eq_ignore_ascii_case("bearer") {
        return Err(Failure::NoTokens("token_type is not Bearer"));
    }
    Ok(Tokens {
        id_token: optional("id_token")?,
        access_token: required("access_token")?,
        refresh_token: optional("refresh_token")?,
        expires_in: lifetime(response.get("expires_in"), MAX_LIFETIME),
        // Zero: it does not end (Keycloak, offline access).
        refresh_expires_in: lifetime(response.get("refresh_expires_in"), MAX_REFRESH_LIFETIME)
            .filter(|left| !left.is_zero()),
    })
}

/// Seconds. Providers have been seen to send them as text; what is no number says nothing.
fn lifetime(value: Option<&Value>, most: Duration) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds)
        .map_or_else(|_| (seconds > 0.0).then_some(most), |lifetime| Some(lifetime.min(most)))
}

/// RFC 6749 5.2: the grant, or we ourselves.
fn refusal(body: &[u8]) -> Failure {
    let error = json::parse_object(body, MAX_RESPONSE_LEN).ok();
    match error.as_ref().and_then(|error| error.get("error")).and_then(Value::as_str) {
        Some("invalid_client" | "unauthorized_client") => Failure::ClientRefused,
        Some("temporarily_unavailable" | "server_error" | "slow_down") => Failure::Away,
        Some(_) => Failure::GrantRefused,
        None => Failure::NoTokens("error without a reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

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
    fn refusals_of_the_grant_and_of_us_are_told_apart() {
        for (body, expected) in [
            (r#"{"error":"invalid_grant"}"#, Failure::GrantRefused),
            (r#"{"error":"invalid_request"}"#, Failure::GrantRefused),
            (r#"{"error":"invalid_client"}"#, Failure::ClientRefused),
            (r#"{"error":"unauthorized_client"}"#, Failure::ClientRefused),
            (r#"{"error":"temporarily_unavailable"}"#, Failure::Away),
            ("<html>", Failure::NoTokens("error without a reason")),
        ] {
            assert_eq!(refusal(body.as_bytes()), expected, "{body}");
        }
    }
}
