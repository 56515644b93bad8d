//! Refresh tokens as in Keycloak 26: rotation, reuse, and every reason to refuse one.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::{Grant, User};
use serde_json::json;

use crate::support::{
    VERIFIER, authorize, claims, code, is_active, post, provider, redeem, refresh, refusal, text, tokens,
    tokens_with,
};

#[test]
fn a_refresh_gives_a_new_id_token_of_the_same_login_with_fresh_groups() {
    let provider = provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    provider.set_groups("mlflow_user", &["/mlflow_users", "/mlflow_admins"]);
    let second = refresh(&provider, &first).json();
    let (before, after) = (claims(&first["id_token"]), claims(&second["id_token"]));
    for same in ["iss", "sub", "aud", "azp", "sid", "auth_time"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    assert_eq!((before["nonce"].as_str(), after.get("nonce")), (Some("the-nonce"), None));
    assert_ne!(before["jti"], after["jti"]);
    assert_eq!(after["groups"], json!(["/mlflow_users", "/mlflow_admins"]));
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert!(is_active(&provider, &first) && is_active(&provider, &second));
}

#[test]
fn a_refresh_token_used_twice_kills_the_winner_and_every_login_of_that_browser() {
    let provider = provider();
    let browser = Client::new();
    let first = tokens(&provider, &browser, "mlflow_user");
    let sibling = tokens(&provider, &browser, "mlflow_user");
    assert_eq!(first["session_state"], sibling["session_state"], "one browser, one sid");
    let elsewhere = tokens(&provider, &Client::new(), "mlflow_user");
    let winner = refresh(&provider, &first).json();
    assert_eq!(refusal(&provider, &first), "Maximum allowed refresh token reuse exceeded");
    assert_eq!(refusal(&provider, &winner), "Session doesn't have required client");
    assert_eq!(refusal(&provider, &sibling), "Session doesn't have required client");
    assert!(!is_active(&provider, &winner) && !is_active(&provider, &sibling));
    assert!(is_active(&provider, &elsewhere), "another browser's session goes on");
    assert_eq!(provider.spent_twice(), 1);
    assert_eq!(provider.refused(Grant::RefreshToken).len(), 3);
}

#[test]
fn a_detached_browser_that_signs_in_again_does_not_revive_its_old_tokens() {
    let provider = provider();
    let browser = Client::new();
    let old = tokens(&provider, &browser, "mlflow_user");
    let unused = refresh(&provider, &old).json();
    refusal(&provider, &old);
    let new = tokens(&provider, &browser, "mlflow_user");
    assert_eq!(new["session_state"], old["session_state"]);
    assert_eq!(refusal(&provider, &unused), "Refresh toked issued before the client session started");
    assert!(!is_active(&provider, &unused) && is_active(&provider, &new));
    assert_eq!(refresh(&provider, &new).status, 200);
}

#[test]
fn with_one_reuse_allowed_the_third_use_kills() {
    let provider = provider();
    provider.settings(|settings| settings.refresh_token_max_reuse = 1);
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let children = [refresh(&provider, &first).json(), refresh(&provider, &first).json()];
    assert!(children.iter().all(|child| is_active(&provider, child)));
    assert_eq!(refusal(&provider, &first), "Maximum allowed refresh token reuse exceeded");
    assert!(!children.iter().any(|child| is_active(&provider, child)));
}

#[test]
fn without_rotation_a_refresh_token_is_good_as_often_as_anybody_likes() {
    let provider = provider();
    provider.settings(|settings| settings.revoke_refresh_token = false);
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    for _ in 0..3 {
        assert_eq!(refresh(&provider, &first).status, 200);
    }
    assert_eq!(provider.spent_twice(), 0);
}

#[test]
fn without_refresh_tokens_there_is_none_in_the_answer() {
    let provider = provider();
    provider.settings(|settings| settings.use_refresh_tokens = false);
    let tokens = tokens(&provider, &Client::new(), "mlflow_user");
    assert_eq!((tokens.get("refresh_token"), &tokens["refresh_expires_in"]), (None, &json!(0)));
}

#[test]
fn lifetimes_are_as_set_and_never_longer_than_the_session() {
    let provider = provider();
    provider.settings(|settings| {
        settings.access_token_lifespan = 40;
        settings.sso_session_idle_timeout = 100;
        settings.sso_session_max_lifespan = 130;
    });
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    let access = claims(&first["access_token"]);
    assert_eq!(access["exp"].as_i64().unwrap() - access["iat"].as_i64().unwrap(), 40);
    assert_eq!(first["expires_in"], json!(40));
    // On a slow machine seconds may pass between sign-in and tokens.
    let idle = first["refresh_expires_in"].as_i64().unwrap();
    assert!((60..=100).contains(&idle), "{first}");
    // A refresh restarts the idle time, which is limited by the session's end.
    provider.set_clock_offset(95);
    let second = refresh(&provider, &first).json();
    let left = second["refresh_expires_in"].as_i64().unwrap();
    assert!((1..=35).contains(&left), "{second}");
    assert!(second["expires_in"].as_i64().unwrap() <= left, "{second}");
    provider.set_clock_offset(131);
    assert_eq!(refusal(&provider, &second), "Token is not active");
    assert!(!is_active(&provider, &second));
}

#[test]
fn every_reason_to_refuse_has_keycloaks_words() {
    let provider = provider();
    provider.add_user(User::new("gone", &[]));
    let begin = |username| tokens(&provider, &Client::new(), username);
    let (ended, disabled, stale, timed_out, deleted) =
        (begin("mlflow_user"), begin("mlflow_admin"), begin("outsider"), begin("outsider"), begin("gone"));
    provider.delete_session(text(&ended, "session_state"));
    provider.disable_user("mlflow_admin");
    provider.delete_user("gone");
    provider.expire_session(text(&timed_out, "session_state"));
    assert_eq!(refusal(&provider, &ended), "Session not active");
    assert_eq!(refusal(&provider, &disabled), "User disabled");
    assert_eq!(refusal(&provider, &deleted), "Session not active");
    assert_eq!(refusal(&provider, &timed_out), "Session not active");
    assert_eq!(refusal(&provider, &json!({"refresh_token": "garbage"})), "Invalid refresh token");
    assert!(is_active(&provider, &stale));
    // In whole seconds: a token from the same second stays valid.
    let issued = claims(&stale["access_token"])["iat"].as_i64().unwrap();
    provider.set_not_before(issued);
    assert!(is_active(&provider, &stale));
    provider.set_not_before(issued + 1);
    assert!(!is_active(&provider, &stale) && !is_active(&provider, &disabled));
    assert_eq!(refusal(&provider, &stale), "Stale token");
    provider.set_not_before(0);
    provider.enable_user("mlflow_admin");
    assert_eq!(refresh(&provider, &disabled).status, 200, "only a user enabled again can go on");
}

#[test]
fn a_code_that_comes_twice_detaches_too() {
    let provider = provider();
    let code = code(&provider);
    let tokens = redeem(&provider, &code, VERIFIER).json();
    assert_eq!(redeem(&provider, &code, VERIFIER).json()["error_description"], "Code not valid");
    assert_eq!(refusal(&provider, &tokens), "Session doesn't have required client");
    assert!(!is_active(&provider, &tokens));
    assert_eq!(provider.spent_twice(), 1);
    assert!(!provider.sessions_of("mlflow_user").iter().any(|session| session.attached));
}

#[test]
fn an_offline_login_leaves_the_browser_signed_out_and_outlives_end_session() {
    let provider = provider();
    let browser = Client::new();
    let tokens = tokens_with(&provider, &browser, "mlflow_user", "openid offline_access");
    assert_eq!(claims(&tokens["refresh_token"])["typ"], "Offline");
    assert!(authorize(&provider, &browser, |_| {}).form_action().is_some());
    post(&provider, "logout", &[("id_token_hint", text(&tokens, "id_token"))]);
    let second = refresh(&provider, &tokens);
    assert_eq!(second.status, 200, "{second}");
    assert_eq!(provider.deliveries(), []);
    // A user's logout does not end it either, but makes its tokens stale.
    provider.set_clock_offset(2);
    assert_eq!(provider.log_out_user("mlflow_user"), []);
    assert_eq!(refusal(&provider, &second.json()), "Stale token");
    provider.delete_session(text(&tokens, "session_state"));
    assert_eq!(refusal(&provider, &second.json()), "Offline user session not found");
}

#[test]
fn the_not_before_policy_shows_in_the_next_answer() {
    let provider = provider();
    let first = tokens(&provider, &Client::new(), "mlflow_user");
    assert_eq!(first["not-before-policy"], 0);
    provider.log_out_user("mlflow_user");
    let again = tokens(&provider, &Client::new(), "mlflow_user");
    assert_eq!(again["not-before-policy"], json!(provider.user("mlflow_user").not_before));
    assert!(is_active(&provider, &again), "a login after it counts");
}
