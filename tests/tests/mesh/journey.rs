//! What a gate must do, whoever configured it.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::Forgery;
use oidc_gate_tests::{
    BOUND, Gate, RefusedBy, assert_allowed, assert_everywhere, assert_refused, assert_refused_by,
    assert_soon_everywhere,
};

/// A login, a token, their refusals, and the two ends of a session: by its user, and announced by the provider.
pub fn works(gate: &Gate) {
    // The cluster that the filter asks, which is not the one that the fixture waits for.
    gate.envoy().wait_for_healthy("oidc-gate-redis", BOUND).unwrap();
    let client = gate.signed_in("mlflow_user");
    assert_allowed(gate, || client.navigate(&gate.url("/some/page")));
    let token = gate.provider.access_token("mlflow_user");
    let seen = assert_allowed(gate, || Client::new().request("GET", &gate.url("/api")).bearer(&token).send());
    assert_eq!(seen.values("x-forwarded-preferred-username"), ["mlflow_user"]);
    assert_refused(gate, 401, || Client::new().request("GET", &gate.url("/api")).send());
    let outsider = gate.provider.access_token("outsider");
    assert_refused(gate, 403, || Client::new().request("GET", &gate.url("/api")).bearer(&outsider).send());
    let spoiled = format!("{token}x");
    assert_refused(gate, 401, || Client::new().request("GET", &gate.url("/api")).bearer(&spoiled).send());
    let spoofed = || {
        Client::new()
            .request("GET", &gate.url("/api"))
            .bearer(&token)
            .header("x_forwarded_user", "root")
            .send()
    };
    assert_refused_by(gate, RefusedBy::Envoy, 400, spoofed);
    // The browser forgets its cookie at sign-out; somebody may have kept it.
    let kept = Client::new();
    kept.jar().plant("localhost", gate.session_cookie_name(), &gate.session_cookie(&client).unwrap());
    let ended = client.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
    assert!((200..400).contains(&ended.status), "{ended}");
    assert_refused(gate, 401, || client.fetch(&gate.url("/api")));
    assert_soon_everywhere(gate, 401, "/api", |url| kept.fetching("GET", url));
    announced_logout(gate);
}

/// The provider tells the gate by itself that a session is over.
fn announced_logout(gate: &Gate) {
    let (client, sid) = gate.signed_in_with_sid("mlflow_user");
    assert_everywhere(gate, 200, "/api", |url| client.fetching("GET", url));
    let message = gate.provider.logout_token(&sid, &Forgery::new());
    let delivery = gate.provider.deliver_logout_token(&message);
    assert!([Some(200), Some(204)].contains(&delivery.status), "{delivery:?}");
    assert_soon_everywhere(gate, 401, "/api", |url| client.fetching("GET", url));
}
