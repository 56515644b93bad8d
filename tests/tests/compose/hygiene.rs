//! What the file promises of every service, read from what Compose makes of it and from what runs.

use serde_json::Value;

use crate::stack::{SERVICES, Stack};

/// Services that end at once.
const ONE_SHOT: [&str; 2] = ["bucket", "check-env"];

fn services(stack: &Stack) -> serde_json::Map<String, Value> {
    let text = stack.compose("--profile '*' config --format json");
    let config: Value = serde_json::from_str(&text).unwrap();
    config["services"].as_object().unwrap().clone()
}

#[test]
fn compose_finds_nothing_to_complain_about() {
    let stack = Stack::up();
    let output = stack.output("docker compose config --quiet");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", crate::stack::said(&output));
}

#[test]
fn every_service_has_least_privilege_limits_and_rotated_logs() {
    let stack = Stack::up();
    let services = services(&stack);
    assert_eq!(services.len(), SERVICES.len() + ONE_SHOT.len());
    for (name, service) in &services {
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert!(service.get("cap_add").is_none(), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(service.get("privileged").is_none(), "{name}");
        assert!(service["mem_limit"].is_string(), "{name} has no memory limit");
        assert_eq!(service["logging"]["options"]["max-file"], "3", "{name}");
        assert!(service["read_only"] == true || name == "keycloak", "{name}");
        let image = service["image"].as_str().unwrap();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{name}: {image}");
        assert!(!ONE_SHOT.contains(&name.as_str()) || service["restart"] == "no", "{name}");
        assert!(ONE_SHOT.contains(&name.as_str()) || service["healthcheck"].is_object(), "{name}");
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let wanted = if ONE_SHOT.contains(&other.as_str()) {
                "service_completed_successfully"
            } else {
                "service_healthy"
            };
            assert_eq!(how["condition"], wanted, "{name} on {other}");
        }
    }
}

#[test]
fn what_runs_is_no_root_with_capabilities_and_only_the_printed_ports_are_open_on_loopback() {
    let stack = Stack::up();
    for service in SERVICES {
        let status = stack.shell(&format!("docker compose exec -T {service} cat /proc/1/status"));
        let line = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{service}: {status}")).trim().to_owned()
        };
        assert_eq!(line("CapEff:"), "0000000000000000", "{service}");
        assert_eq!(line("CapPrm:"), "0000000000000000", "{service}");
        assert_eq!(line("NoNewPrivs:"), "1", "{service}");
        // MinIO's volume belongs to root in its image.
        assert!(service == "minio" || !line("Uid:").starts_with('0'), "{service} runs as root");
    }
    let listed = stack.compose("ps --format json");
    let mut open: Vec<String> = Vec::new();
    for publisher in listed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|service| service["Publishers"].as_array().cloned().unwrap_or_default())
        .filter(|publisher| publisher["PublishedPort"] != 0)
    {
        assert_eq!(publisher["URL"], "127.0.0.1", "{publisher}");
        open.push(publisher["PublishedPort"].to_string());
    }
    let mut printed: Vec<String> = ["MLFLOW_PORT", "KEYCLOAK_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT"]
        .iter()
        .map(|name| std::env::var(name).unwrap())
        .collect();
    open.sort();
    printed.sort();
    assert_eq!(open, printed);
}

#[test]
fn each_service_reaches_only_those_that_it_has_to() {
    let stack = Stack::up();
    let reach = |from: &str, to: &str, port: u16| {
        let script = format!(
            "docker compose exec -T {from} timeout 3 bash -c 'exec 3<>/dev/tcp/{to}/{port}' 2>/dev/null"
        );
        stack.output(&script).status.success()
    };
    for (from, to, port) in [("envoy", "redis", 6379), ("envoy", "mlflow", 5000), ("keycloak", "envoy", 5000)]
    {
        assert!(reach(from, to, port), "{from} reaches {to}");
    }
    for (from, to, port) in [
        ("mlflow", "redis", 6379),
        ("keycloak", "redis", 6379),
        ("keycloak", "mlflow", 5000),
        ("envoy", "postgres", 5432),
        ("redis", "envoy", 5000),
    ] {
        assert!(!reach(from, to, port), "{from} reaches {to}");
    }
}

#[test]
fn neither_database_role_opens_the_others_database() {
    let stack = Stack::up();
    let ask = |role: &str, password: &str, database: &str| {
        let password = stack.setting(password);
        let script = format!(
            "docker compose exec -T -e PGPASSWORD={password} mlflow python -c 'import psycopg2; \
             psycopg2.connect(host=\"postgres\", user=\"{role}\", dbname=\"{database}\")'"
        );
        stack.output(&script).status.success()
    };
    assert!(ask("mlflow", "MLFLOW_DB_PASSWORD", "mlflow"));
    assert!(ask("keycloak", "KEYCLOAK_DB_PASSWORD", "keycloak"));
    assert!(!ask("mlflow", "MLFLOW_DB_PASSWORD", "keycloak"));
    assert!(!ask("keycloak", "KEYCLOAK_DB_PASSWORD", "mlflow"));
    assert!(!ask("mlflow", "KEYCLOAK_DB_PASSWORD", "mlflow"), "the roles' passwords differ");
}

#[test]
fn no_secret_is_in_an_image_a_log_or_a_process_list() {
    let stack = Stack::up();
    let logs = stack.compose("logs");
    let lists = SERVICES.map(|service| stack.compose(&format!("top {service}"))).concat();
    let images = stack.shell(
        "for id in $(docker compose ps -q); do image=$(docker inspect -f '{{.Image}}' $id); docker inspect $image; \
         docker history --no-trunc $image; done",
    );
    for name in [
        "SECRET_KEY",
        "OIDC_CLIENT_SECRET",
        "POSTGRES_PASSWORD",
        "MLFLOW_DB_PASSWORD",
        "KEYCLOAK_DB_PASSWORD",
        "KEYCLOAK_ADMIN_PASSWORD",
        "REDIS_PASSWORD",
        "MINIO_ROOT_PASSWORD",
    ] {
        let value = stack.setting(name);
        assert!(value.len() >= 12, "{name}");
        for (place, text) in [("a log", &logs), ("a process list", &lists), ("an image", &images)] {
            assert!(!text.contains(&value), "{name} is in {place}");
        }
    }
    // Nor does git take the file that has them.
    let repository = std::env::var("OIDC_GATE_REPOSITORY").unwrap();
    stack.shell(&format!("git -C '{repository}' check-ignore -q .env"));
}
