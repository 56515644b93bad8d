//! Which limit a request counts against if there is a proxy in front.

use std::time::Instant;

use oidc_gate_testkit::browser::{Client, Request};
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::provider::Grant;
use oidc_gate_tests::{Gate, assert_refused};
use serde_json::json;

use super::CODES;

/// More than the share of one address, and less than the total.
const TRIES: u64 = 120;
/// One address gets the total divided by this.
const SHARE: u64 = 4;

/// The configuration that docs/production.md describes for a proxy that terminates TLS.
fn behind_a_proxy(config: EnvoyConfig) -> EnvoyConfig {
    config.manager(|manager| {
        manager["xff_num_trusted_hops"] = json!(1);
        let early = &mut manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"];
        let mutations = early.as_array_mut().unwrap();
        let before = mutations.len();
        mutations.retain(|mutation| mutation["remove"] != "x-forwarded-for");
        assert_eq!(mutations.len(), before - 1);
    })
}

fn of(request: Request, forwarded_for: &str) -> Request {
    request.header("x-forwarded-for", forwarded_for)
}

/// Sends callbacks with invented codes, each with the `forwarded_for` of its number. Returns how many were refused
/// because of a limit.
fn made_up_callbacks(gate: &Gate, forwarded_for: impl Fn(u64) -> String) -> u64 {
    let mut over = 0;
    for number in 0..TRIES {
        let (browser, forwarded_for) = (Client::new(), forwarded_for(number));
        let begun = of(browser.navigation("GET", &gate.url("/oauth2/login")), &forwarded_for).send().unwrap();
        let state = begun.redirect_parameter("state").unwrap();
        let issuer = form_urlencoded::byte_serialize(gate.provider.issuer().as_bytes()).collect::<String>();
        let callback = gate.url(&format!("/oauth2/callback?code=made-up&state={state}&iss={issuer}"));
        let answer = of(browser.navigation("GET", &callback), &forwarded_for).send().unwrap();
        assert!([400, 503].contains(&answer.status), "{answer}");
        over += u64::from(answer.status == 503);
    }
    over
}

#[test]
fn f902_behind_a_proxy_the_address_is_the_one_that_it_says() {
    let somebody = |number: u64| format!("10.0.{number}.1");
    // In the shipped configuration no proxy is trusted.
    let shipped = Gate::builder().workers(1).start();
    let began = Instant::now();
    assert!(made_up_callbacks(&shipped, somebody) > 0);
    let most = (CODES.at_once + CODES.per_second * (began.elapsed().as_secs() + 1)) / SHARE;
    assert!(shipped.provider.count(Grant::AuthorizationCode) as u64 <= most);

    let gate = Gate::builder().workers(1).envoy(behind_a_proxy).start();
    assert_eq!(made_up_callbacks(&gate, somebody), 0, "each has a share");

    // The client's own entry is to the left of the proxy's.
    let gate = Gate::builder().workers(1).envoy(behind_a_proxy).start();
    let (before, began) = (gate.provider.count(Grant::AuthorizationCode) as u64, Instant::now());
    let stranger = |number: u64| format!("{}, 203.0.113.7", somebody(number));
    assert!(made_up_callbacks(&gate, stranger) > 0);
    let asked = gate.provider.count(Grant::AuthorizationCode) as u64 - before;
    let most = (CODES.at_once + CODES.per_second * (began.elapsed().as_secs() + 1)) / SHARE;
    assert!(asked <= most, "{asked} of {most}");
    // Other users can sign in while this client is refused.
    let (other, callback) = gate.at_callback("mlflow_user", "/");
    let back = of(other.navigation("GET", &callback), "10.0.0.1, 198.51.100.9").send().unwrap();
    assert_eq!(back.status, 303, "{back}");
    let callback = gate.callback_of(&Client::new(), "mlflow_user", "/");
    assert_refused(&gate, 400, || of(Client::new().navigation("GET", &callback), "10.0.0.1").send());
}
