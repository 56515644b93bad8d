//! Alerts, dashboard and metrics listener, compared with what the running Envoy serves.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::stack::{Stack, said};

/// Sends a request to a port of Envoy's container, from inside of it.
fn ask(stack: &Stack, port: u16, request: &str) -> String {
    stack.shell(&format!(
        "docker compose exec -T envoy bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; \
         printf \"{request} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n\" >&3; cat <&3'"
    ))
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    // Labels that look like metrics.
    const LABELS: [&str; 3] =
        ["envoy_cluster_name", "envoy_http_conn_manager_prefix", "envoy_response_code_class"];
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| word.starts_with("envoy_") || word.starts_with("oidc_gate_"))
        .filter(|word| !LABELS.contains(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_one_that_envoy_serves() {
    let stack = Stack::up();
    // Some counters appear only after the first request.
    assert_eq!(stack.api(&stack.token("mlflow_user")).status, 200);
    let served = ask(&stack, 9901, "GET /stats/prometheus");
    for text in [
        include_str!("../../../monitoring/alerts.yml"),
        include_str!("../../../monitoring/grafana-dashboard.json"),
    ] {
        let named = metrics(text);
        assert!(named.len() > 3, "{named:?}");
        for name in named {
            let there = served.lines().any(|line| line.starts_with(&format!("{name}{{")));
            assert!(there, "Envoy serves no {name}");
        }
    }
    // Each reason in an alert must be one that the gate counts.
    for reason in [
        "redis_unavailable",
        "provider_unavailable",
        "login_client_refused",
        "clocks_disagree",
        "session_unreadable",
        "login_loop",
    ] {
        assert!(served.contains(&format!("reason=\"{reason}\"")), "{reason}");
    }
}

#[test]
fn promtool_accepts_configuration_and_alerts_and_their_tests_pass() {
    let stack = Stack::copy();
    let promtool = std::env::var("OIDC_GATE_PROMTOOL").expect("cargo xtask test compose sets it");
    let output = stack.output(&format!(
        "cd monitoring && {promtool} check config prometheus.yml && {promtool} test rules alerts_test.yml"
    ));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn prometheus_scrapes_and_the_metrics_listener_gives_away_metrics_and_nothing_else_of_the_admin_port() {
    let stack = Stack::up();
    stack.run("monitoring");
    // Envoy was replaced, so its counters start from zero.
    stack.wait_for_gate();
    let prometheus = |path: &str| -> Value {
        serde_json::from_str(&stack.shell(&format!("curl -sf 'http://localhost:9090/api/v1/{path}'")))
            .unwrap()
    };
    let up = || prometheus("targets")["data"]["activeTargets"][0]["health"] == "up";
    stack.eventually("Prometheus scrapes the gate", up);
    // Prometheus reports a scrape before queries return its data.
    stack.eventually("Prometheus has what it scraped: one Envoy that lives", || {
        prometheus("query?query=sum(envoy_server_live)")["data"]["result"][0]["value"][1] == "1"
    });
    stack.eventually("Prometheus has evaluated every alert", || {
        let groups = prometheus("rules?type=alert");
        let rules = groups["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.len() > 3 && rules.iter().all(|rule| rule["health"] == "ok")
    });
    let container =
        stack.shell("docker compose -f docker-compose.yml -f docker-compose.monitoring.yml ps -q prometheus");
    let of_the_container = |format: &str| {
        let found = stack.shell(&format!("docker inspect -f '{format}' {}", container.trim()));
        found.trim().to_owned()
    };
    let status = stack.shell(&format!("docker exec {} cat /proc/1/status", container.trim()));
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not so: {status}");
    }
    assert!(!status.contains("Uid:\t0\t"), "Prometheus runs as root: {status}");
    assert_eq!(of_the_container("{{.HostConfig.ReadonlyRootfs}}"), "true");
    let port = std::env::var("PROMETHEUS_PORT").unwrap();
    let published = of_the_container(
        "{{range $at, $host := .NetworkSettings.Ports}}{{range $host}}{{.HostIp}}:{{.HostPort}} {{end}}{{end}}",
    );
    assert_eq!(published, format!("127.0.0.1:{port}"));
    let metrics = ask(&stack, 9902, "GET /stats/prometheus");
    assert!(metrics.contains("oidc_gate_decisions_total{"), "{metrics}");
    assert!(ask(&stack, 9902, "GET /ready").starts_with("HTTP/1.1 200"));
    for request in [
        "GET /config_dump",
        "GET /",
        "GET /stats",
        "POST /quitquitquit",
        "POST /stats/prometheus",
        "GET //stats//",
    ] {
        let answer = ask(&stack, 9902, request);
        assert!(answer.starts_with("HTTP/1.1 404"), "{request}: {answer}");
    }
    assert_eq!(stack.api(&stack.token("mlflow_user")).status, 200, "the gate itself goes on as before");
    let files = "-f docker-compose.yml -f docker-compose.monitoring.yml";
    stack.compose(&format!("{files} rm --stop --force prometheus"));
    stack.shell("docker volume rm mlflow-oidc-gate_prometheus");
    stack.compose("up --wait");
}
