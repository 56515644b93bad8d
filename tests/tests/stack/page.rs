//! MLflow's page with the gate's script, and the fragment that is kept over a login.

use serde_json::json;

use crate::browser::Browser;
use crate::stack::{SESSION_COOKIE, Stack};

/// What the script adds to the sidebar.
const ITEMS: &str = ".oidc-gate-items";
const BANNER: &str = ".oidc-gate-banner";
const RUNS: &str = "/api/2.0/mlflow/runs";
const MODELS: &str = "/api/2.0/mlflow/registered-models";

#[test]
fn the_sidebar_names_the_user_once_and_leads_to_the_account_and_out() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    wait_for_sidebar(&browser, "mlflow_user");
    let names =
        browser.evaluate("return document.querySelector('aside').innerText.split('mlflow_user').length - 1");
    assert_eq!(names, 1, "{}", browser.shown());
    let labels = browser.evaluate(&format!(
        "return [...document.querySelectorAll('{ITEMS} a, {ITEMS} button')].map(item => item.innerText)"
    ));
    assert_eq!(labels, json!(["Account", "Sign out"]));
    assert_eq!(menu(&browser, "mlflow_user"), json!(["Account"]), "Manage is for administrators");
    browser.open(&stack.url("/#/experiments"));
    browser.wait_for_text("Last modified");
    browser.picture("mlflow-experiments.png");

    browser.open(&stack.url("/#/experiments"));
    browser.reload();
    browser.wait_for("the sidebar", || browser.has(ITEMS));
    browser.click(&format!("{ITEMS} a"));
    browser.wait_for("the account page", || browser.url() == stack.url("/oauth2/account"));
    browser.wait_for_text("mlflow_user");

    browser.open(&stack.url("/"));
    browser.wait_for("the sidebar", || browser.has(ITEMS));
    browser.click(&format!("{ITEMS} button"));
    browser
        .wait_for("the page after sign-out", || browser.url().starts_with(&stack.url("/oauth2/signed-out")));
    assert_eq!(browser.session_cookie(), None, "{}", browser.shown());
}

#[test]
fn administrators_find_manage_in_their_menu() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_admin");
    let browser = Browser::signed_in(&stack, "/", "mlflow_admin");
    wait_for_sidebar(&browser, "mlflow_admin");
    assert_eq!(menu(&browser, "mlflow_admin"), json!(["Account", "Manage"]));
    browser.open(&stack.url("/#/admin"));
    browser.wait_for_text("Platform Admin");
    browser.wait_for_text("Create User");
    browser.picture("mlflow-manage.png");
}

#[test]
fn the_assistant_that_the_gate_closes_is_not_shown() {
    let stack = Stack::running();
    for user in ["mlflow_user", "mlflow_admin"] {
        stack.end_keycloak_sessions(user);
        let browser = Browser::signed_in(&stack, "/", user);
        wait_for_sidebar(&browser, user);
        // MLflow opens it by itself at the first visit, and the script closes the panel.
        browser.wait_for("the closed panel", || {
            browser.evaluate("return localStorage['mlflow.assistant.panelOpen_v1']") == "false"
        });
        let shown = browser.evaluate(
            "return [...document.querySelectorAll('[data-assistant-ui]')]
                .filter(part => getComputedStyle(part).display !== 'none').length",
        );
        assert_eq!(shown, 0, "{user}: {}", browser.shown());
        assert!(!browser.text().contains("Assistant"), "{user}: {}", browser.shown());
    }
}

#[test]
fn a_session_that_has_ended_is_told_and_signing_in_again_leads_back() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, "/#/experiments", "mlflow_user");
    wait_for_sidebar(&browser, "mlflow_user");
    let first = browser.tab();
    // In another tab, as people do.
    browser.new_tab();
    browser.open(&stack.url("/oauth2/logout"));
    browser
        .wait_for("the page after sign-out", || browser.url().starts_with(&stack.url("/oauth2/signed-out")));
    browser.switch_to(&first);

    browser.evaluate("location.hash = '#/models'");
    browser.wait_for("the banner", || browser.has(BANNER));
    browser.wait_for_text("Your session has ended.");
    assert!(browser.has(&format!("{BANNER}[role=alert]")), "{}", browser.shown());
    browser.picture("session-ended.png");
    // It stays where it is, and leads to where the user is then.
    browser.evaluate("location.hash = '#/prompts'");
    browser.wait_for("the other page", || browser.url() == stack.url("/#/prompts"));
    browser.wait_for_text("Your session has ended.");
    let banners = browser.evaluate(&format!("return document.querySelectorAll('{BANNER}').length"));
    assert_eq!(banners, 1, "{}", browser.shown());
    browser.click(&format!("{BANNER} a"));
    browser.wait_for_login_form(&stack);
    browser.submit_login("mlflow_user");
    browser.wait_for("the same page", || browser.url() == stack.url("/#/prompts"));
    wait_for_sidebar(&browser, "mlflow_user");
    assert!(!browser.has(BANNER), "{}", browser.shown());
}

#[test]
fn the_fragment_is_kept_when_a_password_is_typed() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let experiment = stack.make_experiment(&token, "kept");
    stack.end_keycloak_sessions("mlflow_user");
    for path in [format!("/#/experiments/{experiment}/runs"), "/?x=%22a%22#/models".to_owned()] {
        let browser = Browser::start(&stack);
        browser.sign_in(&stack, &path, "mlflow_user");
        browser.wait_for("the page that was asked for", || browser.url().starts_with(&stack.url(&path)));
        wait_for_sidebar(&browser, "mlflow_user");
        assert_eq!(browser.status(), Some(200), "{}", browser.shown());
        browser.reload();
        assert!(browser.url().starts_with(&stack.url(&path)), "{}", browser.shown());
        stack.end_keycloak_sessions("mlflow_user");
    }
}

