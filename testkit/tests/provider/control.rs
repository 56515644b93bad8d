//! What a test can make the provider do, and what it can query afterwards.

use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Grant, Hold, Times};

use crate::support::{endpoint, is_active, provider, refresh, refusal, tokens};

const BOUND: Duration = Duration::from_secs(10);

#[test]
fn an_answer_can_be_held_before_or_after_the_token_is_spent() {
    let provider = provider();
    for (hold, spent) in [(Hold::unspent(), 0), (Hold::spent(), 1)] {
        let first = tokens(&provider, &Client::new(), "mlflow_user");
        let before = provider.granted(Grant::RefreshToken);
        provider.hold(Grant::RefreshToken, &hold);
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| refresh(&provider, &first));
            hold.wait_for(1, BOUND).unwrap();
            assert_eq!(provider.granted(Grant::RefreshToken) - before, spent, "{hold:?}");
            assert_eq!(provider.under_way(Grant::RefreshToken), 1);
            // Other grants are not held.
            tokens(&provider, &Client::new(), "mlflow_admin");
            assert!(!answer.is_finished());
            hold.release();
            assert_eq!(answer.join().unwrap().status, 200);
        });
        provider.behave();
        assert_eq!(provider.granted(Grant::RefreshToken) - before, 1);
        assert_eq!(provider.under_way(Grant::RefreshToken), 0);
    }
}

#[test]
fn what_is_held_is_done_although_the_client_has_gone_away() {
    let provider = provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let hold = Hold::unspent();
    provider.hold(Grant::RefreshToken, &hold);
    let url = endpoint(&provider, "token");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", first["refresh_token"].as_str().unwrap()),
        ("client_id", provider.client_id()),
        ("client_secret", provider.client_secret()),
    ];
    let pending = Client::new().request("POST", &url).form(&form).begin();
    hold.wait_for(1, BOUND).unwrap();
    pending.abort();
    hold.release();
    assert!(wait_until(BOUND, || provider.granted(Grant::RefreshToken) == 1));
    provider.behave();
    assert_eq!(refusal(&provider, &first), "Maximum allowed refresh token reuse exceeded");
}

#[test]
fn requests_at_the_same_time_are_counted_and_only_one_refresh_wins() {
    let provider = provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let hold = Hold::unspent();
    provider.hold(Grant::RefreshToken, &hold);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| refresh(&provider, &first).status)).collect();
        hold.wait_for(3, BOUND).unwrap();
        hold.release();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(provider.most_at_once(Grant::RefreshToken), 3);
    assert_eq!(provider.most_at_once(Endpoint::Token), 3);
    assert_eq!(provider.most_at_once(Grant::AuthorizationCode), 1);
    assert_eq!((provider.count(Grant::RefreshToken), provider.count(Endpoint::Token)), (3, 4));
}

#[test]
fn a_dropped_connection_spends_the_token_or_not_as_told() {
    let provider = provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", first["refresh_token"].as_str().unwrap()),
        ("client_id", provider.client_id()),
        ("client_secret", provider.client_secret()),
    ];
    let url = endpoint(&provider, "token");
    let send = || Client::new().request("POST", &url).form(&form).send();
    provider.misbehave(Grant::RefreshToken, Times::Next(1), Behaviour::Refuse);
    assert!(send().is_err());
    assert_eq!(provider.granted(Grant::RefreshToken), 0);
    provider.misbehave(Grant::RefreshToken, Times::Next(1), Behaviour::DropAnswer);
    assert!(send().is_err());
    assert_eq!(provider.granted(Grant::RefreshToken), 1);
    assert!(is_active(&provider, &first));
    assert_eq!(refusal(&provider, &first), "Maximum allowed refresh token reuse exceeded");
}

#[test]
fn misbehaviour_and_edits_can_be_about_one_grant_only() {
    let provider = provider();
    provider.misbehave(
        Grant::RefreshToken,
        Times::Next(1),
        Behaviour::json(400, "{\"error\":\"invalid_request\"}"),
    );
    provider.edit_document(Grant::RefreshToken, |answer| answer["expires_in"] = "soon".into());
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    assert!(first["expires_in"].is_i64());
    assert_eq!(refresh(&provider, &first).json()["error"], "invalid_request");
    assert_eq!(refresh(&provider, &first).json()["expires_in"], "soon");
}

#[test]
fn the_admin_api_ends_sessions_as_the_methods_do() {
    let provider = provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let base = format!("http://localhost:{}/admin/realms/mlflow", provider.port());
    let call = |method, path: &str| Client::new().request(method, &format!("{base}{path}")).send().unwrap();
    let users = call("GET", "/users?username=mlflow_user").json();
    let id = users[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(users.as_array().unwrap().len(), 1);
    let sessions = call("GET", &format!("/users/{id}/sessions")).json();
    assert_eq!(sessions[0]["id"], first["session_state"]);
    assert_eq!(call("POST", &format!("/users/{id}/logout")).status, 204);
    assert!(!is_active(&provider, &first));
    assert_eq!(call("GET", &format!("/users/{id}/sessions")).json(), serde_json::json!([]));
    assert_eq!(call("POST", "/users/nobody/logout").status, 404);
    assert_eq!(call("POST", "/logout-all").status, 204);
    assert_eq!(provider.deliveries().len(), 2, "{:?}", provider.deliveries());
}
