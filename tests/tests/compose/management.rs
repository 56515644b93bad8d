//! Logs, stopping, deleting, new users, and configuring Keycloak from outside of its container.

use oidc_gate_testkit::browser::Client;

use crate::stack::{Stack, said};

#[test]
fn the_logs_of_mlflow_and_keycloak_are_shown() {
    let stack = Stack::up();
    let logs = stack.run("logs");
    assert!(logs.contains("Uvicorn") || logs.contains("uvicorn"), "{logs}");
    assert!(logs.contains("Keycloak 26"), "{logs}");
}

#[test]
fn down_keeps_users_runs_and_sessions() {
    let mut stack = Stack::up();
    let run = stack.run("token-python").lines().last().unwrap_or_default().to_owned();
    let client = stack.signed_in("mlflow_user");
    assert!(stack.may_use_mlflow(&client));
    stack.run("down");
    assert!(stack.ask_mlflow(&client).is_err(), "nothing is there to answer");
    stack.bring_up();
    stack.eventually("the session goes on", || stack.may_use_mlflow(&client));
    let url = stack.url(&format!("/ajax-api/2.0/mlflow/runs/get?run_id={run}"));
    assert_eq!(client.fetch(&url).unwrap().status, 200, "the run is there");
}

#[test]
#[ignore = "slow: the stack starts again"]
fn down_v_deletes_everything_and_the_next_start_makes_it_anew() {
    let mut stack = Stack::up();
    let run = stack.run("token-python").lines().last().unwrap_or_default().to_owned();
    let client = stack.signed_in("mlflow_user");
    stack.run("reset");
    let project = std::env::var("COMPOSE_PROJECT_NAME").unwrap();
    let volumes =
        stack.shell(&format!("docker volume ls -q --filter label=com.docker.compose.project={project}"));
    assert_eq!(volumes.trim(), "", "no volume is left");
    stack.bring_up();
    assert_eq!(stack.ask_mlflow(&client).unwrap().status, 401, "the session went with Redis' data");
    let fresh = stack.signed_in("mlflow_user");
    let url = stack.url(&format!("/ajax-api/2.0/mlflow/runs/get?run_id={run}"));
    assert_eq!(fresh.fetch(&url).unwrap().status, 404, "the run went with PostgreSQL's data");
}

#[test]
#[ignore = "slow: the stack starts again"]
fn a_backup_restored_into_empty_volumes_has_users_runs_and_artifacts() {
    let mut stack = Stack::up();
    stack.run("add-user");
    let run = stack.run("token-python").lines().last().unwrap_or_default().to_owned();
    stack.run("backup");
    stack.run("reset");
    stack.run("restore");
    stack.bring_up();
    let client = Client::new();
    let page = stack.sign_in(&client, "ada", "difference-engine");
    assert_eq!(page.status, 200, "{page}");
    let token = stack.token("mlflow_user");
    let read = stack.shell(&format!(
        "MLFLOW_TRACKING_URI=http://localhost:5000 MLFLOW_TRACKING_TOKEN={token} python3 -c \
         'import mlflow; print(mlflow.artifacts.load_text(\"runs:/{run}/greeting.txt\"))'"
    ));
    assert_eq!(read.trim(), "hello");
    stack.kcadm(
        "user=$(kcadm get users -r mlflow -q username=ada -q exact=true --fields id --format csv --noquotes)\n\
         kcadm delete users/$user -r mlflow",
    );
    stack.release_names_in_mlflow();
}

#[test]
#[ignore = "slow: the stack starts again"]
fn the_printed_commands_migrate_mlflows_database_and_keep_runs_and_sessions() {
    let stack = Stack::up();
    let run = stack.run("token-python").lines().last().unwrap_or_default().to_owned();
    let client = stack.signed_in("mlflow_user");
    let version = || {
        stack.shell(
            "docker compose exec -T postgres psql -U postgres -d mlflow -tAc 'select version_num from alembic_version'",
        )
    };
    let newest = version();
    // In the state that an earlier version left it.
    stack.shell(
        "docker compose stop mlflow\n\
         docker compose run --rm -T mlflow python -c 'import os; from alembic import command\n\
         from mlflow.store.db.utils import _get_alembic_config as configuration\n\
         command.downgrade(configuration(os.environ[\"MLFLOW_BACKEND_STORE_URI\"]), \"-1\")'",
    );
    assert_ne!(version(), newest);
    stack.run("upgrade-mlflow");
    assert_eq!(version(), newest);
    stack.eventually("MLflow is back", || stack.may_use_mlflow(&client));
    let url = stack.url(&format!("/ajax-api/2.0/mlflow/runs/get?run_id={run}"));
    assert_eq!(client.fetch(&url).unwrap().status, 200, "the run is there");
}

