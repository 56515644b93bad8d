//! Redis or Keycloak is really unavailable: nobody gets access, no session is lost, and Envoy is never restarted.

use std::path::Path;
use std::process::Command;

use oidc_gate_testkit::browser::{Client, Response};
use serde_json::Value;

use crate::browser::Browser;
use crate::stack::{Part, SEARCH, SESSION_COOKIE, Stack};

#[test]
fn without_redis_sessions_get_503_tokens_go_on_and_no_login_can_begin_a_loop() {
    let stack = Stack::running();
    let envoy = stack.envoy_pid();
    let token = stack.token("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    let cookie = browser.session_cookie().expect("a session cookie");
    let (late, callback) = stack.login_up_to_the_callback("mlflow_admin");

    let outage = stack.without(Part::Redis);
    // Each worker caches the session for some seconds.
    browser.wait_for("503 instead of the page", || {
        browser.open(&stack.url("/"));
        browser.status() == Some(503)
    });
    browser.wait_for_text("The session store can't be reached");
    assert_eq!(browser.url(), stack.url("/"), "nobody is sent to a login: {}", browser.shown());
    assert_eq!(browser.session_cookie().as_ref(), Some(&cookie), "the session is not thrown away");
    let known = stack.browser_with(&cookie);
    let api = stack.url("/ajax-api/2.0/mlflow/experiments/search");
    let mut answers = Vec::new();
    // The browser's worker no longer has it in its cache. Connections are spread over the workers.
    stack.eventually("503 from every worker", || {
        answers = (0..8).map(|_| known.fetch(&api).unwrap()).collect();
        answers.iter().all(|answer| answer.status == 503)
    });
    for answer in &answers {
        assert_unavailable(answer);
    }

    // A bearer token does not need Redis.
    assert_eq!(stack.call_api(SEARCH, Some(&token)).status, 200);
    assert_nobody_gets_in(&stack);
    // A login in progress spends no code, and can be completed later.
    let response = late.navigate(&callback).unwrap();
    assert_unavailable(&response);
    assert!(late.jar().get(SESSION_COOKIE).is_none(), "{response}");

    outage.end();
    browser.wait_for("the page again", || {
        browser.open(&stack.url("/"));
        browser.status() == Some(200)
    });
    browser.wait_for_text("MLflow");
    assert_eq!(browser.session_cookie(), Some(cookie), "it is the session of before");
    let journey = late.visit(&callback).unwrap();
    assert_eq!((journey.end().status, &journey.end().url), (200, &stack.url("/")), "{}", journey.end());
    assert_eq!(stack.envoy_pid(), envoy);
}

#[test]
fn without_keycloak_sessions_and_tokens_go_on_and_logins_wait() {
    let stack = Stack::running();
    let envoy = stack.envoy_pid();
    let token = stack.token("mlflow_user");
    // From here on the gate has Keycloak's keys, whatever ran before.
    assert_eq!(stack.call_api(SEARCH, Some(&token)).status, 200);
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    let (late, callback) = stack.login_up_to_the_callback("mlflow_admin");

    let outage = stack.without(Part::Keycloak);
    browser.reload();
    browser.wait_for_text("MLflow");
    assert_eq!(browser.status(), Some(200), "{}", browser.shown());
    assert_eq!(stack.call_api(SEARCH, Some(&token)).status, 200);
    assert_nobody_gets_in(&stack);
    let response = late.navigate(&callback).unwrap();
    assert_unavailable(&response);
    assert!(late.jar().get(SESSION_COOKIE).is_none(), "{response}");
    // A new login is redirected to the unreachable Keycloak, once.
    let stranger = Browser::start(&stack);
    let _ = stranger.try_open(&stack.url("/"));
    stack.eventually("the browser is sent to Keycloak", || stranger.url().starts_with(stack.keycloak()));

    outage.end();
    stranger.sign_in(&stack, "/", "mlflow_user");
    stranger.wait_for_text("MLflow");
    assert_eq!(stranger.status(), Some(200), "{}", stranger.shown());
    browser.reload();
    browser.wait_for_text("MLflow");
    assert_eq!(stack.envoy_pid(), envoy);
}

#[test]
fn a_gate_that_starts_without_redis_and_keycloak_is_closed_and_opens_by_itself() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    let cookie = browser.session_cookie().expect("a session cookie");

    let redis = stack.without(Part::Redis);
    let keycloak = stack.without(Part::Keycloak);
    // The new Envoy has nothing in memory.
    stack.without(Part::Envoy).end();
    let envoy = stack.envoy_pid();
    let known = stack.browser_with(&cookie);
    assert_unavailable(&known.fetch(&stack.url("/ajax-api/2.0/mlflow/experiments/search")).unwrap());
    assert_unavailable(&known.navigate(&stack.url("/")).unwrap());
    assert_unavailable(&stack.call_api(SEARCH, Some(&token)));
    assert_unavailable(&Client::new().navigate(&stack.url("/")).unwrap());
    assert_nobody_gets_in(&stack);
    browser.open(&stack.url("/"));
    assert_eq!((browser.url(), browser.status()), (stack.url("/"), Some(503)), "{}", browser.shown());
    // A public path needs neither of them.
    assert_eq!(stack.get("/health").status, 200);

    keycloak.end();
    // Tokens are accepted as soon as the keys are fetched. Sessions need Redis.
    stack.eventually("a token of before is accepted", || stack.call_api(SEARCH, Some(&token)).status == 200);
    assert_unavailable(&known.fetch(&stack.url("/ajax-api/2.0/mlflow/experiments/search")).unwrap());
    redis.end();
    browser.wait_for("the page again", || {
        browser.open(&stack.url("/"));
        browser.status() == Some(200)
    });
    browser.wait_for_text("MLflow");
    assert_eq!(browser.session_cookie(), Some(cookie), "it is the session of before");
    assert_eq!(stack.envoy_pid(), envoy);
}

