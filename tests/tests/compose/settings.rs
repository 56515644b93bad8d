//! `.env`: what is missing or weak stops the start and is named; groups are those that it names.

use oidc_gate_testkit::browser::Client;

use crate::stack::{PASSWORD, Stack, said};

const REQUIRED: [&str; 6] = [
    "SECRET_KEY",
    "OIDC_CLIENT_SECRET",
    "POSTGRES_PASSWORD",
    "KEYCLOAK_ADMIN_PASSWORD",
    "REDIS_PASSWORD",
    "MINIO_ROOT_PASSWORD",
];

#[test]
fn a_missing_secret_stops_the_start_and_is_named() {
    let stack = Stack::up();
    for name in REQUIRED {
        let _changed = stack.edit_settings(&[(name, "")]);
        let output = stack.output("docker compose up --wait");
        assert!(!output.status.success(), "{name}");
        let said = said(&output);
        assert!(said.contains(name) && said.contains("./generate-env.sh"), "{name}: {said}");
    }
}

#[test]
fn weak_secrets_stop_the_start_and_are_all_named_without_their_value() {
    let stack = Stack::beside();
    let _changed = stack.edit_settings(&[
        ("SECRET_KEY", "k3y-that-is-short"),
        ("OIDC_CLIENT_SECRET", "cl13nt"),
        ("REDIS_PASSWORD", "changeme-changeme"),
        ("KEYCLOAK_ADMIN_PASSWORD", "aaaaaaaaaaaaaaaaaa"),
        ("POSTGRES_PASSWORD", "'has a blank and a quote'"),
        ("MINIO_ROOT_PASSWORD", "MyPassword1"),
        ("OIDC_SCOPE", "profile"),
    ]);
    let output = stack.output("docker compose up --wait");
    assert!(!output.status.success());
    assert!(said(&output).contains("check-env"), "{}", said(&output));
    let log = stack.compose("logs check-env");
    for name in [
        "SECRET_KEY",
        "OIDC_CLIENT_SECRET",
        "REDIS_PASSWORD",
        "KEYCLOAK_ADMIN_PASSWORD",
        "POSTGRES_PASSWORD",
        "MINIO_ROOT_PASSWORD",
        "OIDC_SCOPE",
    ] {
        assert!(log.contains(name), "{name}: {log}");
    }
    for value in ["k3y-that", "cl13nt", "changeme", "aaaaaa", "has a blank", "MyPassword1"] {
        assert!(!log.contains(value), "{value} is in the log: {log}");
    }
    let running = stack.compose("ps --services --status running");
    assert_eq!(running.trim(), "", "nothing was started");
}

#[test]
fn the_development_realm_is_not_imported_where_others_can_reach_it() {
    let stack = Stack::beside();
    for open in [("BIND_ADDRESS", "0.0.0.0"), ("MLFLOW_PUBLIC_URL", "https://mlflow.example.com")] {
        let _changed = stack.edit_settings(&[open]);
        let output = stack.output("docker compose up --wait");
        assert!(!output.status.success(), "{open:?}");
        let log = stack.compose("logs check-env");
        assert!(log.contains("development realm"), "{open:?}: {log}");
    }
}

#[test]
fn generate_env_fills_in_what_is_missing_and_leaves_the_rest() {
    let stack = Stack::copy();
    let folder = stack.checkout().join("generated");
    let script = "mkdir -p generated && cd generated && rm -f .env && cp ../.env.example ../generate-env.sh . && \
                  printf 'SECRET_KEY=chosen\\nOIDC_SCOPE=openid' >.env && ./generate-env.sh && ./generate-env.sh && cat .env";
    let text = stack.shell(script);
    assert!(text.contains("nothing was changed"), "{text}");
    assert!(text.contains("\nSECRET_KEY=chosen\n") && text.contains("\nOIDC_SCOPE=openid\n"), "{text}");
    for name in &REQUIRED[1..] {
        let values: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(&format!("{name}="))).collect();
        assert!(matches!(values[..], [value] if value.len() == 64), "{name}: {values:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn users_and_admins_get_in_and_whoever_is_in_neither_group_is_told_so() {
    let stack = Stack::up();
    for user in ["mlflow_user", "mlflow_admin"] {
        let client = Client::new();
        let page = stack.sign_in(&client, user, PASSWORD);
        assert_eq!(page.status, 200, "{user}: {page}");
        assert!(stack.may_use_mlflow(&client), "{user}");
    }
    let client = Client::new();
    let page = stack.sign_in(&client, "outsider", PASSWORD);
    assert_eq!(page.status, 403, "{page}");
    assert!(page.text().contains("mlflow_users") && page.text().contains("mlflow_admins"), "{page}");
    assert!(!stack.may_use_mlflow(&client));
}

#[test]
fn groups_of_another_name_are_those_of_the_settings() {
    let mut stack = Stack::up();
    let _changed = stack.with_settings(&[("OIDC_GROUP_NAME", "data_science,mlflow_users_too")]);
    assert_eq!(
        stack.api(&stack.token("mlflow_user")).status,
        403,
        "mlflow_users is no group of the gate now"
    );
    assert_eq!(stack.api(&stack.token("mlflow_admin")).status, 200);
    let said = stack.run("configure-keycloak");
    assert!(said.contains("made: group data_science"), "{said}");
    stack.kcadm(
        "user=$(kcadm get users -r mlflow -q username=outsider -q exact=true --fields id --format csv --noquotes)\n\
         group=$(kcadm get groups -r mlflow -q search=data_science -q exact=true --fields id --format csv --noquotes)\n\
         kcadm update users/$user/groups/$group -r mlflow -n -s realm=mlflow -s userId=$user -s groupId=$group",
    );
    let allowed = stack.api(&stack.token("outsider")).status;
    stack.kcadm(
        "for name in data_science mlflow_users_too; do\n\
         group=$(kcadm get groups -r mlflow -q search=$name -q exact=true --fields id --format csv --noquotes)\n\
         kcadm delete groups/$group -r mlflow\ndone",
    );
    assert_eq!(allowed, 200);
}
