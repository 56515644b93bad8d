//! Users and permissions in MLflow, and a stack from before MLflow had users.

use oidc_gate_testkit::browser::{Client, Response};
use serde_json::{Value, json};

use crate::stack::Stack;

/// MLflow as it was started before.
const BEFORE: &str = "services: {mlflow: {command: [mlflow, server, --host, 0.0.0.0, --port, '5000']}}\n";
const EXPERIMENTS: &str = "/api/2.0/mlflow/experiments";

#[test]
fn mlflow_knows_people_by_their_name_and_administrators_by_their_group() {
    let stack = Stack::up();
    for (name, admin) in [("mlflow_user", false), ("mlflow_admin", true)] {
        let url = stack.url("/ajax-api/2.0/mlflow/users/current");
        let response = Client::new().request("GET", &url).bearer(&stack.token(name)).send().unwrap();
        let user: Value = response.json()["user"].clone();
        assert_eq!((&user["username"], &user["is_admin"]), (&json!(name), &json!(admin)), "{response}");
    }
}

#[test]
#[ignore = "slow: MLflow starts twice"]
fn the_printed_commands_move_a_stack_from_before_mlflow_had_users() {
    let mut stack = Stack::up();
    std::fs::write(stack.checkout().join("before.yml"), BEFORE).unwrap();
    let before = stack.with_settings(&[("COMPOSE_FILE", "docker-compose.yml:before.yml")]);
    // MLflow's database as that version left it.
    stack.shell(
        "docker compose exec -T postgres psql -U postgres -d mlflow -v ON_ERROR_STOP=1 -qc \
         'DROP TABLE users, roles, role_permissions, user_role_assignments, experiment_permissions, \
         registered_model_permissions, scorer_permissions, gateway_secret_permissions, gateway_endpoint_permissions, \
         gateway_model_definition_permissions, workspace_permissions, alembic_version_auth CASCADE'",
    );
    let user = stack.token("mlflow_user");
    let body = json!({"name": "from before", "tags": [{"key": "mlflow.user", "value": "mlflow_user"}]});
    let made = post(&stack, "create", &user, &body);
    assert_eq!(made.status, 200, "{made}");
    let id = json!({"experiment_id": made.json()["experiment_id"]});
    drop(before);
    let said = stack.run("move-to-users");
    assert!(said.contains("(from before) would belong to mlflow_user"), "{said}");
    let said = stack.run("assign-owners");
    assert!(said.contains("(from before) now belongs to mlflow_user"), "{said}");
    stack.bring_up();
    let delete = post(&stack, "delete", &stack.token("mlflow_user"), &id);
    assert_eq!(delete.status, 200, "{delete}");
    std::fs::remove_file(stack.checkout().join("before.yml")).unwrap();
}

fn post(stack: &Stack, call: &str, token: &str, body: &Value) -> Response {
    let url = stack.url(&format!("{EXPERIMENTS}/{call}"));
    Client::new().request("POST", &url).bearer(token).json(body).send().unwrap()
}