#[test]
fn without_javascript_a_login_works_as_before() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::start_without_scripts(&stack);
    // A page that needs no script either.
    let path = "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0&note=a%20b%26c";
    browser.sign_in(&stack, path, "mlflow_user");
    browser.wait_for("the page that was asked for", || browser.url() == stack.url(path));
    assert!(browser.session_cookie().is_some(), "{}", browser.shown());
}

#[test]
fn the_pages_that_people_use_load_and_nothing_on_them_is_refused() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let experiment = stack.make_experiment(&token, "pages");
    let runs: Vec<String> = (0..2)
        .map(|number| {
            let body = json!({"experiment_id": experiment, "run_name": format!("run-{number}")});
            let run = stack.post(&format!("{RUNS}/create"), Some(&token), &body);
            let id = run.json()["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
            let metric = json!({"run_id": id, "key": "accuracy", "value": 0.5, "timestamp": 1, "step": 0});
            assert_eq!(stack.post(&format!("{RUNS}/log-metric"), Some(&token), &metric).status, 200);
            id
        })
        .collect();
    let [first, second] = runs.as_slice() else { unreachable!("two runs were made") };
    let model = format!("model-of-{experiment}");
    let made = stack.post(&format!("{MODELS}/create"), Some(&token), &json!({"name": model}));
    assert_eq!(made.status, 200, "{made}");

    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    wait_for_sidebar(&browser, "mlflow_user");
    browser.evaluate("performance.setResourceTimingBufferSize(5000)");
    let compared =
        format!("#/compare-runs?runs=[%22{first}%22,%22{second}%22]&experiments=[%22{experiment}%22]");
    for (fragment, text) in [
        ("#/experiments".to_owned(), "pages-"),
        (format!("#/experiments/{experiment}/runs"), "run-1"),
        (format!("#/experiments/{experiment}/runs/{first}"), "run-0"),
        (compared, "Comparing 2 Runs"),
        ("#/models".to_owned(), model.as_str()),
        (format!("#/models/{model}"), model.as_str()),
        ("#/prompts".to_owned(), "Prompts"),
    ] {
        browser.evaluate(&format!("location.hash = '{fragment}'"));
        browser.wait_for(&fragment, || browser.text().contains(text));
        browser.wait_for("the sidebar", || browser.has(ITEMS));
    }
    let refused = browser.evaluate(
        "return performance.getEntriesByType('resource')
            .filter(entry => [401, 403].includes(entry.responseStatus))
            .map(entry => entry.responseStatus + ' ' + entry.name)
            .filter(entry => !entry.includes('/mlflow/assistant/'))",
    );
    assert_eq!(refused, json!([]));
    assert!(!browser.has(BANNER), "{}", browser.shown());
}

#[test]
fn no_refusal_asks_for_a_password_in_a_dialog() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    wait_for_sidebar(&browser, "mlflow_user");
    const ASK: &str = "
        const [done] = [...arguments].slice(-1);
        const ask = async ([method, path]) => {
            const headers = {'Content-Type': 'application/json'};
            const response = await fetch(path, {method, headers, body: method === 'POST' ? '{}' : undefined});
            return [response.status, response.headers.get('www-authenticate')];
        };
        const asked = [
            ['GET', '/ajax-api/2.0/mlflow/users/list'],
            ['POST', '/ajax-api/2.0/mlflow/users/create'],
            ['GET', '/ajax-api/3.0/mlflow/assistant/config'],
            ['GET', '/ajax-api/2.0/mlflow/users/current'],
            ['GET', '/signup'],
        ];
        Promise.all(asked.map(ask)).then(done);";
    let answers = browser.evaluate_async(ASK);
    assert!(!answers.to_string().contains("Basic"), "{answers}");
    browser.forget_cookie(SESSION_COOKIE);
    let answers = browser.evaluate_async(ASK);
    assert!(answers.to_string().contains("401") && !answers.to_string().contains("Basic"), "{answers}");
    browser.wait_for("the banner", || browser.has(BANNER));
}

#[test]
fn a_part_of_the_page_that_is_loaded_later_tells_that_the_session_has_ended() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    wait_for_sidebar(&browser, "mlflow_user");
    browser.forget_cookie(SESSION_COOKIE);
    browser.evaluate(
        "const part = document.createElement('script');
        part.src = 'static-files/static/js/later.js';
        document.head.append(part);",
    );
    browser.wait_for("the banner", || browser.has(BANNER));
}

/// Waits until MLflow has named the user and the script has added its part.
#[track_caller]
fn wait_for_sidebar(browser: &Browser, user: &str) {
    browser.wait_for("the user's name", || browser.has(&format!("[aria-label='Account menu for {user}']")));
    browser.wait_for("the script's part of the sidebar", || browser.has(&format!("aside nav {ITEMS}")));
}

/// The items of MLflow's own menu of the user.
#[track_caller]
fn menu(browser: &Browser, user: &str) -> serde_json::Value {
    browser.click(&format!("[aria-label='Account menu for {user}']"));
    browser.wait_for("the user's menu", || browser.has("[role=menuitem]"));
    browser.evaluate("return [...document.querySelectorAll('[role=menuitem]')].map(item => item.innerText)")
}
