//! Each row of the troubleshooting section: the trouble is made, seen as the page says, and ended as the page says.

use oidc_gate_testkit::browser::Client;

use crate::stack::{PASSWORD, Stack};

#[test]
fn invalid_scopes_are_reported_and_go_with_the_right_setting() {
    let mut stack = Stack::up();
    let changed = stack.with_settings(&[("OIDC_SCOPE", "\"openid profile groups\"")]);
    let client = Client::new();
    let end = client.visit(&stack.url("/")).unwrap().end().clone();
    assert!(end.text().contains("Invalid scopes") && end.text().contains("invalid_scope"), "{end}");
    drop(changed);
    stack.bring_up();
    let client = Client::new();
    stack.sign_in(&client, "mlflow_user", PASSWORD);
    assert!(stack.may_use_mlflow(&client));
}

#[test]
fn the_plural_name_of_the_scope_is_refused_with_the_right_one() {
    let stack = Stack::beside();
    let _changed = stack.edit_settings(&[("OIDC_SCOPES", "openid")]);
    assert!(!stack.output("docker compose up --wait").status.success());
    let log = stack.compose("logs check-env");
    assert!(log.contains("OIDC_SCOPES is not read: the name is OIDC_SCOPE"), "{log}");
}

#[test]
fn a_missing_oauth_state_is_reported_and_the_printed_commands_show_that_redis_is_well() {
    let stack = Stack::up();
    let page = Client::new().navigate(&stack.url("/oauth2/callback?code=x&state=y")).unwrap();
    assert!(page.text().contains("Missing OAuth state"), "{page}");
    let said = stack.run("redis");
    assert!(said.contains("(healthy)") && said.lines().any(|line| line == "PONG"), "{said}");
}

#[test]
fn a_user_who_is_not_allowed_gets_in_after_joining_the_group() {
    let stack = Stack::up();
    let page = stack.sign_in(&Client::new(), "outsider", PASSWORD);
    assert!(page.text().contains("User is not allowed"), "{page}");
    let membership = |verb: &str, more: &str| {
        stack.kcadm(&format!(
            "user=$(kcadm get users -r mlflow -q username=outsider -q exact=true --fields id --format csv --noquotes)\n\
             group=$(kcadm get groups -r mlflow -q search=mlflow_users -q exact=true --fields id --format csv --noquotes)\n\
             kcadm {verb} users/$user/groups/$group -r mlflow {more}"
        ))
    };
    membership("update", "-n -s realm=mlflow -s userId=$user -s groupId=$group");
    let client = Client::new();
    let page = stack.sign_in(&client, "outsider", PASSWORD);
    membership("delete", "");
    assert_eq!(page.status, 200, "{page}");
    assert!(stack.may_use_mlflow(&client));
}

#[test]
fn an_internal_server_error_is_mlflows_and_in_its_log() {
    let stack = Stack::up();
    let token = stack.token("mlflow_user");
    // MLflow without its database is one that answers 500.
    stack.compose("stop postgres");
    let url = stack.url("/api/2.0/mlflow/experiments/search?max_results=1");
    let ask = || Client::new().request("GET", &url).bearer(&token).timeout(crate::stack::BOUND).send();
    stack.eventually("MLflow misses its database", || {
        ask().is_ok_and(|response| response.status == 500 || response.status == 503)
    });
    let log = stack.run("mlflow-log");
    stack.compose("up --wait");
    assert!(log.contains("OperationalError") || log.contains("could not translate host name"), "{log}");
    assert_eq!(ask().unwrap().status, 200, "and it is well again");
}

#[test]
fn a_keycloak_that_does_not_start_says_why_in_its_log_and_sessions_go_on() {
    let mut stack = Stack::up();
    let client = Client::new();
    stack.sign_in(&client, "mlflow_user", PASSWORD);
    stack.compose("stop keycloak postgres");
    // Without its database it can't start.
    stack.compose("start --no-deps keycloak 2>/dev/null || docker start $(docker compose ps -aq keycloak)");
    stack.eventually("Keycloak complains", || {
        let said = stack.run("keycloak-log");
        said.contains("UnknownHostException")
            || said.contains("Failed to obtain JDBC connection")
            || said.contains("postgres")
    });
    let page = Client::new().navigate(&stack.url("/oauth2/callback?code=x&state=y")).unwrap();
    assert_ne!(page.status, 500, "{page}");
    stack.bring_up();
    assert!(stack.may_use_mlflow(&client), "whoever was signed in still is");
}
