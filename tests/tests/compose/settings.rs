//! `.env`: missing or weak settings stop the start and are named. Groups are those that it names.

use oidc_gate_testkit::browser::Client;
use serde_json::Value;

use crate::stack::{PASSWORD, Stack, said};

const REQUIRED: [&str; 7] = [
    "SECRET_KEY",
    "OIDC_CLIENT_SECRET",
    "POSTGRES_PASSWORD",
    "KEYCLOAK_ADMIN_PASSWORD",
    "REDIS_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "ASSERTION_KEYS",
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
        ("ASSERTION_KEYS", "0f1e2d3c4b5a69788796a5b4c3d2e1f0,sh0rt-1,k3y-that-is-short"),
        ("MLFLOW_DEFAULT_PERMISSION", "read"),
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
        "ASSERTION_KEYS",
        "MLFLOW_DEFAULT_PERMISSION",
        "OIDC_SCOPE",
    ] {
        assert!(log.contains(name), "{name}: {log}");
    }
    for value in ["k3y-that", "cl13nt", "changeme", "aaaaaa", "has a blank", "MyPassword1", "sh0rt-1"] {
        assert!(!log.contains(value), "{value} is in the log: {log}");
    }
    assert!(log.contains("ASSERTION_KEYS contains the value of SECRET_KEY."), "{log}");
    let running = stack.compose("ps --services --status running");
    assert_eq!(running.trim(), "", "nothing was started");
}

#[test]
fn the_development_realm_is_not_imported_where_others_can_reach_it() {
    let stack = Stack::beside();
    for open in [
        ("BIND_ADDRESS", "0.0.0.0"),
        ("KEYCLOAK_BIND_ADDRESS", "0.0.0.0"),
        ("MLFLOW_PUBLIC_URL", "https://mlflow.example.com"),
        ("KEYCLOAK_PUBLIC_URL", "https://login.example.com"),
    ] {
        let _changed = stack.edit_settings(&[open]);
        let output = stack.output("docker compose up --wait");
        assert!(!output.status.success(), "{open:?}");
        let log = stack.compose("logs check-env");
        assert!(log.contains("development realm"), "{open:?}: {log}");
    }
}

/// The output of check-env with the current settings.
fn checked(stack: &Stack) -> (bool, String) {
    let output = stack.output("docker compose run --rm -T check-env");
    (output.status.success(), said(&output))
}

#[test]
fn the_host_of_the_public_url_must_be_one_that_mlflow_answers_to() {
    let stack = Stack::beside();
    let check = |url: &str, hosts: &str| {
        let _changed = stack.edit_settings(&[
            ("MLFLOW_PUBLIC_URL", url),
            ("MLFLOW_ALLOWED_HOSTS", hosts),
            ("KEYCLOAK_START_ARGUMENTS", ""),
        ]);
        checked(&stack)
    };
    for (url, hosts) in [
        ("https://mlflow.example.org", ""),
        ("https://mlflow.example.org", "localhost:5000,example.org,mlflow.example.org:443"),
        ("https://mlflow.example.org:8443", "mlflow.example.org"),
        ("https://mlflow.example.org", "MLFLOW.example.org.evil,*.example.net"),
    ] {
        let (accepted, said) = check(url, hosts);
        let host = url.trim_start_matches("https://");
        assert!(
            !accepted && said.contains(&format!("set MLFLOW_ALLOWED_HOSTS={host}")),
            "{url} {hosts}: {said}"
        );
    }
    for (url, hosts) in [
        ("https://mlflow.example.org", "other,mlflow.example.org"),
        ("https://mlflow.example.org", "mlflow.example.org"),
        ("https://mlflow.example.org:8443", "mlflow.example.org:8443"),
        ("https://mlflow.example.org", "*.example.org"),
        ("https://mlflow.example.org", "*"),
    ] {
        let (accepted, said) = check(url, hosts);
        assert!(accepted, "{url} {hosts}: {said}");
    }
}

