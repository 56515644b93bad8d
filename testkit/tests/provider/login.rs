//! Sign-in, codes, keys and misbehaviour: what the provider grants and refuses.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::raw::Connection;
use oidc_gate_testkit::process::{free_port, wait_until};
use oidc_gate_testkit::provider::{
    Behaviour, Endpoint, Forgery, OldKeys, Provider, Setup, SigningKey, Times, TokenKind,
};
use serde_json::{Value, json};

use crate::support::{GATE, VERIFIER, authorize, claims, code, endpoint, provider, redeem, token};

#[test]
fn a_code_buys_tokens_that_look_like_keycloaks() {
    let provider = provider();
    let response = redeem(&provider, &code(&provider), VERIFIER).json();
    assert_eq!(response["token_type"], "Bearer", "{response}");
    let (id, access) = (claims(&response["id_token"]), claims(&response["access_token"]));
    assert_eq!((&id["nonce"], &id["aud"], &id["typ"]), (&json!("the-nonce"), &json!("mlflow"), &json!("ID")));
    assert_eq!((&access["typ"], &access["groups"]), (&json!("Bearer"), &json!(["/mlflow_users"])));
    assert_eq!(id["sid"], response["session_state"]);
    provider.sign_in_as("outsider");
    let outsider = authorize(&provider, &Client::new(), |_| {}).redirect_parameter("code").unwrap();
    // Without groups the claim is absent, not an empty list.
    assert_eq!(claims(&redeem(&provider, &outsider, VERIFIER).json()["id_token"]).get("groups"), None);
}

#[test]
fn a_code_is_good_once_and_only_with_its_verifier() {
    let provider = provider();
    let wrong = redeem(&provider, &code(&provider), "another-verifier-another-verifier-another-v");
    assert_eq!((wrong.status, &wrong.json()["error"]), (400, &json!("invalid_grant")), "{wrong}");
    let code = code(&provider);
    let refresh_token =
        redeem(&provider, &code, VERIFIER).json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(redeem(&provider, &code, VERIFIER).json()["error_description"], "Code not valid");
    // A replayed code detaches the client from the session.
    let refused = token(&provider, &[("grant_type", "refresh_token"), ("refresh_token", &refresh_token)]);
    assert_eq!(refused.json()["error_description"], "Session doesn't have required client");
}

#[test]
fn a_refresh_token_is_good_once() {
    let provider = provider();
    let first =
        redeem(&provider, &code(&provider), VERIFIER).json()["refresh_token"].as_str().unwrap().to_owned();
    let form = [("grant_type", "refresh_token"), ("refresh_token", first.as_str())];
    let second = token(&provider, &form);
    assert_eq!(second.status, 200, "{second}");
    assert_eq!(claims(&second.json()["id_token"]).get("nonce"), None);
    assert_eq!(
        token(&provider, &form).json()["error_description"],
        "Maximum allowed refresh token reuse exceeded"
    );
}

#[test]
fn the_secret_in_a_basic_header_must_be_form_encoded() {
    let provider = provider();
    let raw = STANDARD.encode(format!("{}:{}", provider.client_id(), provider.client_secret()));
    let response = Client::new()
        .request("POST", &endpoint(&provider, "token"))
        .header("authorization", format!("Basic {raw}"))
        .form(&[("grant_type", "client_credentials")])
        .send()
        .unwrap();
    assert!([400, 401].contains(&response.status), "{response}");
    let encoded = token(&provider, &[("grant_type", "client_credentials")]);
    assert_eq!(encoded.status, 200, "{encoded}");
    assert_eq!(encoded.json().get("refresh_token"), None);
    assert_eq!(claims(&encoded.json()["access_token"])["preferred_username"], "service-account-mlflow");
}

