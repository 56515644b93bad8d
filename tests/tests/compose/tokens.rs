//! The table of tokens: create, use, list, delete, rotate and expire, with the printed commands.

use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::wait_until;
use serde_json::Value;

use crate::stack::{PASSWORD, Stack};

/// The clock leeway of the gate, plus the second that a token lives.
const LEEWAY: Duration = Duration::from_secs(62);

#[test]
fn the_printed_curl_commands_get_a_token_and_use_it() {
    let stack = Stack::up();
    let said = stack.run("token");
    let answer: Value = serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{said}"));
    assert!(answer["experiments"].as_array().is_some_and(|found| !found.is_empty()), "{said}");
}

#[test]
fn the_printed_python_logs_a_run() {
    let stack = Stack::up();
    assert_eq!(stack.run("token-python").lines().last().unwrap_or_default().len(), 32);
}

#[test]
fn a_request_without_a_token_or_with_a_broken_one_gets_401() {
    let stack = Stack::up();
    let mut token = stack.token("mlflow_user");
    assert_eq!(stack.api(&token).status, 200);
    token.pop();
    assert_eq!(stack.api(&token).status, 401);
    let script =
        "curl -s -o /dev/null -w '%{http_code}' http://localhost:5000/api/2.0/mlflow/experiments/search";
    assert_eq!(stack.shell(script), "401");
}

#[test]
fn sessions_are_listed_and_ended_by_the_admin_api_and_their_refresh_tokens_with_them() {
    let stack = Stack::up();
    let answer = stack.password_grant("mlflow_user");
    let refresh = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    let sessions = || {
        let said = stack.run("list-sessions");
        serde_json::from_str::<Value>(&said).unwrap_or_else(|_| panic!("{said}")).as_array().unwrap().len()
    };
    assert!(sessions() > 0);
    stack.run("end-sessions");
    assert_eq!(sessions(), 0);
    let refused = stack.tokens(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]);
    assert_eq!(refused.json()["error"], "invalid_grant", "{refused}");
}

#[test]
fn sessions_that_the_admin_api_ends_are_over_at_the_gate_and_others_go_on() {
    let stack = Stack::up();
    let (ended, other) = (Client::new(), Client::new());
    stack.sign_in(&ended, "mlflow_user", PASSWORD);
    stack.sign_in(&other, "mlflow_admin", PASSWORD);
    let token = stack.token("mlflow_user");
    assert!(stack.may_use_mlflow(&ended) && stack.may_use_mlflow(&other));
    assert_eq!(stack.api(&token).status, 200);
    stack.run("end-sessions");
    // Without a message the gate would notice only at the next refresh, minutes later. Connections are spread over the
    // workers.
    stack.eventually("the session is refused by every worker", || {
        (0..8).all(|_| stack.ask_mlflow(&ended).is_ok_and(|answer| answer.status == 401))
    });
    stack.eventually("the token of an ended session is refused", || stack.api(&token).status == 401);
    let target = ended.sent_to_sign_in(&stack.url("/")).unwrap();
    assert!(target.as_ref().is_some_and(|target| target.starts_with(stack.keycloak())), "{target:?}");
    assert!(stack.may_use_mlflow(&other), "somebody else's session goes on");
    stack.eventually("Envoy's log says that Keycloak told it", || {
        let told = ["\"method\":\"POST\"", "\"path\":\"/oauth2/backchannel-logout\"", "\"status\":200,"];
        stack.access_log().iter().any(|line| told.iter().all(|part| line.contains(part)))
    });
    stack.sign_in(&ended, "mlflow_user", PASSWORD);
    assert!(stack.may_use_mlflow(&ended), "and may sign in again");
}

#[test]
fn a_token_can_be_revoked_by_itself() {
    let stack = Stack::up();
    let answer = stack.password_grant("mlflow_user");
    let refresh = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    let secret = stack.setting("OIDC_CLIENT_SECRET");
    stack.shell(&format!(
        "curl -sf http://localhost:8080/realms/mlflow/protocol/openid-connect/revoke -d client_id=mlflow \
         -d client_secret={secret} -d token={refresh}"
    ));
    let refused = stack.tokens(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]);
    assert_eq!(refused.status, 400, "{refused}");
}

#[test]
fn a_refresh_token_rotates_and_the_old_one_is_spent() {
    let stack = Stack::up();
    let said = stack.run_and("rotate", "echo $FIRST $SECOND");
    let (first, second) = said.trim().split_once(' ').unwrap();
    assert!(first.len() > 100 && second.len() > 100 && first != second);
    let refused = stack.tokens(&[("grant_type", "refresh_token"), ("refresh_token", first)]);
    assert_eq!(refused.json()["error"], "invalid_grant", "{refused}");
}

#[test]
fn tokens_live_as_long_as_the_realm_says() {
    let stack = Stack::up();
    assert_eq!(stack.access_token_lifetime(), Some(300));
    stack.kcadm("kcadm update realms/mlflow -s accessTokenLifespan=120");
    let changed = stack.access_token_lifetime();
    stack.kcadm("kcadm update realms/mlflow -s accessTokenLifespan=300");
    assert_eq!(changed, Some(120));
}

#[test]
fn an_expired_token_gets_401() {
    let mut stack = Stack::up();
    stack.kcadm("kcadm update realms/mlflow -s accessTokenLifespan=1");
    let token = stack.token("mlflow_admin");
    stack.kcadm("kcadm update realms/mlflow -s accessTokenLifespan=300");
    assert_eq!(stack.api(&token).status, 200, "the gate allows for clocks that differ by a minute");
    // Other tests may use the stack for a minute.
    stack.share();
    let issued = Instant::now();
    assert!(wait_until(LEEWAY * 2, || issued.elapsed() > LEEWAY));
    stack.take();
    let expired = || stack.compose("logs --no-log-prefix envoy").matches("token_expired").count();
    let before = expired();
    assert_eq!(stack.api(&token).status, 401, "a token that lived for a second is still accepted");
    stack.eventually("Envoy's log says that it has expired", || expired() > before);
}