#[test]
fn an_https_address_that_others_reach_is_refused_without_the_override_file_that_gives_it_tls() {
    let stack = Stack::beside();
    let _changed = stack.edit_settings(&[
        ("MLFLOW_PUBLIC_URL", "https://mlflow.example.org"),
        ("MLFLOW_ALLOWED_HOSTS", "mlflow.example.org"),
        ("BIND_ADDRESS", "0.0.0.0"),
        ("KEYCLOAK_PUBLIC_URL", "https://login.example.org:8443"),
        ("KEYCLOAK_BIND_ADDRESS", "0.0.0.0"),
        ("KEYCLOAK_START_ARGUMENTS", ""),
    ]);
    let (accepted, said) = checked(&stack);
    assert!(!accepted && said.contains("MLFLOW_PUBLIC_URL is https, but its port is open"), "{said}");
    let _tls = stack.edit_settings(&[("COMPOSE_FILE", "docker-compose.yml:docker-compose.tls.yml")]);
    let (accepted, said) = checked(&stack);
    assert!(accepted, "{said}");
    // Like `-f` on the command line.
    let plain = stack.output("docker compose -f docker-compose.yml run --rm -T check-env");
    assert!(!plain.status.success(), "{}", crate::stack::said(&plain));
}

#[test]
fn each_published_port_has_an_address_of_its_own() {
    let stack = Stack::up();
    let _changed = stack.edit_settings(&[
        ("BIND_ADDRESS", "127.0.0.2"),
        ("KEYCLOAK_BIND_ADDRESS", "127.0.0.3"),
        ("MINIO_BIND_ADDRESS", "127.0.0.4"),
        ("PROMETHEUS_BIND_ADDRESS", "127.0.0.5"),
    ]);
    let addresses = |files: &str| -> Vec<String> {
        let config: Value =
            serde_json::from_str(&stack.compose(&format!("{files} config --format json"))).unwrap();
        let services = config["services"].as_object().unwrap().iter();
        let ports = services.flat_map(|(name, service)| {
            let ports = service["ports"].as_array().cloned().unwrap_or_default();
            ports
                .into_iter()
                .map(move |port| format!("{name} {}:{}", port["host_ip"].as_str().unwrap(), port["target"]))
        });
        ports.collect()
    };
    let all = "-f docker-compose.yml -f docker-compose.monitoring.yml";
    assert_eq!(
        addresses(all),
        [
            "envoy 127.0.0.2:5000",
            "keycloak 127.0.0.3:8080",
            "minio 127.0.0.4:9000",
            "minio 127.0.0.4:9001",
            "prometheus 127.0.0.5:9090"
        ]
    );
    let _https = stack.edit_settings(&[
        ("MLFLOW_PUBLIC_URL", "https://mlflow.example.org"),
        ("KEYCLOAK_PUBLIC_URL", "https://login.example.org"),
    ]);
    assert_eq!(
        addresses(&format!("{all} -f docker-compose.tls.yml"))[..2],
        ["envoy 127.0.0.2:5443", "keycloak 127.0.0.3:8443"],
        "no plain port is published with TLS"
    );
}

#[test]
fn keycloak_believes_a_proxy_only_when_env_says_so() {
    let stack = Stack::up();
    let headers = || -> Value {
        let config: Value = serde_json::from_str(&stack.compose("config --format json")).unwrap();
        config["services"]["keycloak"]["environment"]["KC_PROXY_HEADERS"].clone()
    };
    assert!(headers().is_null());
    let container = stack.output("docker compose exec -T keycloak printenv KC_PROXY_HEADERS");
    assert!(!container.status.success(), "{}", said(&container));
    let _changed = stack.edit_settings(&[("KC_PROXY_HEADERS", "xforwarded")]);
    assert_eq!(headers(), "xforwarded");
}

