//! From a fresh clone to a user who sees MLflow.

use oidc_gate_testkit::browser::Client;

use crate::browser::Browser;
use crate::stack::{PASSWORD, SERVICES, Stack};

#[test]
fn the_printed_commands_bring_a_fresh_clone_up_and_healthy() {
    use std::os::unix::fs::PermissionsExt as _;
    let (stack, took) = Stack::fresh();
    println!("up and healthy after {} s, with the envoy image built", took.as_secs());
    let env = stack.checkout().join(".env");
    for service in SERVICES {
        assert_eq!(stack.health(service), "healthy", "{service}");
    }
    assert_eq!(env.metadata().unwrap().permissions().mode() & 0o077, 0, ".env is for its owner only");
    let listed = stack.run("ps");
    for service in SERVICES {
        assert!(listed.lines().any(|line| line.contains(service) && line.contains("(healthy)")), "{listed}");
    }
}

#[test]
fn every_address_of_the_table_answers() {
    let stack = Stack::up();
    let client = Client::new();
    let target = client.sent_to_sign_in(&stack.url("/")).unwrap().expect("a page is sent to sign in");
    assert!(target.starts_with(&format!("{}/realms/mlflow/", stack.keycloak())), "{target}");
    let console = client.visit(&format!("{}/admin/", stack.keycloak())).unwrap();
    assert_eq!(console.end().status, 200, "{}", console.end());
    let port = std::env::var("MINIO_CONSOLE_PORT").unwrap();
    let minio = client.visit(&format!("http://localhost:{port}/")).unwrap();
    assert_eq!(minio.end().status, 200, "{}", minio.end());
    // The password in .env opens Keycloak's admin console.
    assert!(!stack.run_and("admin-token", "echo $USER_ID").trim().is_empty());
}

#[test]
fn the_default_test_user_signs_in_with_a_browser_and_sees_mlflow() {
    let stack = Stack::up();
    let browser = Browser::signed_in(&stack, "/", "mlflow_user");
    browser.wait_for_text("Default");
    browser.picture("compose.png");
}

#[test]
fn configure_keycloak_changes_nothing_after_an_import_and_prints_the_secret() {
    let stack = Stack::up();
    let said = stack.run("configure-keycloak");
    assert!(said.contains("nothing was changed"), "{said}");
    assert!(
        said.contains(&format!("OIDC_CLIENT_SECRET={}\n", stack.setting("OIDC_CLIENT_SECRET"))),
        "{said}"
    );
}

#[test]
#[ignore = "slow: Keycloak starts again"]
fn configure_keycloak_makes_the_realm_from_nothing_and_people_sign_in() {
    let stack = Stack::up();
    stack.kcadm("kcadm delete realms/mlflow");
    assert_eq!(stack.tokens(&[("grant_type", "client_credentials")]).status, 404, "the realm is gone");
    let said = stack.run("configure-keycloak");
    for made in [
        "realm mlflow",
        "group mlflow_viewers",
        "client mlflow-cli",
        "client mlflow\n",
        "mapper groups",
        "user mlflow_user",
    ] {
        assert!(said.contains(&format!("made: {made}")), "{made}: {said}");
    }
    let again = stack.run("configure-keycloak");
    assert!(again.contains("nothing was changed"), "{again}");
    // Its users have the names of others, whom MLflow has seen before.
    stack.release_names_in_mlflow();
    // The realm has new keys.
    stack.eventually("a token of the new realm is accepted", || {
        stack.api(&stack.token("mlflow_user")).status == 200
    });
    assert_eq!(stack.api(&stack.token("outsider")).status, 403);
    let client = stack.signed_in("mlflow_admin");
    assert!(stack.may_use_mlflow(&client));
}

