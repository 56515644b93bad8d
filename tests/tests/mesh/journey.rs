//! What a gate must do, whatever configured it.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::Forgery;
use oidc_gate_tests::{
    BOUND, Gate, RefusedBy, assert_accepted, assert_allowed, assert_everywhere, assert_refused,
    assert_refused_by, assert_soon_everywhere,
};
use serde_json::{Value, json};

/// A call of MLflow, for which everybody needs a credential.
const API: &str = "/api/2.0/mlflow/experiments/get";

/// A login, a token, refusals of both, and the end of a session: by its user, and by the provider.
pub fn works(gate: &Gate) {
    // The filter uses this cluster. The fixture waits for another one.
    gate.envoy().wait_for_healthy("oidc-gate-redis", BOUND).unwrap();
    let client = gate.signed_in("mlflow_user");
    assert_allowed(gate, || client.navigate(&gate.url("/")));
    let token = gate.provider.access_token("mlflow_user");
    let seen = assert_allowed(gate, || gate.with_token(API, &token).send());
    assert_eq!(seen.values("x-forwarded-preferred-username"), ["mlflow_user"]);
    assert_refused(gate, 401, || Client::new().request("GET", &gate.url(API)).send());
    let outsider = gate.provider.access_token("outsider");
    assert_refused(gate, 403, || gate.with_token(API, &outsider).send());
    let spoiled = format!("{token}x");
    assert_refused(gate, 401, || gate.with_token(API, &spoiled).send());
    let spoofed = || gate.with_token(API, &token).header("x_forwarded_user", "root").send();
    assert_refused_by(gate, RefusedBy::Envoy, 400, spoofed);
    // The browser deletes its cookie at sign-out, but there may be a stolen copy.
    let kept = gate.browser_with(&gate.session_cookie(&client).unwrap());
    let ended = client.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
    assert!((200..400).contains(&ended.status), "{ended}");
    assert_refused(gate, 401, || client.fetch(&gate.url(API)));
    assert_soon_everywhere(gate, 401, API, |url| kept.fetching("GET", url));
    announced_logout(gate);
}

/// Lets users call the path by which the fixture sees that workers live.
pub fn allow_canary(settings: &mut Value) {
    settings["policy"]["rules"] = json!([{"path": {"exact": "/canary"}, "access": "users"}]);
}

/// The provider notifies the gate that a session has ended.
fn announced_logout(gate: &Gate) {
    let (client, sid) = gate.signed_in_with_sid("mlflow_user");
    assert_everywhere(gate, 200, API, |url| client.fetching("GET", url));
    let message = gate.provider.logout_token(&sid, &Forgery::new());
    assert_accepted(&gate.provider.deliver_logout_token(&message));
    assert_soon_everywhere(gate, 401, API, |url| client.fetching("GET", url));
}
