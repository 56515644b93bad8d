//! MLflow's Python client, in a separate process.

use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::process::Process;
use serde_json::Value;

use crate::stack::Stack;

/// Importing MLflow takes seconds, and longer on a busy machine.
const BOUND: Duration = Duration::from_secs(180);
/// Marks the answer in the script's output, which may contain warnings of libraries too.
const MARK: &str = "ANSWER ";
/// The functions that every script may use.
const PRELUDE: &str = r#"
import json, os, pathlib, mlflow
from mlflow.exceptions import RestException

def answer(value):
    print("ANSWER " + json.dumps(value), flush=True)

def trouble(call):
    try:
        call()
    except RestException as error:
        return {"kind": "RestException", "code": error.error_code, "status": error.get_http_status_code(), "text": str(error)}
    except Exception as error:
        return {"kind": type(error).__name__, "text": str(error)}
    return None
"#;

/// Runs a script. It returns its result with `answer(…)`. Without a token, the client sends none.
#[track_caller]
pub fn run(stack: &Stack, token: Option<&str>, script: &str) -> Value {
    let token = token.map(|token| ("MLFLOW_TRACKING_TOKEN", token));
    run_with(stack, token.as_slice(), script)
}

/// Runs a script with these variables, which say how the client authenticates.
#[track_caller]
pub fn run_with(stack: &Stack, environment: &[(&str, &str)], script: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(stack.python());
    command
        .args(["-c", &format!("{PRELUDE}\n{script}")])
        .current_dir(folder.path())
        // A ~/.mlflow/credentials of the user who runs the tests would override the token.
        .env("HOME", folder.path())
        .env_remove("MLFLOW_TRACKING_USERNAME")
        .env_remove("MLFLOW_TRACKING_PASSWORD")
        .env_remove("MLFLOW_TRACKING_TOKEN")
        // A variable of these tests, and of the package's client.
        .env_remove("OIDC_GATE_CLIENT_SECRET")
        .env("MLFLOW_TRACKING_URI", stack.url(""))
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("GIT_PYTHON_REFRESH", "quiet")
        .envs(environment.iter().copied());
    let log = folder.path().join("output");
    let mut python = Process::start("the script", &mut command, &log).unwrap();
    let answered = |text: &str| text.lines().find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
    // The script may finish between two checks, so the output counts and not the result of waiting.
    let waited = python.wait_until(BOUND, || answered(&python_log(&log)).is_some());
    let answer = answered(&python_log(&log)).unwrap_or_else(|| match waited {
        Err(trouble) => panic!("{trouble}"),
        Ok(()) => unreachable!("the wait ends with an answer"),
    });
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn python_log(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
