//! The tables of forged tokens: a simple implementation of the rules accepts the correct token and none of the others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::forgeries::{Wrong, wrong_callbacks, wrong_logout_tokens};
use oidc_gate_testkit::provider::{Callback, Forgery, Provider};
use serde_json::{Map, Value};

use crate::support::{provider, text, tokens};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

#[test]
fn only_the_right_logout_token_is_right() {
    let provider = provider();
    let tokens = tokens(&provider, &Client::new(), "mlflow_user");
    let sid = text(&tokens, "session_state");
    let mint = |forgery: &Forgery| provider.logout_token(sid, forgery);
    assert_only_right(wrong_logout_tokens(&provider), mint, |token| is_logout_token(&provider, token));
    for other in ["id_token", "access_token", "refresh_token"] {
        assert!(!is_logout_token(&provider, text(&tokens, other)), "{other}");
    }
}

#[test]
fn only_the_right_callback_is_right() {
    let provider = provider();
    for callback in [Callback::LogOut, Callback::PushNotBefore] {
        let mint = |forgery: &Forgery| provider.callback(callback, provider.now(), forgery);
        assert_only_right(wrong_callbacks(&provider), mint, |token| is_callback(&provider, callback, token));
    }
    let of_the_other_path = provider.callback(Callback::PushNotBefore, 0, &Forgery::new());
    assert!(!is_callback(&provider, Callback::LogOut, &of_the_other_path));
}

fn assert_only_right(table: Vec<Wrong>, mint: impl Fn(&Forgery) -> String, is_right: impl Fn(&str) -> bool) {
    assert!(is_right(&mint(&Forgery::new())));
    let mut names = std::collections::HashSet::new();
    for (name, forgery) in table {
        assert!(names.insert(name), "{name} is there twice");
        assert!(!is_right(&mint(&forgery)), "{name} is not wrong");
    }
}

fn is_logout_token(provider: &Provider, token: &str) -> bool {
    let Some(claims) = payload(provider, token, "logout+jwt") else { return false };
    let (now, number) = (provider.now(), |name| claims.get(name).and_then(Value::as_i64));
    let word = |name| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    // Absent, or a string.
    let optional = |name| claims.get(name).is_none() || word(name).is_some();
    word("iss") == Some(provider.issuer().as_str())
        && word("aud") == Some(provider.client_id())
        && number("exp").is_some_and(|exp| exp > now - 60)
        && number("iat").is_some_and(|iat| (now - 600..=now + 60).contains(&iat))
        && word("jti").is_some()
        && claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object)
        && claims.get("nonce").is_none()
        && optional("sub")
        && optional("sid")
        && (word("sub").is_some() || word("sid").is_some())
}

fn is_callback(provider: &Provider, callback: Callback, token: &str) -> bool {
    let Some(claims) = payload(provider, token, "JWT") else { return false };
    let word = |name| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let number = |name| claims.get(name).and_then(Value::as_i64);
    word("resource") == Some(provider.client_id())
        && word("action") == Some(callback.action())
        && word("id").is_some()
        && number("expiration").is_some_and(|time| time > provider.now() - 60)
        && number("notBefore").is_some()
}

/// The claims of a token if the realm signed it with RS256 and it has the only valid form.
fn payload(provider: &Provider, token: &str, typ: &str) -> Option<Map<String, Value>> {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
    let key = provider.key("RS256");
    // This signature algorithm is deterministic: signing again gives the same bytes.
    let right = key.sign(format!("{header}.{payload}").as_bytes());
    if URL_SAFE_NO_PAD.decode(signature).ok()? != right || object(header)? != *key.header(typ).as_object()? {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let claims = object(payload)?;
    let once = claims.keys().all(|name| text.matches(&format!("\"{name}\":")).count() == 1);
    once.then_some(claims)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
