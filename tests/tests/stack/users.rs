//! Users and their rights in MLflow, which knows them from the gate's assertion.

use oidc_gate_testkit::browser::{Client, Response};
use serde_json::{Value, json};

use crate::python;
use crate::stack::{PASSWORD, SEARCH, Stack};

/// Who MLflow says the caller is.
const CURRENT: &str = "/ajax-api/2.0/mlflow/users/current";
const EXPERIMENTS: &str = "/api/2.0/mlflow/experiments";

#[test]
fn mlflow_knows_people_and_services_by_their_name_and_administrators_by_their_group() {
    let stack = Stack::running();
    for (user, admin) in [("mlflow_user", false), ("mlflow_admin", true)] {
        assert_is(&current(&stack, &stack.token(user)), user, admin);
        let (browser, callback) = stack.login_up_to_the_callback(user);
        browser.visit(&callback).unwrap();
        let response = browser.fetch(&stack.url(CURRENT)).unwrap();
        assert_is(&response, user, admin);
    }
    let _member = stack.service_account_joins("mlflow_users");
    assert_is(&current(&stack, &stack.client_credentials_token()), "service-account-mlflow", false);
}

#[test]
fn what_a_client_says_about_itself_is_not_believed() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let admin = stack.token("mlflow_admin");
    let client = Client::new();
    let mut request = client.request("GET", &stack.url(CURRENT)).bearer(&token);
    for (name, value) in [
        ("x-mlflow-authorization", format!("Bearer {admin}")),
        ("x-mlflow-authorization", "Basic bWxmbG93X2FkbWluOng=".to_owned()),
        ("x-forwarded-user", "mlflow_admin".to_owned()),
        ("x-forwarded-preferred-username", "mlflow_admin".to_owned()),
        ("x-forwarded-groups", "/mlflow_admins".to_owned()),
    ] {
        request = request.header(name, value);
    }
    assert_is(&request.send().unwrap(), "mlflow_user", false);
    let experiment = stack.make_experiment(&token, "said-by-a-client");
    let body = json!({"experiment_id": experiment, "user_id": "mlflow_admin", "tags": [
        {"key": "mlflow.user", "value": "mlflow_admin"},
    ]});
    let run = stack.post("/api/2.0/mlflow/runs/create", Some(&token), &body);
    assert_eq!(run.status, 200, "{run}");
    assert_eq!(run.json()["run"]["info"]["user_id"], "mlflow_user", "{run}");
    assert!(!run.text().contains("mlflow_admin"), "{run}");
}

#[test]
fn others_read_what_an_owner_made_and_only_the_owner_and_administrators_change_it() {
    let stack = Stack::running();
    let owner = stack.token("mlflow_user");
    let _member = stack.joins_group("outsider", "mlflow_users");
    let other = stack.token("outsider");
    let experiment = stack.make_experiment(&owner, "owned");
    let id = json!({"experiment_id": experiment});
    let get = stack.get_with(&format!("{EXPERIMENTS}/get?experiment_id={experiment}"), &other);
    assert_eq!(get.status, 200, "{get}");
    let tag = json!({"experiment_id": experiment, "key": "note", "value": "of another"});
    for (path, body) in [("delete", &id), ("set-experiment-tag", &tag)] {
        assert_denied(&stack.post(&format!("{EXPERIMENTS}/{path}"), Some(&other), body), path);
    }
    assert_denied(&stack.post("/api/2.0/mlflow/runs/create", Some(&other), &id), "a run");
    let delete = |token: &str| stack.post(&format!("{EXPERIMENTS}/delete"), Some(token), &id).status;
    assert_eq!(delete(&owner), 200);
    assert_eq!(stack.post(&format!("{EXPERIMENTS}/restore"), Some(&owner), &id).status, 200);
    assert_eq!(delete(&stack.token("mlflow_admin")), 200);
}

#[test]
fn viewers_read_and_change_nothing() {
    let stack = Stack::running();
    let _member = stack.joins_group("outsider", "mlflow_viewers");
    let viewer = stack.token("outsider");
    assert_is(&current(&stack, &viewer), "outsider", false);
    assert_eq!(stack.call_api(SEARCH, Some(&viewer)).status, 200);
    let create = stack.post(&format!("{EXPERIMENTS}/create"), Some(&viewer), &json!({"name": "of a viewer"}));
    assert_denied(&create, "a viewer creates");
}