#[test]
fn requests_that_keycloak_refuses_are_refused() {
    let provider = provider();
    provider.sign_in_as("mlflow_user");
    let set = |name: &'static str, value: &'static str| {
        move |parameters: &mut Vec<(&str, String)>| {
            parameters.retain(|(other, _)| *other != name);
            parameters.push((name, value.to_owned()));
        }
    };
    for (name, value) in [("client_id", "other"), ("redirect_uri", "http://evil.example/oauth2/callback")] {
        let page = authorize(&provider, &Client::new(), set(name, value));
        assert_eq!((page.status, page.redirect_target()), (400, None), "{page}");
    }
    for (name, value, error) in [
        ("scope", "openid groups", "invalid_scope"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
    ] {
        let back = authorize(&provider, &Client::new(), set(name, value));
        assert_eq!(back.redirect_parameter("error").as_deref(), Some(error), "{back}");
        assert_eq!(back.redirect_parameter("state").as_deref(), Some("the-state"), "{back}");
        assert_eq!(back.redirect_parameter("iss"), Some(provider.issuer()), "{back}");
    }
    provider.ask_for_password();
    let silent = authorize(&provider, &Client::new(), set("prompt", "none"));
    assert_eq!(silent.redirect_parameter("error").as_deref(), Some("login_required"));
}

#[test]
fn a_browser_that_signed_in_has_one_session_until_it_is_ended() {
    let provider = provider();
    let browser = Client::new();
    let form = authorize(&provider, &browser, |_| {});
    let action = form.form_action().unwrap_or_else(|| panic!("no form: {form}"));
    let first = browser.submit(&action, &[("username", "mlflow_user"), ("password", "password123")]).unwrap();
    let again = authorize(&provider, &browser, |_| {});
    assert_eq!(first.redirect_parameter("session_state"), again.redirect_parameter("session_state"));
    let tokens = redeem(&provider, &again.redirect_parameter("code").unwrap(), VERIFIER).json();
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("id_token_hint", tokens["id_token"].as_str().unwrap())
        .append_pair("post_logout_redirect_uri", &format!("{GATE}/oauth2/signed-out"))
        .append_pair("state", "s")
        .finish();
    let out = browser.navigate(&format!("{}?{query}", endpoint(&provider, "logout"))).unwrap();
    assert_eq!(out.redirect_target(), Some(format!("{GATE}/oauth2/signed-out?state=s")), "{out}");
    assert!(authorize(&provider, &browser, |_| {}).form_action().is_some());
}

#[test]
fn it_misbehaves_as_often_as_it_is_told_and_counts_every_call() {
    let provider = provider();
    let jwks = endpoint(&provider, "certs");
    let client = Client::new();
    provider.misbehave(Endpoint::Jwks, Times::Next(1), Behaviour::json(500, "{}"));
    provider.misbehave(Endpoint::Jwks, Times::Next(2), Behaviour::CloseMidBody);
    assert_eq!(client.request("GET", &jwks).send().unwrap().status, 500);
    for _ in 0..2 {
        assert!(client.request("GET", &jwks).send().is_err());
    }
    assert_eq!(client.request("GET", &jwks).send().unwrap().status, 200);
    provider.misbehave(Endpoint::Jwks, Times::Always, Behaviour::Hang);
    let mut waiting = Connection::open(provider.port()).unwrap();
    waiting
        .send(format!(
            "GET {} HTTP/1.1\r\nHost: a\r\n\r\n",
            jwks.split_once(&format!(":{}", provider.port())).unwrap().1
        ))
        .unwrap();
    assert!(wait_until(Duration::from_secs(20), || provider.count(Endpoint::Jwks) == 5));
    assert_eq!(waiting.read_to_end(Duration::from_millis(100)).unwrap(), b"");
    provider.misbehave(Endpoint::Jwks, Times::Always, Behaviour::DropAnswer);
    provider.behave();
    provider.edit_document(Endpoint::Jwks, |document| document["keys"] = json!([]));
    assert_eq!(client.request("GET", &jwks).send().unwrap().json(), json!({"keys": []}));
    assert_eq!(provider.count(Endpoint::Jwks), 6);
    assert_eq!(provider.count(Endpoint::Token), 0);
}

#[test]
fn forged_tokens_differ_only_in_what_was_forged() {
    let provider = provider();
    provider.forge(
        TokenKind::Id,
        Forgery::new().claims(|claims| claims["nonce"] = json!("x")).key(SigningKey::Unsigned),
    );
    let response = redeem(&provider, &code(&provider), VERIFIER).json();
    let token = response["id_token"].as_str().unwrap();
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header["alg"], "none");
    assert!(token.ends_with('.'));
    assert_eq!(claims(&response["id_token"])["nonce"], "x");
    assert_eq!(claims(&response["id_token"])["aud"], "mlflow");
}

#[test]
fn rotation_lists_new_keys_and_keeps_or_drops_the_old() {
    let provider = provider();
    let kids = || -> Vec<String> {
        let document = Client::new().request("GET", &endpoint(&provider, "certs")).send().unwrap().json();
        document["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let old = provider.key("RS256").kid();
    provider.rotate_keys(OldKeys::StayListed);
    let new = provider.key("RS256").kid();
    assert_ne!(old, new);
    assert!(kids().contains(&old) && kids().contains(&new));
    provider.rotate_keys(OldKeys::Removed);
    assert!(!kids().contains(&old) && !kids().contains(&new));
}

#[test]
fn a_stopped_provider_refuses_connections_and_comes_back_with_its_keys() {
    let port = free_port();
    let provider = Provider::start(Setup { port, ..Setup::for_gate(GATE) }).unwrap();
    let kid = provider.key("ES256").kid();
    let jwks = endpoint(&provider, "certs");
    provider.stop();
    assert!(Client::new().request("GET", &jwks).send().is_err());
    provider.resume().unwrap();
    assert!(Client::new().request("GET", &jwks).send().unwrap().text().contains(&kid));
}
