//! Restarting any service loses nothing. The same holds for a new image of Envoy.

use std::time::Duration;

use oidc_gate_testkit::process::wait_until;

use crate::browser::Browser;
use crate::stack::{SERVICES, Stack};

/// How long MLflow's page may take to load its data.
const DRAWN_BOUND: Duration = Duration::from_secs(20);

#[test]
#[ignore = "slow: services start again"]
fn a_person_stays_signed_in_through_a_restart_of_each_service_in_turn() {
    let stack = Stack::up();
    let client = stack.signed_in("mlflow_user");
    assert!(stack.may_use_mlflow(&client));
    for service in SERVICES {
        stack.restart(service);
        stack.eventually(&format!("the session is good after {service}'s restart"), || {
            stack.may_use_mlflow(&client)
        });
    }
    // Everything still works: a login, a token, a run with an artifact. A worker may still have the old session in its
    // cache while Redis is not ready to store a new one.
    stack.eventually("a login works", || {
        let fresh = stack.signed_in("mlflow_admin");
        stack.may_use_mlflow(&fresh)
    });
    stack.run("token-python");
}

#[test]
fn a_browser_stays_signed_in_through_restarts_of_redis_envoy_and_mlflow() {
    let stack = Stack::up();
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    browser.wait_for_text("Default");
    let session = browser.session_cookie();
    for service in ["redis", "envoy", "mlflow"] {
        stack.restart(service);
        // The page must not be reloaded while it is still being drawn.
        stack.eventually(&format!("MLflow is shown after {service}'s restart"), || {
            browser.try_open(&stack.url("/")).is_ok()
                && wait_until(DRAWN_BOUND, || browser.text().contains("Default"))
        });
        assert_eq!(browser.session_cookie(), session, "after {service}'s restart it is another session");
    }
}

#[test]
#[ignore = "slow: services start again"]
fn the_printed_commands_exchange_envoys_image_and_put_the_one_before_back() {
    let stack = Stack::up();
    let client = stack.signed_in("mlflow_user");
    let of_envoy = |what: &str| {
        stack.shell(&format!("docker inspect -f '{{{{.{what}}}}}' \"$(docker compose ps -q envoy)\""))
    };
    let before = of_envoy("Image");
    stack.run("upgrade-envoy");
    stack.eventually("the session goes on", || stack.may_use_mlflow(&client));
    stack.run("roll-back-envoy");
    assert_eq!(of_envoy("Config.Image").trim(), "localhost/oidc-gate-envoy:before");
    assert_eq!(of_envoy("Image"), before);
    stack.eventually("the session goes on with the image before", || stack.may_use_mlflow(&client));
    stack.compose("up --wait");
    stack.shell("docker image rm localhost/oidc-gate-envoy:before");
}
