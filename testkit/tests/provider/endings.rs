//! Which clients the provider notifies when sessions end, with which messages, and which sessions end without one.

use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::Endpoint;
use serde_json::{Value, json};

use crate::support::{BackChannel, GATE, endpoint, is_active, post, refresh, refusal, text, tokens};

#[test]
fn logging_a_user_out_sends_one_logout_token_for_each_session_and_waits_for_the_answers() {
    let gate = BackChannel::start(Some(200));
    let provider = gate.provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let second = tokens(&provider, &Client::new(), "mlflow_user");
    let other = tokens(&provider, &Client::new(), "mlflow_admin");
    let deliveries = provider.log_out_user("mlflow_user");
    assert_eq!(deliveries.iter().map(|delivery| delivery.status).collect::<Vec<_>>(), [Some(200), Some(200)]);
    assert_eq!(provider.deliveries(), deliveries);
    let posted = gate.posted();
    assert!(posted.iter().all(|posted| posted.path == "/oauth2/backchannel-logout"), "{posted:#?}");
    assert!(posted.iter().all(|posted| posted.content_type == "application/x-www-form-urlencoded"));
    let told = gate.claims();
    let mut sids: Vec<&str> = told.iter().map(|claims| claims["sid"].as_str().unwrap()).collect();
    let mut expected = [text(&first, "session_state"), text(&second, "session_state")];
    sids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sids, expected);
    for token in &told {
        assert_eq!((&token["aud"], &token["typ"]), (&json!("mlflow"), &json!("Logout")));
        assert_eq!(token["sub"], json!(provider.user("mlflow_user").subject));
        assert_eq!(token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap(), 120);
        assert_eq!(token["events"]["http://schemas.openid.net/event/backchannel-logout"], json!({}));
        assert_eq!(token["events"]["revoke_offline_access"], json!(true));
        assert_eq!(token.get("nonce"), None);
    }
    assert!(!is_active(&provider, &first) && !is_active(&provider, &second) && is_active(&provider, &other));
}

#[test]
fn an_answer_that_does_not_come_is_given_up_after_five_seconds_and_changes_nothing() {
    let silent = BackChannel::start(None);
    let provider = silent.provider();
    let tokens = tokens(&provider, &Client::new(), "mlflow_user");
    let delivery = provider.delete_session(text(&tokens, "session_state")).remove(0);
    assert_eq!(delivery.status, None);
    assert!(delivery.took >= Duration::from_secs(5), "{delivery:?}");
    assert!(!is_active(&provider, &tokens));
    assert_eq!(silent.posted().len(), 1, "there is no second try");
}

#[test]
fn signing_out_at_the_provider_tells_the_client_before_the_browser_goes_on() {
    let gate = BackChannel::start(Some(501));
    let provider = gate.provider();
    let browser = Client::new();
    let tokens = tokens(&provider, &browser, "mlflow_user");
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("id_token_hint", text(&tokens, "id_token"))
        .append_pair("post_logout_redirect_uri", &format!("{GATE}/oauth2/signed-out"))
        .finish();
    let out = browser.navigate(&format!("{}?{query}", endpoint(&provider, "logout"))).unwrap();
    assert_eq!(out.status, 302, "{out}");
    assert_eq!(gate.claims()[0]["sid"], tokens["session_state"]);
    // The second time the session no longer exists, so the client is not notified.
    assert_eq!(browser.navigate(&format!("{}?{query}", endpoint(&provider, "logout"))).unwrap().status, 302);
    assert_eq!(gate.posted().len(), 1);
}

