//! What docker-compose.yml promises for every service, checked in Compose's resolved configuration and in the running
//! containers.

use serde_json::{Value, json};

use crate::stack::{SECRETS, SERVICES, Stack, UNUSED_SECRETS, said};

/// Services that stop after their work is done.
const ONE_SHOT: [&str; 2] = ["bucket", "check-env"];

/// All ways to start the stack, as options of `docker compose`: the file alone, and with each file that extends it.
fn starts(stack: &Stack) -> Vec<String> {
    let entries = std::fs::read_dir(stack.checkout()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut over: Vec<_> = entries
        .filter_map(|name| name.into_string().ok())
        .filter(|name| {
            name.starts_with("docker-compose.") && name.ends_with(".yml") && name != "docker-compose.yml"
        })
        .collect();
    over.sort();
    assert!(over.contains(&"docker-compose.monitoring.yml".to_owned()), "{over:?}");
    let over = over.iter().map(|name| format!("-f docker-compose.yml -f {name}"));
    std::iter::once("-f docker-compose.yml".to_owned()).chain(over).collect()
}

/// The variable that an extending file may require.
const REQUIRED: &str =
    "export MLFLOW_PUBLIC_URL=https://mlflow.example.com KEYCLOAK_PUBLIC_URL=https://login.example.com";

/// Compose's resolved configuration of the files.
fn config(stack: &Stack, files: &str) -> Value {
    let text = stack.shell(&format!("{REQUIRED}; docker compose {files} --profile '*' config --format json"));
    serde_json::from_str(&text).unwrap()
}

/// The same in a copy that has no `.env` yet.
fn config_without_env(stack: &Stack, options: &str) -> Value {
    let text = stack.shell(&format!("{UNUSED_SECRETS}; docker compose {options} config --format json"));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn compose_finds_nothing_to_complain_about() {
    let stack = Stack::up();
    for files in starts(&stack) {
        let output = stack.output(&format!("{REQUIRED}; docker compose {files} config --quiet"));
        assert!(output.status.success() && output.stderr.is_empty(), "{files}: {}", said(&output));
    }
    // Check that Compose reports an error in a broken file, so that silence means something.
    let broken = "{services: {planted: {image: 'a:1', depends_on: [nobody]}}}";
    let output = stack.output(&format!("echo \"{broken}\" | docker compose -f - config --quiet"));
    assert!(!output.status.success() && said(&output).contains("nobody"), "{}", said(&output));
}

#[test]
fn every_service_has_least_privilege_limits_and_rotated_logs() {
    let stack = Stack::up();
    let mut seen = std::collections::BTreeSet::new();
    for files in starts(&stack) {
        let config = config(&stack, &files);
        for (name, service) in config["services"].as_object().unwrap() {
            let lacks = lacks(name, service);
            assert!(lacks.is_empty(), "{files}: {name} has not {lacks:?}");
            seen.insert(name.clone());
        }
        for network in ["sessions", "mlflow-data", "keycloak-data"] {
            assert_eq!(config["networks"][network]["internal"], true, "{files}: {network} has a way out");
        }
    }
    let expected: std::collections::BTreeSet<String> =
        SERVICES.iter().chain(&ONE_SHOT).chain(&["prometheus"]).map(|name| (*name).to_owned()).collect();
    assert_eq!(seen, expected);
}

/// What a service should have but lacks.
fn lacks(name: &str, service: &Value) -> Vec<&'static str> {
    let one_shot = ONE_SHOT.contains(&name);
    let image = service["image"].as_str().unwrap_or_default();
    let waits_for = |(other, how): (&String, &Value)| {
        let ends = ONE_SHOT.contains(&other.as_str());
        how["condition"] == if ends { "service_completed_successfully" } else { "service_healthy" }
    };
    [
        ("no capabilities", service["cap_drop"] == json!(["ALL"]) && service.get("cap_add").is_none()),
        ("no new privileges", service["security_opt"] == json!(["no-new-privileges:true"])),
        ("no privileges", service.get("privileged").is_none()),
        ("its own namespaces", ["pid", "ipc", "userns_mode"].iter().all(|name| service.get(name).is_none())),
        ("a network of its own", service.get("network_mode").is_none_or(|mode| mode == "none")),
        ("a memory limit", service["mem_limit"].is_string()),
        ("rotated logs", service["logging"]["options"] == json!({"max-size": "10m", "max-file": "3"})),
        // `start` first builds Keycloak for its database, in Keycloak's own folder.
        ("a read-only root", service["read_only"] == true || name == "keycloak"),
        ("an image with a tag", image.contains(':') && !image.ends_with(":latest")),
        ("an end", !one_shot || service["restart"] == "no"),
        ("a health check", one_shot || service["healthcheck"]["test"].is_array()),
        ("to wait for what it needs", service["depends_on"].as_object().into_iter().flatten().all(waits_for)),
    ]
    .into_iter()
    .filter_map(|(what, there)| (!there).then_some(what))
    .collect()
}

#[test]
fn a_service_that_has_one_thing_less_is_found() {
    let stack = Stack::copy();
    let config = config_without_env(&stack, "-f docker-compose.yml");
    let envoy = &config["services"]["envoy"];
    assert_eq!(lacks("envoy", envoy), [""; 0]);
    for (path, value, what) in [
        ("cap_drop", json!(["NET_RAW"]), "no capabilities"),
        ("cap_add", json!(["NET_ADMIN"]), "no capabilities"),
        ("security_opt", json!([]), "no new privileges"),
        ("privileged", json!(true), "no privileges"),
        ("pid", json!("host"), "its own namespaces"),
        ("network_mode", json!("host"), "a network of its own"),
        ("mem_limit", Value::Null, "a memory limit"),
        ("logging", json!({"driver": "json-file"}), "rotated logs"),
        ("read_only", json!(false), "a read-only root"),
        ("image", json!("envoyproxy/envoy:latest"), "an image with a tag"),
        ("healthcheck", json!({"disable": true}), "a health check"),
        ("depends_on", json!({"redis": {"condition": "service_started"}}), "to wait for what it needs"),
    ] {
        let mut spoiled = envoy.clone();
        spoiled[path] = value;
        assert_eq!(lacks("envoy", &spoiled), [what], "{path}");
    }
    assert_eq!(
        lacks("bucket", &{
            let mut restarted = config["services"]["bucket"].clone();
            restarted["restart"] = json!("always");
            restarted
        }),
        ["an end"]
    );
}

#[test]
fn no_image_is_built_for_two_services_at_once() {
    let stack = Stack::copy();
    let config = config_without_env(&stack, "--profile '*'");
    let mut built = Vec::new();
    for (name, service) in config["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        if service.get("build").is_some() {
            assert!(
                !built.contains(&image),
                "{name} builds {image}, too: BuildKit makes both at once, and one fails"
            );
            built.push(image);
        }
    }
    assert_eq!(built.len(), 2, "{built:?}");
    // Services that use one of these images without building it must not pull it from a registry.
    for (name, service) in config["services"].as_object().unwrap() {
        let taken = service.get("build").is_none() && built.contains(&service["image"].as_str().unwrap());
        assert_eq!(taken, service["pull_policy"] == "never", "{name}");
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
        // In MinIO's image the volume belongs to root.
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
    let probe = |seconds: u32, from: &str, to: &str, port: u16| {
        format!(
            "docker compose exec -T {from} timeout {seconds} bash -c 'exec 3<>/dev/tcp/{to}/{port}' \
             2>/dev/null"
        )
    };
    let reaches = |from: &str, to: &str, port: u16| stack.output(&probe(20, from, to, port)).status.success();
    let needed = [
        ("envoy", "redis", 6379),
        ("envoy", "mlflow", 5000),
        ("envoy", "keycloak", 8080),
        ("keycloak", "envoy", 5000),
        ("keycloak", "postgres", 5432),
        ("mlflow", "postgres", 5432),
        ("mlflow", "minio", 9000),
    ];
    for (from, to, port) in needed {
        assert!(reaches(from, to, port), "{from} does not reach {to}");
    }
    let forbidden = [
        ("mlflow", "redis", 6379),
        ("keycloak", "redis", 6379),
        ("keycloak", "mlflow", 5000),
        ("envoy", "postgres", 5432),
        ("redis", "mlflow", 5000),
        ("redis", "postgres", 5432),
        ("postgres", "redis", 6379),
        ("minio", "redis", 6379),
    ];
    let mut probes = String::new();
    for (from, to, port) in forbidden {
        // The probe works in this container, and the server listens. Only the network can make the probe fail.
        let own = PORTS.iter().find(|(service, _)| *service == from).unwrap().1;
        assert!(reaches(from, from, own), "in {from} the probe reaches nothing at all");
        assert!(reaches(to, to, port), "{to} does not listen on {port}");
        for address in addresses(&stack, to).iter().map(String::as_str).chain([to]) {
            let probe = probe(3, from, address, port);
            probes.push_str(&format!("{{ {probe} && echo '{from} reaches {to} at {address}'; }} &\n"));
        }
    }
    // Probes without an answer take their whole time limit, so all run at once. One that is answered is among them.
    let known = probe(20, "envoy", "redis", 6379);
    assert_eq!(stack.shell(&format!("{probes}{{ {known} && echo known; }} &\nwait")).trim(), "known");
    for address in addresses(&stack, "redis") {
        assert!(reaches("envoy", &address, 6379), "an address that the probe should reach: {address}");
    }
}

/// The port of each service.
const PORTS: [(&str, u16); 6] = [
    ("envoy", 5000),
    ("keycloak", 8080),
    ("minio", 9000),
    ("mlflow", 5000),
    ("postgres", 5432),
    ("redis", 6379),
];

/// The addresses of a service in all of its networks.
fn addresses(stack: &Stack, service: &str) -> Vec<String> {
    let listed = stack.shell(&format!(
        "docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}} {{{{end}}}}' \
         $(docker compose ps -q {service})"
    ));
    let found: Vec<_> = listed.split_whitespace().map(str::to_owned).collect();
    assert!(!found.is_empty(), "{service} has no address");
    found
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
    // Check that all services were covered.
    for service in SERVICES {
        let container = match service {
            "mlflow" => "server",
            service => service,
        };
        let container = format!("{}-{container}", std::env::var("CONTAINER_PREFIX").unwrap());
        assert!(logs.lines().any(|line| line.starts_with(&container)), "no log of {container}");
    }
    assert_eq!(lists.matches("CMD").count(), SERVICES.len(), "{lists}");
    assert_eq!(images.matches("\"RepoTags\"").count(), SERVICES.len(), "{images}");
    assert!(lists.contains("redis-server") && lists.contains("envoy -c"), "{lists}");
    for name in SECRETS {
        let value = stack.setting(name);
        assert!(value.len() >= 12, "{name}");
        for (place, text) in [("a log", &logs), ("a process list", &lists), ("an image", &images)] {
            assert!(!text.contains(&value), "{name} is in {place}");
        }
    }
    // Git must not track the file with the secrets either.
    let repository = std::env::var("OIDC_GATE_REPOSITORY").unwrap();
    stack.shell(&format!("git -C '{repository}' check-ignore -q .env"));
}