/// Asserts a 503 with Retry-After, without a redirect and without a new session cookie.
#[track_caller]
fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{response}");
    let seconds = response.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{response}");
    assert_eq!(response.header("location"), None, "{response}");
    assert!(
        response.header_lines("set-cookie").iter().all(|line| !line.starts_with("oidc-gate=")),
        "{response}"
    );
}

/// Asserts that invalid credentials are refused, as always.
#[track_caller]
fn assert_nobody_gets_in(stack: &Stack) {
    for token in [None, Some("not.a.token")] {
        let response = stack.call_api(SEARCH, token);
        assert!([401, 503].contains(&response.status), "{token:?}: {response}");
    }
    let forger = stack.browser_with(&"A".repeat(64));
    let response = forger.fetch(&stack.url("/ajax-api/2.0/mlflow/experiments/search")).unwrap();
    assert!([401, 503].contains(&response.status), "{response}");
}

/// Both sides close unused connections. If MLflow closes first, a request can arrive at the same moment and be lost.
#[test]
fn envoy_lets_go_of_an_unused_connection_before_mlflow_does() {
    let stack = Stack::running();
    let asked = Command::new(stack.python())
        .args(["-c", "import uvicorn; print(uvicorn.Config('app').timeout_keep_alive)"])
        .output()
        .unwrap();
    let mlflow: f64 = String::from_utf8_lossy(&asked.stdout).trim().parse().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/envoy.yaml");
    let shipped: Value = serde_saphyr::from_str(&std::fs::read_to_string(shipped).unwrap()).unwrap();
    let clusters = shipped["static_resources"]["clusters"].as_array().unwrap();
    let cluster = clusters.iter().find(|cluster| cluster["name"] == "mlflow").unwrap();
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let idle = &cluster["typed_extension_protocol_options"][options]["common_http_protocol_options"];
    let envoy: f64 =
        idle["idle_timeout"].as_str().and_then(|text| text.strip_suffix('s')).unwrap().parse().unwrap();
    assert!(envoy < mlflow, "Envoy keeps it for {envoy} s, MLflow for {mlflow} s");
}