#[test]
fn what_keycloak_does_not_announce_is_not_announced() {
    let gate = BackChannel::start(Some(200));
    let provider = gate.provider();
    let begin = || tokens(&provider, &Client::new(), "mlflow_user");
    let (revoked, detached, one, two) = (begin(), begin(), begin(), begin());
    let answer = post(&provider, "revoke", &[("token", text(&revoked, "refresh_token"))]);
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(refusal(&provider, &revoked), "Session not active");
    refresh(&provider, &detached);
    refusal(&provider, &detached);
    assert_eq!(provider.delete_session(text(&detached, "session_state")), []);
    let access = post(&provider, "revoke", &[("token", text(&one, "access_token"))]);
    assert_eq!(access.status, 200);
    assert!(!is_active(&provider, &one), "an access token takes only itself along");
    assert_eq!(refresh(&provider, &one).status, 200);
    let garbage = post(&provider, "revoke", &[("token", "garbage")]);
    assert_eq!((garbage.status, &garbage.json()["error"]), (200, &json!("invalid_token")));
    provider.set_groups("mlflow_user", &[]);
    provider.disable_user("mlflow_user");
    provider.set_not_before(provider.now() + 1);
    provider.expire_session(text(&two, "session_state"));
    provider.delete_user("mlflow_user");
    assert_eq!(gate.posted(), []);
}

#[test]
fn log_out_all_and_push_not_before_post_bare_tokens_to_the_admin_url() {
    let gate = BackChannel::start(Some(204));
    let provider = gate.provider();
    let browser = Client::new();
    let tokens = tokens(&provider, &browser, "mlflow_user");
    let before = provider.now();
    assert_eq!(provider.log_out_all().len(), 1);
    provider.set_not_before(before - 5);
    assert_eq!(provider.push_not_before().len(), 1);
    let paths: Vec<String> = gate.posted().into_iter().map(|posted| posted.path).collect();
    assert_eq!(paths, ["/oauth2/k_logout", "/oauth2/k_push_not_before"]);
    assert!(gate.posted().iter().all(|posted| posted.content_type.starts_with("text/plain")));
    let told = gate.claims();
    assert_eq!((&told[0]["action"], &told[1]["action"]), (&json!("LOGOUT"), &json!("PUSH_NOT_BEFORE")));
    assert!(told[0]["notBefore"].as_i64().unwrap() >= before);
    assert_eq!(told[1]["notBefore"], json!(before - 5));
    for token in &told {
        assert_eq!((&token["resource"], token.get("iss"), token.get("aud")), (&json!("mlflow"), None, None));
    }
    assert_ne!(told[0]["id"], told[1]["id"]);
    assert_eq!(refusal(&provider, &tokens), "Session not active");
}

#[test]
fn introspection_wants_the_client_and_knows_access_tokens_only() {
    let gate = BackChannel::start(Some(200));
    let provider = gate.provider();
    let tokens = tokens(&provider, &Client::new(), "mlflow_user");
    let url = endpoint(&provider, "token/introspect");
    let access_token = text(&tokens, "access_token");
    let stranger = Client::new().request("POST", &url).form(&[("token", access_token)]).send().unwrap();
    assert_eq!(stranger.status, 401, "{stranger}");
    let known = post(&provider, "token/introspect", &[("token", access_token)]).json();
    assert_eq!((&known["active"], &known["username"]), (&json!(true), &json!("mlflow_user")));
    assert_eq!(known["sid"], tokens["session_state"]);
    for other in [text(&tokens, "refresh_token"), text(&tokens, "id_token"), "garbage"] {
        assert_eq!(post(&provider, "token/introspect", &[("token", other)]).json(), json!({"active": false}));
    }
    assert_eq!(provider.count(Endpoint::Introspection), 5);
}

#[test]
fn tokens_made_by_hand_count_as_those_that_were_asked_for() {
    let provider = crate::support::provider();
    let alone = json!({"access_token": provider.access_token("mlflow_user")});
    let tokens = tokens(&provider, &Client::new(), "mlflow_user");
    let sibling = json!({"access_token": provider.access_token_in(text(&tokens, "session_state"))});
    let bearer = |token: &Value| {
        let answer = post(&provider, "token/introspect", &[("token", text(token, "access_token"))]);
        answer.json()["active"].as_bool().unwrap()
    };
    assert!(bearer(&alone) && bearer(&sibling));
    provider.delete_session(text(&tokens, "session_state"));
    assert!(bearer(&alone) && !bearer(&sibling));
}
