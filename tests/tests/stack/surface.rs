//! The whole surface of MLflow's Python client, with each kind of credential.

use std::time::Duration;

use oidc_gate_testkit::provider::random_text;
use serde_json::json;

use crate::home::{Home, issuer};
use crate::python::Script;
use crate::stack::{Stack, variable};

/// It imports scikit-learn and makes a few hundred requests.
const BOUND: Duration = Duration::from_secs(300);

#[test]
fn a_person_uses_everything_that_mlflows_client_has() {
    let stack = Stack::running();
    let home = Home::signed_in(&stack, "mlflow_user");
    assert_all_works(&stack, &home.variables(&[]), "mlflow_user");
}

#[test]
fn a_service_uses_everything_that_mlflows_client_has() {
    let stack = Stack::running();
    let _member = stack.service_account_joins("mlflow_users");
    let secret = variable("OIDC_GATE_CLIENT_SECRET");
    let variables = [
        ("MLFLOW_TRACKING_AUTH", "oidc-gate".to_owned()),
        ("OIDC_GATE_ISSUER", issuer(&stack)),
        ("OIDC_GATE_CLIENT_ID", "mlflow".to_owned()),
        ("OIDC_GATE_CLIENT_SECRET", secret),
    ];
    assert_all_works(&stack, &variables, "service-account-mlflow");
}

#[test]
fn a_token_as_a_password_is_good_for_everything_that_mlflows_client_has() {
    let stack = Stack::running();
    let variables = [
        ("MLFLOW_TRACKING_USERNAME", "anybody".to_owned()),
        ("MLFLOW_TRACKING_PASSWORD", stack.token("mlflow_user")),
    ];
    assert_all_works(&stack, &variables, "mlflow_user");
}

#[track_caller]
fn assert_all_works(stack: &Stack, variables: &[(&str, String)], user: &str) {
    // The user to whom a permission is given has to be known.
    assert_eq!(stack.call_api(crate::stack::SEARCH, Some(&stack.token("mlflow_admin"))).status, 200);
    let more = [("SURFACE_NAME", format!("surface-{}", random_text(8))), ("SURFACE_USER", user.to_owned())];
    let script = include_str!("scripts/surface.py");
    let wrong = Script::start(stack, &[variables, &more].concat(), script).answer(BOUND);
    assert_eq!(wrong, json!({}));
}