#[test]
fn rights_follow_the_groups_of_each_token() {
    let stack = Stack::running();
    let experiment = stack.make_experiment(&stack.token("mlflow_user"), "for-administrators");
    let tag = json!({"experiment_id": experiment, "key": "note", "value": "of an administrator"});
    let set_tag = |token: &str| stack.post(&format!("{EXPERIMENTS}/set-experiment-tag"), Some(token), &tag);
    let before = stack.token("mlflow_admin");
    assert_eq!(set_tag(&before).status, 200);
    let demoted = stack.leaves_group("mlflow_admin", "mlflow_admins");
    let after = stack.token("mlflow_admin");
    // The older token still has the group. MLflow remembers neither.
    for _ in 0..3 {
        assert_denied(&set_tag(&after), "a former administrator");
        assert_is(&current(&stack, &after), "mlflow_admin", false);
        assert_is(&current(&stack, &before), "mlflow_admin", true);
    }
    drop(demoted);
    assert_is(&current(&stack, &stack.token("mlflow_admin")), "mlflow_admin", true);
}

#[test]
fn mlflows_own_port_believes_nobody_who_comes_around_the_gate() {
    let stack = Stack::running();
    let port = stack.application_port();
    let token = stack.token("mlflow_admin");
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    for (name, value) in [
        ("x-forwarded-user", "mlflow_admin".to_owned()),
        ("authorization", format!("Bearer {token}")),
        ("authorization", "Basic YWRtaW46cGFzc3dvcmQxMjM0".to_owned()),
        ("x-mlflow-authorization", format!("Bearer {token}")),
    ] {
        for path in [CURRENT, "/api/2.0/mlflow/experiments/search?max_results=1", "/"] {
            let response = Client::new().request("GET", &url(path)).header(name, &value).send().unwrap();
            assert_eq!(response.status, 401, "{name} {path}: {response}");
            let challenge = response.header("www-authenticate").unwrap_or_default();
            assert!(!challenge.contains("Basic"), "no password dialog: {name} {path}: {response}");
        }
    }
    assert_eq!(Client::new().request("GET", &url("/health")).send().unwrap().status, 200);
}

#[test]
fn a_token_as_the_password_of_basic_authentication_is_the_user_of_the_token() {
    let stack = Stack::running();
    let script = r#"
experiment = mlflow.set_experiment("with-basic")
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.5)
run = mlflow.get_run(run.info.run_id)
answer({"user": run.data.tags["mlflow.user"], "status": run.info.status})
"#;
    let token = stack.token("mlflow_user");
    let credentials =
        |password| [("MLFLOW_TRACKING_USERNAME", "anybody"), ("MLFLOW_TRACKING_PASSWORD", password)];
    let answer = python::run_with(&stack, &credentials(&token), script);
    assert_eq!(answer, json!({"user": "mlflow_user", "status": "FINISHED"}));
    let wrong =
        python::run_with(&stack, &credentials(PASSWORD), "answer(trouble(mlflow.search_experiments))");
    assert_eq!(wrong["code"], "UNAUTHENTICATED", "{wrong}");
}

#[test]
fn a_job_of_the_package_gets_its_token_itself() {
    let stack = Stack::running();
    let _member = stack.service_account_joins("mlflow_users");
    let secret = crate::stack::variable("OIDC_GATE_CLIENT_SECRET");
    let issuer = format!("{}/realms/mlflow", stack.keycloak());
    let answer = python::run_with(
        &stack,
        &[
            ("MLFLOW_TRACKING_AUTH", "oidc-gate"),
            ("OIDC_GATE_ISSUER", &issuer),
            ("OIDC_GATE_CLIENT_ID", "mlflow"),
            ("OIDC_GATE_CLIENT_SECRET", &secret),
        ],
        r#"
mlflow.set_experiment("of-a-job")
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.5)
answer(mlflow.get_run(run.info.run_id).data.tags["mlflow.user"])
"#,
    );
    assert_eq!(answer, "service-account-mlflow");
}

fn current(stack: &Stack, token: &str) -> Response {
    stack.get_with(CURRENT, token)
}

#[track_caller]
fn assert_is(response: &Response, name: &str, admin: bool) {
    assert_eq!(response.status, 200, "{response}");
    let user: Value = response.json()["user"].clone();
    assert_eq!((&user["username"], &user["is_admin"]), (&json!(name), &json!(admin)), "{response}");
}

#[track_caller]
fn assert_denied(response: &Response, what: &str) {
    assert_eq!(response.status, 403, "{what}: {response}");
    assert_eq!(response.json()["error_code"], "PERMISSION_DENIED", "{what}: {response}");
}
