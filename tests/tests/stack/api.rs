//! MLflow's API over plain HTTP, as with curl.

use oidc_gate_testkit::browser::Response;
use serde_json::json;

use crate::stack::{SEARCH, Stack};

#[test]
fn a_token_from_the_password_grant_uses_the_api() {
    let stack = Stack::running();
    let response = stack.call_api(SEARCH, Some(&stack.token("mlflow_user")));
    assert_eq!(response.status, 200, "{response}");
    let experiments = response.json()["experiments"].clone();
    let names = experiments.as_array().expect("a list").iter().map(|experiment| &experiment["name"]);
    assert!(names.into_iter().any(|name| *name == json!("Default")), "{response}");
    assert!(response.header_lines("set-cookie").is_empty(), "{response}");
}

#[test]
fn without_a_good_token_the_api_answers_401_and_json_and_never_a_redirect() {
    let stack = Stack::running();
    let tokens = stack.tokens("mlflow_user");
    let good = tokens["access_token"].as_str().unwrap();
    let changed = {
        let at = good.rfind('.').unwrap() + 20;
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let assert_invalid = |response: &Response, what: &str| {
        assert_unauthenticated(response, what);
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {response}");
    };
    assert_unauthenticated(&stack.call_api(SEARCH, None), "no token");
    for (what, token) in [
        ("nonsense", "nonsense"),
        ("three parts of nothing", "a.b.c"),
        ("a changed signature", changed.as_str()),
        // Tokens of Keycloak of other kinds.
        ("a refresh token", tokens["refresh_token"].as_str().unwrap()),
        ("an ID token", tokens["id_token"].as_str().unwrap()),
    ] {
        assert_invalid(&stack.call_api(SEARCH, Some(token)), what);
    }
    // A token of another realm of the same Keycloak. Its key is unknown, so the gate asks Keycloak and has no verdict
    // before the response.
    let administrator = stack.admin_token();
    let mut response = stack.call_api(SEARCH, Some(&administrator));
    stack.eventually("a verdict on an administrator's token", || {
        if response.status == 503 {
            response = stack.call_api(SEARCH, Some(&administrator));
        }
        response.status != 503
    });
    assert_invalid(&response, "an administrator of Keycloak");
    assert_eq!(stack.call_api(SEARCH, Some(good)).status, 200);
}

#[test]
fn health_and_version_are_open_to_anybody() {
    let stack = Stack::running();
    for path in ["/health", "/version"] {
        let response = stack.get(path);
        assert_eq!(response.status, 200, "{path}: {response}");
    }
    assert_eq!(stack.get("/version").text(), "3.17.2");
}

#[track_caller]
fn assert_unauthenticated(response: &Response, what: &str) {
    assert_eq!(response.status, 401, "{what}: {response}");
    assert_eq!(response.header("location"), None, "{what}: {response}");
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("application/json")),
        "{what}: {response}"
    );
    assert_eq!(response.json()["error_code"], "UNAUTHENTICATED", "{what}: {response}");
    assert!(response.json()["message"].is_string(), "{what}: {response}");
    let challenge = response.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer "), "{what}: {response}");
    assert!(response.header_lines("set-cookie").is_empty(), "{what}: {response}");
}
