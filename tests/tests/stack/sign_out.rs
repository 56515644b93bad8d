//! Signing out, with Keycloak's session.

use crate::browser::Browser;
use crate::stack::Stack;

#[test]
fn signing_out_ends_both_sessions_and_offers_a_way_back() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    assert_eq!(stack.keycloak_sessions("mlflow_user").len(), 1);
    let cookie = browser.session_cookie().expect("a session cookie");

    browser.open(&stack.url("/oauth2/logout"));
    browser
        .wait_for("the page after sign-out", || browser.url().starts_with(&stack.url("/oauth2/signed-out")));
    browser.wait_for_text("signed out");
    assert_eq!(browser.session_cookie(), None, "{}", browser.shown());
    assert_eq!(stack.keycloak_sessions("mlflow_user"), Vec::<serde_json::Value>::new());

    // A stolen copy of the cookie is useless. (Workers cache sessions for some seconds, but a revocation reaches them.)
    let api = stack.url("/ajax-api/2.0/mlflow/experiments/search?max_results=1");
    stack.eventually("the session's end in every worker", || {
        (0..10).all(|_| {
            let thief = stack.browser_with(&cookie);
            thief.fetch(&api).is_ok_and(|response| response.status == 401)
        })
    });

    // Signing in again asks for the password, because Keycloak's session has ended.
    browser.click("a.button");
    browser.wait_for_login_form(&stack);
    browser.submit_login("mlflow_user");
    browser.wait_for("the way back to MLflow", || browser.url() == stack.url("/"));
    browser.wait_for_text("MLflow");
    assert_ne!(browser.session_cookie(), Some(cookie));
}

#[test]
fn a_session_that_keycloak_has_ended_already_can_still_be_signed_out() {
    let stack = Stack::running();
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    stack.end_keycloak_sessions("mlflow_user");
    browser.open(&stack.url("/oauth2/logout"));
    // Keycloak may ask for confirmation if it no longer has the session.
    browser.wait_for("the page after sign-out", || {
        let _ = browser.try_click("#kc-logout");
        browser.url().starts_with(&stack.url("/oauth2/signed-out"))
    });
    browser.wait_for_text("signed out");
    assert_eq!(browser.session_cookie(), None, "{}", browser.shown());
}
