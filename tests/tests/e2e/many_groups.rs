//! Users with hundreds of groups, up to the limits of Envoy and of a session.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::User;
use oidc_gate_tests::{Gate, RefusedBy, assert_allowed, assert_refused, assert_refused_by};

#[test]
fn f601_hundreds_of_long_groups_get_in_by_login_and_as_bearer_up_to_envoys_limit() {
    let gate = Gate::start();
    // Names of 45 characters, and the group that grants access.
    let add = |username: &str, number: usize| {
        let names = (0..number).map(|n| format!("/department/research-and-development/team-{n:03}"));
        let names: Vec<String> = names.chain(["/mlflow_users".to_owned()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        gate.provider.add_user(User::new(username, &names));
    };
    for (username, number, length) in [("busy", 500, 30_000..36_000), ("busier", 850, 52_000..58_000)] {
        add(username, number);
        let token = gate.provider.access_token(username);
        assert!(length.contains(&token.len()), "{username}: {}", token.len());
        let browser = gate.signed_in(username);
        let bearer = || Client::new().fetching("GET", &gate.url("/x")).bearer(&token);
        for ask in [browser.fetching("GET", &gate.url("/x")), bearer(), bearer().http2()] {
            let received = assert_allowed(&gate, || ask.send());
            assert_eq!(received.header("x-forwarded-groups"), Some("/mlflow_users"), "{username}");
            assert_eq!(received.header("authorization"), None);
        }
        // The ID token is too long for `id_token_hint`. Signing out works without it.
        let response = browser.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
        let location = response.header("location").unwrap_or_default().to_owned();
        assert!(location.contains("client_id=mlflow") && !location.contains("id_token_hint"), "{response}");
        let journey = browser.follow(response).unwrap();
        assert!(journey.end().status == 200, "{username}: {}", journey.end());
        assert_refused(&gate, 401, || browser.fetch(&gate.url("/x")));
    }
    // First over Envoy's limit for headers, where there is still a session; then over the limit of a session.
    add("busiest", 1100);
    let token = gate.provider.access_token("busiest");
    assert_refused_by(&gate, RefusedBy::Envoy, 431, || {
        Client::new().fetching("GET", &gate.url("/x")).bearer(&token).send()
    });
    let browser = gate.signed_in("busiest");
    assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
    add("overwhelmed", 1400);
    let (client, callback) = gate.at_callback("overwhelmed", "/x");
    let page = assert_refused(&gate, 400, || client.navigate(&callback));
    assert!(page.text().contains(" bytes, and the limit is 61440."), "{page}");
    let log = gate.envoy().log();
    let line = log.lines().find(|line| line.contains("reason=login_too_large")).unwrap_or_default();
    assert!(line.contains("the session has ") && line.contains(" bytes, the limit is 61440"), "{log}");
}
