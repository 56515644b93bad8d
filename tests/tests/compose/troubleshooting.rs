//! Each row of the troubleshooting section: the test causes the problem, sees it as the page describes, and solves it
//! as the page describes.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::wait_until;

use crate::stack::{PASSWORD, START_BOUND, Stack};

#[test]
fn invalid_scopes_are_reported_and_go_with_the_right_setting() {
    let mut stack = Stack::up();
    let changed = stack.with_settings(&[("OIDC_SCOPE", "\"openid profile groups\"")]);
    let client = Client::new();
    let end = client.visit(&stack.url("/")).unwrap().end().clone();
    assert!(end.text().contains("Invalid scopes") && end.text().contains("invalid_scope"), "{end}");
    drop(changed);
    stack.bring_up();
    let client = stack.signed_in("mlflow_user");
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

/// Whether a line of the access log is about a response of MLflow itself with this status.
fn is_mlflows(line: &str, status: u16) -> bool {
    line.contains(&format!("\"status\":{status},")) && line.contains("\"details\":\"via_upstream\"")
}

#[test]
fn an_internal_server_error_is_mlflows_and_in_its_log() {
    let mut stack = Stack::up();
    let run = stack.run("token-python").lines().last().unwrap_or_default().to_owned();
    let token = stack.token("mlflow_user");
    let ask = |path: &str| {
        let request = Client::new().request("GET", &stack.url(path));
        request.bearer(&token).timeout(crate::stack::BOUND).send().unwrap()
    };
    let artifacts = format!("/api/2.0/mlflow/artifacts/list?run_id={run}");
    assert_eq!(ask(&artifacts).status, 200);
    // Earlier tests may have caused the same message.
    let complaints = || {
        let log = stack.run("mlflow-log");
        ["Traceback", "EndpointConnectionError"].map(|complaint| log.matches(complaint).count())
    };
    let before = complaints();
    // Without its bucket, MLflow fails.
    stack.compose("stop minio");
    let failed = ask(&artifacts);
    assert_eq!(failed.status, 500, "{failed}");
    assert!(failed.text().contains("Internal Server Error"), "{failed}");
    stack.eventually("MLflow's log says what it misses", || {
        complaints().iter().zip(before).all(|(now, before)| *now > before)
    });
    stack.eventually("Envoy's log says whose answer it was", || {
        let failed = "\"path\":\"/api/2.0/mlflow/artifacts/list\"";
        stack.access_log().iter().any(|line| line.contains(failed) && is_mlflows(line, 500))
    });
    stack.bring_up();
    assert_eq!(stack.api(&token).status, 200);
}

#[test]
#[ignore = "slow: services start again"]
fn an_mlflow_without_its_database_answers_503_by_itself_and_says_why_in_its_log() {
    let mut stack = Stack::up();
    let token = stack.token("mlflow_user");
    let complaints = || stack.run("mlflow-log").matches("OperationalError").count();
    // Earlier tests may have stopped the database too.
    let before = complaints();
    stack.compose("stop postgres");
    let answer = stack.api(&token);
    assert_eq!(answer.status, 503, "{answer}");
    assert_eq!(answer.json()["error_code"], "TEMPORARILY_UNAVAILABLE", "{answer}");
    stack.eventually("MLflow's log says what it misses", || complaints() > before);
    stack.eventually("Envoy's log says whose answer it was", || {
        stack.access_log().iter().any(|line| is_mlflows(line, 503))
    });
    stack.bring_up();
    stack.eventually("and it is well again", || stack.api(&token).status == 200);
}

#[test]
#[ignore = "slow: services start again"]
fn a_keycloak_that_does_not_start_says_why_in_its_log_and_sessions_go_on() {
    // Keycloak's messages if the host name of its database is unknown, and if nothing listens there.
    const WITHOUT_DATABASE: [&str; 2] = ["UnknownHostException", "Failed to obtain JDBC connection"];
    let mut stack = Stack::up();
    let client = stack.signed_in("mlflow_user");
    assert!(stack.may_use_mlflow(&client));
    let complaints = || {
        let log = stack.run("keycloak-log");
        WITHOUT_DATABASE.iter().map(|complaint| log.matches(complaint).count()).sum::<usize>()
    };
    stack.compose("stop keycloak postgres");
    // Earlier tests may have stopped the database too.
    let before = complaints();
    // Keycloak cannot start without its database.
    stack.compose("start --no-deps keycloak 2>/dev/null || docker start $(docker compose ps -aq keycloak)");
    let complains = wait_until(START_BOUND, || complaints() > before);
    assert!(complains, "Keycloak's log does not say what it misses");
    let said = stack.run("keycloak-log");
    let postgres = format!("{}-postgres", std::env::var("CONTAINER_PREFIX").unwrap());
    assert!(
        !said.contains(&postgres) && !said.contains("(healthy)"),
        "the printed command shows that PostgreSQL is not there: {said}"
    );
    assert_ne!(stack.health("keycloak"), "healthy");
    // Nobody can sign in,
    let sent = Client::new().sent_to_sign_in(&stack.url("/")).unwrap();
    let login = sent.expect("a page is sent to sign in");
    assert!(login.starts_with(stack.keycloak()), "{login}");
    let form = Client::new().navigate(&login);
    assert!(
        form.as_ref().map_or(true, |page| page.form_action().is_none()),
        "there is a login form: {form:?}"
    );
    // but existing sessions still work, and the page itself needs no database.
    let page = client.navigate(&stack.url("/")).unwrap();
    assert_eq!(page.status, 200, "{page}");
    let page = Client::new().navigate(&stack.url("/oauth2/callback?code=x&state=y")).unwrap();
    assert_eq!(page.status, 400, "{page}");
    stack.bring_up();
    stack.eventually("whoever was signed in still is", || stack.may_use_mlflow(&client));
}