#[test]
fn a_new_user_signs_in_and_without_a_group_would_not() {
    let stack = Stack::up();
    stack.run("add-user");
    let client = Client::new();
    let page = stack.sign_in(&client, "ada", "difference-engine");
    assert_eq!(page.status, 200, "{page}");
    assert!(stack.may_use_mlflow(&client));
    stack.kcadm(
        "user=$(kcadm get users -r mlflow -q username=ada -q exact=true --fields id --format csv --noquotes)\n\
         group=$(kcadm get groups -r mlflow -q search=mlflow_users -q exact=true --fields id --format csv --noquotes)\n\
         kcadm delete users/$user/groups/$group -r mlflow",
    );
    let page = stack.sign_in(&Client::new(), "ada", "difference-engine");
    stack.kcadm(
        "user=$(kcadm get users -r mlflow -q username=ada -q exact=true --fields id --format csv --noquotes)\n\
         kcadm delete users/$user -r mlflow",
    );
    stack.release_names_in_mlflow();
    assert_eq!(page.status, 403, "{page}");
}

#[test]
#[ignore = "slow: the stack starts again"]
fn the_printed_settings_lead_to_another_bucket_and_leave_minio_out() {
    let stack = Stack::up();
    let config = stack.run_and(
        "other-bucket",
        "export COMPOSE_PROFILES S3_BUCKET S3_ENDPOINT_URL S3_REGION S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY\n\
         docker compose config --format json",
    );
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let services = config["services"].as_object().unwrap();
    assert!(!services.contains_key("minio"), "{:?}", services.keys());
    for name in ["mlflow", "bucket"] {
        let environment = &services[name]["environment"];
        assert_eq!(environment["S3_BUCKET"], "my-mlflow-artifacts", "{name}");
        assert_eq!(environment["MLFLOW_S3_ENDPOINT_URL"], "https://s3.eu-central-1.amazonaws.com", "{name}");
        assert_eq!(environment["AWS_DEFAULT_REGION"], "eu-central-1", "{name}");
        assert_eq!(environment["AWS_ACCESS_KEY_ID"], "…", "{name}");
        assert_eq!(environment["AWS_SECRET_ACCESS_KEY"], "…", "{name}");
    }
    let destination = &services["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"];
    assert_eq!(destination, "s3://my-mlflow-artifacts");
}

#[test]
fn configure_keycloak_works_without_docker_by_a_kcadm_of_this_machine() {
    let stack = Stack::up();
    let configure = |kcadm: &str, password: &str, option: &str| {
        stack.output(&format!(
            "export DOCKER_HOST=unix:///there/is/none KCADM={kcadm} KEYCLOAK_URL={} KC_BOOTSTRAP_ADMIN_PASSWORD={password} \
             MLFLOW_CLIENT_SECRET={} MLFLOW_PUBLIC_URL={} MLFLOW_BACKCHANNEL_URL=http://envoy:5000; \
             ./configure-keycloak.sh {option}",
            stack.keycloak(),
            stack.setting("OIDC_CLIENT_SECRET"),
            stack.url(""),
        ))
    };
    let kcadm = std::env::var("OIDC_GATE_KCADM").expect("cargo xtask test compose sets it");
    let password = stack.setting("KEYCLOAK_ADMIN_PASSWORD");
    let refused = configure(&kcadm, "not-the-password", "");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("Keycloak does not let admin in"), "{}", said(&refused));
    assert!(!configure("/there/is/none", &password, "").status.success(), "it went by Docker");

    stack.kcadm("kcadm update realms/mlflow -s accessTokenLifespan=240");
    let checked = configure(&kcadm, &password, "--check");
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    let found = "changed: accessTokenLifespan from 240 to 300";
    assert!(
        said(&checked).contains(found) && said(&checked).contains("\n1 changes would be made"),
        "{}",
        said(&checked)
    );
    let changed = configure(&kcadm, &password, "");
    assert!(changed.status.success(), "{}", said(&changed));
    assert!(said(&changed).contains(found) && said(&changed).contains("\n1 changes\n"), "{}", said(&changed));
    assert_eq!(stack.access_token_lifetime(), Some(300));
}
