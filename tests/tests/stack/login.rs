//! Logging in through Keycloak.

use serde_json::json;

use crate::browser::Browser;
use crate::stack::{SESSION_COOKIE, Stack};

/// A page that MLflow's server answers. Its query must survive the login through Keycloak.
const DEEP_LINK: &str = "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0&note=a%20b%26c";

#[test]
fn a_person_logs_in_through_keycloak_and_lands_in_mlflow() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let names = ["churn-baseline", "churn-boosted", "demand-forecast"];
    for name in names {
        stack.create_experiment(&token, name);
    }
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    assert_eq!((browser.url(), browser.status()), (stack.url("/"), Some(200)), "{}", browser.shown());
    // The start page lists the latest experiments.
    for name in names {
        browser.wait_for_text(name);
    }
    browser.open(&stack.url("/#/experiments"));
    browser.wait_for_text("Default");
    // MLflow opens its assistant by itself. The gate blocks it.
    let assistant = "[data-component-id='mlflow.assistant.chat_panel.close']";
    browser.wait_for("the list alone", || {
        let _ = browser.try_click(assistant);
        !browser.has(assistant)
    });
    browser.picture("login.png");
}

#[test]
fn reloading_the_page_stays_in() {
    let stack = Stack::running();
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    browser.wait_for_text("MLflow");
    let cookie = browser.session_cookie().expect("a session cookie");
    for _ in 0..3 {
        browser.reload();
        browser.wait_for_text("MLflow");
        assert_eq!(browser.status(), Some(200), "{}", browser.shown());
        assert_eq!(browser.url(), stack.url("/"), "{}", browser.shown());
    }
    // The session is still the same: there was no new login in the background.
    assert_eq!(browser.session_cookie().as_ref(), Some(&cookie));
    // Scripts of a page cannot read the cookie.
    let readable = browser.evaluate("return document.cookie");
    assert!(readable.as_str().is_some_and(|text| !text.contains(SESSION_COOKIE)), "{readable}");
}

#[test]
fn the_deep_link_that_began_a_login_is_where_it_ends() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, DEEP_LINK, "mlflow_user");
    assert_eq!(browser.url(), stack.url(DEEP_LINK), "{}", browser.shown());
    browser.wait_for_text("\"experiment_id\": \"0\"");
}

#[test]
fn a_deep_link_of_mlflows_ui_survives_when_keycloak_still_knows_the_person() {
    let stack = Stack::running();
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    // The gate's session is gone, but Keycloak's is not, so Keycloak shows no form. The browser keeps the part after
    // `#` over all redirects. No server ever receives it.
    browser.forget_cookie(SESSION_COOKIE);
    browser.open("about:blank");
    let deep_link = stack.url("/#/experiments/0");
    browser.open(&deep_link);
    browser.wait_for("the page of the experiment", || browser.url().starts_with(&deep_link));
    browser.wait_for_text("Default");
    assert!(browser.session_cookie().is_some());
}

#[test]
fn cb14_two_tabs_log_in_at_once_and_both_arrive() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::start(&stack);
    let first = browser.tab();
    browser.open(&stack.url("/?tab=1"));
    browser.wait_for_login_form(&stack);
    let second = browser.new_tab();
    browser.open(&stack.url("/?tab=2"));
    browser.wait_for_login_form(&stack);

    // In reverse order: the second login finishes while the first is still in progress.
    browser.submit_login("mlflow_user");
    browser.wait_for("the second tab's page", || browser.url() == stack.url("/?tab=2"));
    browser.wait_for_text("MLflow");
    browser.switch_to(&first);
    // Keycloak's form detects the login in the other tab and continues by itself, perhaps while the test is typing.
    // Older versions of the form must be submitted.
    browser.wait_for("the first tab's page", || {
        if browser.has("#kc-form-login") {
            let _ = browser.try_submit_login("mlflow_user");
        }
        browser.url() == stack.url("/?tab=1")
    });
    browser.wait_for_text("MLflow");

    for (tab, path) in [(&first, "/?tab=1"), (&second, "/?tab=2")] {
        browser.switch_to(tab);
        browser.reload();
        browser.wait_for_text("MLflow");
        assert_eq!(browser.url(), stack.url(path), "{}", browser.shown());
        assert_eq!(browser.status(), Some(200), "{}", browser.shown());
    }
}

#[test]
fn a_wrong_password_stays_at_keycloak_and_opens_nothing() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::start(&stack);
    browser.open(&stack.url("/"));
    browser.wait_for_login_form(&stack);
    browser.write("#username", "mlflow_user");
    browser.write("#password", "not the password");
    browser.click("#kc-login");
    browser.wait_for_text("Invalid username or password");
    browser.wait_for_login_form(&stack);
    assert_eq!(stack.keycloak_sessions("mlflow_user"), Vec::<serde_json::Value>::new());
    browser.open(&stack.url("/health"));
    assert_eq!(browser.session_cookie(), None);
}

#[test]
fn pages_of_mlflow_get_what_they_fetch_and_an_ended_session_answers_them_401() {
    let stack = Stack::running();
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    let search = "
        const done = arguments[arguments.length - 1];
        fetch('/ajax-api/2.0/mlflow/experiments/search', {
            method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{\"max_results\": 5}',
        }).then(async answer => done({status: answer.status, redirected: answer.redirected, json: await answer.json()}));";
    let answer = browser.evaluate_async(search);
    assert_eq!((&answer["status"], &answer["redirected"]), (&json!(200), &json!(false)), "{answer}");
    assert!(answer["json"]["experiments"].as_array().is_some_and(|list| !list.is_empty()), "{answer}");

    browser.forget_cookie(SESSION_COOKIE);
    let answer = browser.evaluate_async(search);
    assert_eq!((&answer["status"], &answer["redirected"]), (&json!(401), &json!(false)), "{answer}");
    assert_eq!(answer["json"]["error_code"], "UNAUTHENTICATED", "{answer}");
}