#[test]
fn an_env_of_the_stack_before_is_told_what_it_lacks_and_generate_env_adds_it() {
    let stack = Stack::beside();
    // Only what the README of that stack asks for.
    let known = REQUIRED.iter().filter(|name| **name != "ASSERTION_KEYS");
    let secrets: String = known.map(|name| format!("{name}={}\n", stack.setting(name))).collect();
    let keys = format!("ASSERTION_KEYS={}\n", stack.setting("ASSERTION_KEYS"));
    let image = "MLFLOW_IMAGE=ghcr.io/mlflow-oidc/mlflow-oidc-server:latest\n";
    let old = format!("{secrets}OIDC_SCOPE=\"openid profile email\"\nOIDC_GROUP_NAME=mlflow_users\n{image}");
    let _changed = stack.edit_settings(&[]);
    let file = stack.checkout().join(".env");
    std::fs::write(&file, &old).unwrap();
    let (accepted, said) = checked(&stack);
    assert!(!accepted && said.contains("ASSERTION_KEYS") && said.contains("./generate-env.sh"), "{said}");
    std::fs::write(&file, format!("{old}{keys}")).unwrap();
    let (accepted, said) = checked(&stack);
    assert!(!accepted && said.contains("put COMPOSE_PROFILES=minio into .env"), "{said}");
    assert!(said.contains("MLFLOW_IMAGE names an image that asks for a sign-in itself"), "{said}");

    std::fs::write(&file, old.replace(image, "")).unwrap();
    let made = stack.shell("./generate-env.sh");
    // No new passwords for the roles of an existing database.
    assert!(made.contains("made in .env: ASSERTION_KEYS COMPOSE_PROFILES\n"), "{made}");
    let (accepted, said) = checked(&stack);
    assert!(accepted, "{said}");
    // If artifacts are stored elsewhere, the setting is not changed.
    let elsewhere = old.replace(image, &keys) + "S3_ENDPOINT_URL=https://s3.example.org\n";
    std::fs::write(&file, elsewhere).unwrap();
    assert!(!stack.shell("./generate-env.sh").contains("COMPOSE_PROFILES"));
    let (accepted, said) = checked(&stack);
    assert!(accepted, "{said}");
}

#[test]
fn an_image_of_mlflow_without_the_package_is_named_before_mlflow_starts() {
    let stack = Stack::beside();
    {
        let _changed = stack.edit_settings(&[("MLFLOW_IMAGE", "ghcr.io/mlflow/mlflow:v3.17.2")]);
        let (accepted, said) = checked(&stack);
        assert!(!accepted && said.contains("MLFLOW_IMAGE names MLflow's own image"), "{said}");
    }
    // Any other image is found by what it lacks. This one has a shell and nothing of MLflow.
    let _changed = stack.edit_settings(&[("MLFLOW_IMAGE", "redis:8")]);
    let output = stack.output("docker compose run --rm -T --no-deps bucket");
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("has no oidc-gate-mlflow-server") && said.contains("up --wait --build"), "{said}");
}

#[test]
fn files_that_the_containers_cannot_read_are_named_and_generate_env_mends_them() {
    let stack = Stack::beside();
    // File modes as in a clone with this umask.
    stack.shell(
        "rm -rf closed && umask 077 && mkdir closed && cp .env docker-compose.yml generate-env.sh init-db.sh closed && \
         cp -r compose envoy keycloak mlflow monitoring closed && chmod -R go= closed",
    );
    let checked = || {
        let output = stack.output("cd closed && docker compose run --rm -T check-env");
        (output.status.success(), said(&output))
    };
    let (accepted, said) = checked();
    assert!(!accepted && said.contains("the containers can't read what is mounted from here"), "{said}");
    stack.shell("chmod -R go+rX closed/compose");
    let (accepted, said) = checked();
    assert!(
        !accepted && said.contains("init-db.sh") && said.contains("keycloak/realm-mlflow.json"),
        "{said}"
    );
    let made = stack.shell("cd closed && ./generate-env.sh");
    assert!(made.contains("made readable for the containers: init-db.sh"), "{made}");
    let (accepted, said) = checked();
    assert!(accepted, "{said}");
    assert_eq!(stack.shell("stat -c %a closed/.env").trim(), "600", "but the secrets stay closed");
    stack.shell("rm -r closed");
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
    assert_eq!(stack.ask_mlflow(&client).unwrap().status, 403);
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
