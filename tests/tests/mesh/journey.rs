//! What a gate must do, whoever configured it.

use oidc_gate_testkit::browser::Client;
use oidc_gate_tests::{Gate, RefusedBy, assert_allowed, assert_refused, assert_refused_by};

/// A login, a token, their refusals, and the end of a session.
pub fn works(gate: &Gate) {
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
    let ended = client.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
    assert!((200..400).contains(&ended.status), "{ended}");
    assert_refused(gate, 401, || client.fetch(&gate.url("/api")));
}
