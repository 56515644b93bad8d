//! Users who are authenticated but not in a group that may use MLflow.

use crate::browser::Browser;
use crate::stack::{SEARCH, Stack};

#[test]
fn an_outsider_is_told_who_they_are_and_which_group_is_missing_and_can_sign_out() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("outsider");
    let browser = Browser::signed_in(&stack, "/", "outsider");
    browser.wait_for_text("User is not allowed");
    assert_eq!(browser.status(), Some(403), "{}", browser.shown());
    for text in ["outsider", "mlflow_users", "mlflow_admins"] {
        browser.wait_for_text(text);
    }
    browser.picture("not-allowed.png");
    // Other addresses get the gate's page too, and nothing from MLflow.
    browser.open(&stack.url("/ajax-api/2.0/mlflow/experiments/get?experiment_id=0"));
    assert_eq!(browser.status(), Some(403), "{}", browser.shown());

    assert_eq!(stack.keycloak_sessions("outsider").len(), 1);
    browser.click("form[action='/oauth2/logout'] button");
    browser
        .wait_for("the page after sign-out", || browser.url().starts_with(&stack.url("/oauth2/signed-out")));
    assert_eq!(browser.session_cookie(), None);
    assert_eq!(stack.keycloak_sessions("outsider"), Vec::<serde_json::Value>::new());

    // Another user with access can now log in with the same browser.
    browser.click("a.button");
    browser.wait_for_login_form(&stack);
    browser.submit_login("mlflow_admin");
    browser.wait_for("the way back to MLflow", || browser.url() == stack.url("/"));
    assert_eq!(browser.status(), Some(200), "{}", browser.shown());
}

#[test]
fn a_token_of_an_outsider_is_refused_with_403() {
    let stack = Stack::running();
    let response = stack.call_api(SEARCH, Some(&stack.token("outsider")));
    assert_eq!(response.status, 403, "{response}");
    assert_eq!(response.json()["error_code"], "PERMISSION_DENIED", "{response}");
}

#[test]
fn a_job_that_acts_for_itself_is_refused_until_its_service_account_is_in_a_group() {
    let stack = Stack::running();
    let before = stack.client_credentials_token();
    let response = stack.call_api(SEARCH, Some(&before));
    assert_eq!(response.status, 403, "{response}");
    assert_eq!(response.json()["error_code"], "PERMISSION_DENIED", "{response}");

    let membership = stack.service_account_joins("mlflow_users");
    let response = stack.call_api(SEARCH, Some(&stack.client_credentials_token()));
    assert_eq!(response.status, 200, "{response}");
    // The groups in an existing token do not change.
    assert_eq!(stack.call_api(SEARCH, Some(&before)).status, 403);
    drop(membership);
    assert_eq!(stack.call_api(SEARCH, Some(&stack.client_credentials_token())).status, 403);
}