#[test]
#[ignore = "slow: kcadm.sh starts a JVM for each step"]
fn configure_keycloak_repairs_what_was_changed_by_hand_and_says_what() {
    let stack = Stack::up();
    stack.kcadm(
        "client=$(kcadm get clients -r mlflow -q clientId=mlflow --fields id --format csv --noquotes)\n\
         kcadm update clients/$client -r mlflow -s secret=other -s 'redirectUris=[\"http://elsewhere.example/*\"]'\n\
         kcadm update realms/mlflow -s revokeRefreshToken=false",
    );
    let checked = stack.output("./configure-keycloak.sh --check");
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert_ne!(stack.tokens(&[("grant_type", "client_credentials")]).status, 200, "--check changes nothing");
    let said = stack.shell("./configure-keycloak.sh --production");
    for changed in [
        "changed: revokeRefreshToken from false to true",
        "changed: redirectUris",
        "the client's secret",
        "changed: bruteForceProtected from false to true",
        "changed: directAccessGrantsEnabled from true to false",
        "changed: user mlflow_user is disabled",
        "changed: user mlflow_admin is disabled",
    ] {
        assert!(said.contains(changed), "{changed}: {said}");
    }
    assert_eq!(stack.tokens(&[("grant_type", "client_credentials")]).status, 200);
    let by_password = [("grant_type", "password"), ("username", "mlflow_user"), ("password", PASSWORD)];
    assert_eq!(stack.tokens(&by_password).json()["error"], "unauthorized_client");
    let said = stack.run("configure-keycloak");
    assert!(said.contains("changed: directAccessGrantsEnabled from false to true"), "{said}");
    assert!(said.contains("changed: user mlflow_user is enabled"), "{said}");
    assert_eq!(stack.tokens(&by_password).status, 200);
}

#[test]
#[ignore = "slow: kcadm.sh starts a JVM for each step"]
fn configure_keycloak_passes_no_secret_on_a_command_line() {
    let stack = Stack::up();
    // A kcadm.sh that records its calls. The script uses it in place of Keycloak's own.
    let configure = |before: &str| {
        stack.kcadm(&format!(
            "client=$(kcadm get clients -r mlflow -q clientId=mlflow --fields id --format csv --noquotes)\n{before}"
        ));
        stack.shell(
            "docker compose exec -T keycloak bash -c 'cat >/tmp/noting.sh <<\"SCRIPT\"\n#!/bin/bash\n\
             echo \"$@\" >>/tmp/noted\nexec /opt/keycloak/bin/kcadm.sh \"$@\"\nSCRIPT\n\
             chmod +x /tmp/noting.sh; rm -f /tmp/noted'\n\
             docker compose exec -T -e KCADM=/tmp/noting.sh keycloak bash -s <configure-keycloak.sh",
        );
        stack.shell("docker compose exec -T keycloak bash -c 'cat /tmp/noted; rm /tmp/noted /tmp/noting.sh'")
    };
    for before in
        ["kcadm update clients/$client -r mlflow -s secret=other", "kcadm delete clients/$client -r mlflow"]
    {
        let noted = configure(before);
        assert!(noted.contains("clients") && noted.contains("/secret.json"), "{noted}");
        for name in ["OIDC_CLIENT_SECRET", "KEYCLOAK_ADMIN_PASSWORD"] {
            assert!(!noted.contains(&stack.setting(name)), "{name} was an argument after {before}");
        }
        assert_eq!(
            stack.tokens(&[("grant_type", "client_credentials")]).status,
            200,
            "the secret is set: {before}"
        );
    }
}

#[test]
fn a_run_of_the_python_client_is_in_postgresql_and_its_artifact_in_the_bucket() {
    let stack = Stack::up();
    let said = stack.run("token-python");
    let run = said.lines().last().unwrap_or_default().trim().to_owned();
    assert!(run.len() == 32 && run.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
    let status = stack.shell(&format!(
        "docker compose exec -T postgres psql -U postgres -d mlflow -tAc \"select status from runs where run_uuid = '{run}'\""
    ));
    assert_eq!(status.trim(), "FINISHED");
    let objects = stack.shell(
        "docker compose exec -T mlflow python -c 'import boto3, os\n\
         s3 = boto3.client(\"s3\", endpoint_url=os.environ[\"MLFLOW_S3_ENDPOINT_URL\"])\n\
         print(*(o[\"Key\"] for o in s3.list_objects_v2(Bucket=os.environ[\"S3_BUCKET\"])[\"Contents\"]), sep=\"\\n\")'",
    );
    assert!(objects.lines().any(|key| key.contains(&run) && key.ends_with("/greeting.txt")), "{objects}");
    // The way back, through the gate.
    let token = stack.token("mlflow_user");
    let read = stack.shell(&format!(
        "MLFLOW_TRACKING_URI=http://localhost:5000 MLFLOW_TRACKING_TOKEN={token} python3 -c \
         'import mlflow; print(mlflow.artifacts.load_text(\"runs:/{run}/greeting.txt\"))'"
    ));
    assert_eq!(read.trim(), "hello");
}
