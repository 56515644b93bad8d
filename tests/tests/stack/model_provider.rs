//! What a model provider behind MLflow's AI gateway gets, through the gate.

use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::echo::{Echo, Received};
use oidc_gate_testkit::process::{Process, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::second_envoy::{SecondEnvoy, environment_of};
use crate::stack::Stack;

const GATEWAY: &str = "/api/3.0/mlflow/gateway";
/// MLflow keeps this key, and the agents' own one is another.
const KEPT_KEY: &str = "key-that-mlflow-keeps";
const AGENTS_KEY: &str = "key-of-the-agent";
/// Starting MLflow takes seconds, and longer on a busy machine.
const START: Duration = Duration::from_secs(180);

/// An MLflow that may call a provider on loopback, which the stack's may not.
struct SecondMlflow {
    _process: Process,
    _folder: TempDir,
    port: u16,
}

impl SecondMlflow {
    fn start(stack: &Stack) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let database = |name: &str| format!("sqlite:///{}", folder.path().join(name).display());
        let mut command = Command::new(stack.python());
        command
            .args(["-m", "oidc_gate_mlflow.start", "--host=127.0.0.1", "--workers=1"])
            .arg(format!("--port={port}"))
            .arg(format!("--backend-store-uri={}", database("mlflow.db")))
            .arg(format!("--artifacts-destination={}", folder.path().join("artifacts").display()))
            .envs(environment_of(stack.mlflow_pid()))
            .env("MLFLOW_AUTH_DATABASE_URI", database("auth.db"))
            .env("MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS", "true")
            .env("MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES", "http");
        let mut process =
            Process::start("the second MLflow", &mut command, &folder.path().join("mlflow.log")).unwrap();
        let url = format!("http://127.0.0.1:{port}/health");
        let ready = || Client::new().request("GET", &url).send().is_ok_and(|response| response.status == 200);
        process.wait_until(START, ready).unwrap();
        Self { _process: process, _folder: folder, port }
    }
}

#[test]
fn a_model_provider_gets_its_key_and_no_header_of_ours() {
    let stack = Stack::running();
    let provider = Echo::start().unwrap();
    let mlflow = SecondMlflow::start(&stack);
    let envoy = SecondEnvoy::start_before(&stack, mlflow.port);
    let admin = stack.token("mlflow_admin");
    let post = |path: &str, body: &Value| {
        let request = Client::new().request("POST", &envoy.url(path)).bearer(&admin).json(body);
        let response = request.send().unwrap();
        assert_eq!(response.status, 200, "{path}: {response}");
        response.json()
    };
    let secret = post(
        &format!("{GATEWAY}/secrets/create"),
        &json!({
            "secret_name": "s", "secret_value": {"api_key": KEPT_KEY}, "provider": "openai",
            "auth_config": {"api_base": format!("http://127.0.0.1:{}/v1", provider.port())},
        }),
    );
    let secret = &secret["secret"]["secret_id"];
    let definition = post(
        &format!("{GATEWAY}/model-definitions/create"),
        &json!({"name": "d", "secret_id": secret, "provider": "openai", "model_name": "gpt"}),
    );
    let definition = &definition["model_definition"]["model_definition_id"];
    let models = json!([{"model_definition_id": definition, "linkage_type": "PRIMARY", "weight": 1}]);
    post(&format!("{GATEWAY}/endpoints/create"), &json!({"name": "chat", "model_configs": models}));

    let ask = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]});
    let mut answers = Vec::new();
    for path in ["/gateway/mlflow/v1/chat/completions", "/gateway/openai/v1/chat/completions"] {
        for by_agent in [false, true] {
            let send = || {
                let request =
                    Client::new().request("POST", &envoy.url(path)).json(&ask).header("cookie", "a=1");
                let request = if by_agent {
                    let ours = format!("Bearer {admin}");
                    request.bearer(AGENTS_KEY).header("x-mlflow-authorization", ours)
                } else {
                    request.bearer(&admin)
                };
                request.send().unwrap()
            };
            // What MLflow makes of the answer of the echo is not the matter here. After an error of its own it closes
            // the connection, which Envoy may just be using again.
            let mut response = send();
            stack.eventually("MLflow answers", || {
                if response.status == 503 {
                    response = send();
                }
                response.status != 503
            });
            assert!(![401, 403, 404].contains(&response.status), "{path} by agent: {by_agent}: {response}");
            answers.push((path, by_agent, provider.count(), response.to_string()));
        }
    }
    let received = provider.received();
    assert_eq!(received.len(), answers.len(), "{answers:#?}");
    for call in &received {
        assert_nothing_of_ours(call, &admin);
        let key = call.header("authorization").unwrap();
        assert!(
            [format!("Bearer {KEPT_KEY}"), format!("Bearer {AGENTS_KEY}")].contains(&key.to_owned()),
            "{call:?}"
        );
    }
}

#[track_caller]
fn assert_nothing_of_ours(call: &Received, token: &str) {
    for (name, value) in &call.headers {
        let of_ours = name == "cookie"
            || name.starts_with("x-mlflow-")
            || name.starts_with("x-forwarded-") && name != "x-forwarded-proto"
            || name.starts_with("x-envoy-");
        assert!(!of_ours && !value.contains(token) && !value.contains("eyJ"), "{name}: {value}");
    }
}
