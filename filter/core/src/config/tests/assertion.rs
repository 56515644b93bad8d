//! `identity.assertion`: its defaults and its mistakes.

use serde_json::{Value, json};

use super::{ASSERTION_KEY, KEY, errors, load_text, with};
use crate::testing::test;

#[test]
fn the_assertion_has_the_header_that_the_application_reads() {
    let assertion = json!({"keys": ASSERTION_KEY, "audience": "app"});
    let with_preset = with(&[("/identity/assertion", assertion.clone())]);
    let without = with(&[("/identity/assertion", assertion), ("/policy/preset", Value::Null)]);
    for (config, header) in [(with_preset, "x-mlflow-authorization"), (without, "x-oidc-gate-assertion")] {
        let assertion = load_text(&config.to_string()).unwrap().identity.assertion.unwrap();
        assert_eq!([assertion.header.as_str(), assertion.issuer.as_str()], [header, "oidc-gate"]);
    }
}

#[test]
fn a_mistake_in_the_assertion_is_one_error() {
    for (change, error) in [
        (("/identity/assertion", json!({"audience": "mlflow"})), "identity.assertion.keys: is missing"),
        (
            ("/identity/assertion", json!({"keys": [ASSERTION_KEY]})),
            "identity.assertion.audience: is missing",
        ),
        (
            ("/identity/assertion", json!({"audience": "mlflow", "keys": []})),
            "identity.assertion.keys: is empty: no assertion could be signed",
        ),
        (
            ("/identity/assertion", json!({"audience": "mlflow", "keys": [ASSERTION_KEY, "short"]})),
            "identity.assertion.keys[1]: must have at least 32 bytes; make one with: openssl rand -base64 32",
        ),
        (
            ("/identity/assertion", json!({"audience": "mlflow", "keys": [ASSERTION_KEY, KEY]})),
            "identity.assertion.keys: has a key of session.keys: the application could make sessions; make another \
             one with: openssl rand -base64 32",
        ),
        (
            (
                "/identity/assertion",
                json!({"audience": "mlflow", "keys": [ASSERTION_KEY], "header": "Authorization"}),
            ),
            "identity.assertion.header: must be the name of a header that begins with X- (RFC 9110 5.1)",
        ),
        (
            (
                "/identity/assertion",
                json!({"audience": "mlflow", "keys": [ASSERTION_KEY], "header": "X-Forwarded-User"}),
            ),
            "identity.assertion.header: has another meaning; use a header that only the application reads",
        ),
    ] {
        assert_eq!(errors(&with(std::slice::from_ref(&change))), [error], "{change:?}");
    }
}
