//! The token endpoint (RFC 6749 3.2, OIDC Core 3.1.3): code in, tokens out.

use serde_json::Value;

use crate::config::ClientAuthentication;
use crate::encoding::base64;
use crate::error::{Dependency, LoginError, Rejection};
use crate::json;
use crate::oidc::authorization::{Flow, redirect_uri};
use crate::oidc::provider;
use crate::oidc::relying_party::RelyingParty;

/// Longest token response, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;

/// What the endpoint gave us.
pub struct Tokens {
    /// The ID token, not verified yet.
    pub id_token: String,
    /// For UserInfo; never given to anybody else.
    pub access_token: String,
}

/// Exchanges an authorization code.
///
/// # Errors
/// The provider refuses the code or us, does not answer, or answers with something that is no token response.
pub async fn exchange_code(rp: &RelyingParty, code: &str, flow: &Flow) -> Result<Tokens, Rejection> {
    let known = rp.provider.current().await?;
    let client = &rp.config.client;
    let secret = client.secret.as_ref().and_then(|secret| secret.expose_str()).unwrap_or_default();
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", &redirect_uri(rp))
        .append_pair("code_verifier", &flow.verifier);
    if client.authentication == ClientAuthentication::Post {
        form.append_pair("client_id", &client.id).append_pair("client_secret", secret);
    }
    let body = form.finish().into_bytes();
    let mut callout = provider::callout(&rp.config.issuer, "POST", &known.metadata.token_endpoint, body);
    callout.headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    if client.authentication == ClientAuthentication::Basic {
        // RFC 6749 2.3.1: id and secret are form-encoded before they are joined.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let credentials = base64(format!("{}:{}", encoded(&client.id), encoded(secret)).as_bytes());
        callout.headers.push(("authorization".to_owned(), format!("Basic {credentials}")));
    }
    let reply = rp.host.call(callout).await.map_err(|_| Dependency::Provider)?;
    match reply.status {
        200 if provider::is_json(&reply) => Ok(parse(&reply.body)?),
        200 => Err(LoginError::TokenResponse("content type is not JSON").into()),
        400 | 401 => Err(refusal(&reply.body).into()),
        // Redirects are not followed: the request carries our secret.
        300..=399 => Err(LoginError::TokenResponse("redirect").into()),
        201..=299 => Err(LoginError::TokenResponse("no content").into()),
        _ => Err(Dependency::Provider.into()),
    }
}

/// RFC 6749 5.1
fn parse(body: &[u8]) -> Result<Tokens, LoginError> {
    let response = json::parse_object(body, MAX_RESPONSE_LEN)
        .map_err(|_| LoginError::TokenResponse("not a JSON object"))?;
    let text = |name: &'static str| match response.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(LoginError::TokenResponse("a member has the wrong type")),
        None => Err(LoginError::TokenResponse("a member is missing")),
    };
    // RFC 6749 7.1: a type that we don't understand must not be used.
    if !text("token_type")?.eq_ignore_ascii_case("bearer") {
        return Err(LoginError::TokenResponse("token_type is not Bearer"));
    }
    // `expires_in` is not looked at: a session's limits are our own.
    Ok(Tokens { id_token: text("id_token")?, access_token: text("access_token")? })
}

/// RFC 6749 5.2: the code, or we ourselves.
fn refusal(body: &[u8]) -> LoginError {
    let error = json::parse_object(body, MAX_RESPONSE_LEN).ok();
    match error.as_ref().and_then(|error| error.get("error")).and_then(Value::as_str) {
        Some("invalid_grant") => LoginError::CodeRefused,
        Some("invalid_client" | "unauthorized_client") => LoginError::ClientRefused,
        Some(_) => LoginError::TokenResponse("refused"),
        None => LoginError::TokenResponse("error without a reason"),
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
    fn it22_no_expires_in_is_an_error_or_a_lifetime() {
        for expires_in in ["300", "\"300\"", "1e300", "-5", "0", "null", "[]"] {
            let body = format!(
                r#"{{"token_type":"Bearer","id_token":"a","access_token":"b","expires_in":{expires_in}}}"#
            );
            // 1e300 is a number that we never look at; only JSON that is none is refused.
            assert!(parse(body.as_bytes()).is_ok(), "{expires_in}");
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
            r#"{"token_type":"Bearer","access_token":"b"}"#,
            r#"{"token_type":"Bearer","id_token":1,"access_token":"b"}"#,
            r#"{"token_type":"Bearer","id_token":"a","id_token":"b","access_token":"b"}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(&vec![b' '; MAX_RESPONSE_LEN + 1]).is_err());
    }

    #[test]
    fn refusals_of_the_code_and_of_us_are_told_apart() {
        assert!(matches!(refusal(br#"{"error":"invalid_grant"}"#), LoginError::CodeRefused));
        assert!(matches!(refusal(br#"{"error":"invalid_client"}"#), LoginError::ClientRefused));
        assert!(matches!(refusal(br#"{"error":"unauthorized_client"}"#), LoginError::ClientRefused));
        assert!(matches!(refusal(b"<html>"), LoginError::TokenResponse(_)));
    }
}
