//! MLflow's own Python client, as a program of its own against the gate.

use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::process::Process;
use serde_json::Value;

use crate::stack::Stack;

/// Importing MLflow alone takes seconds, and more on a busy machine.
const BOUND: Duration = Duration::from_secs(180);
/// What comes before the answer in the script's output, where warnings of libraries may stand, too.
const MARK: &str = "ANSWER ";
/// What every script may use.
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

/// Runs a script, which says what it has to say by `answer(…)`. Without a token, the client sends none.
#[track_caller]
pub fn run(stack: &Stack, token: Option<&str>, script: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(stack.python());
    command
        .args(["-c", &format!("{PRELUDE}\n{script}")])
        .current_dir(folder.path())
        // ~/.mlflow/credentials of whoever runs the tests would beat the token.
        .env("HOME", folder.path())
        .env_remove("MLFLOW_TRACKING_USERNAME")
        .env_remove("MLFLOW_TRACKING_PASSWORD")
        .env_remove("MLFLOW_TRACKING_TOKEN")
        .env("MLFLOW_TRACKING_URI", stack.url(""))
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("GIT_PYTHON_REFRESH", "quiet");
    if let Some(token) = token {
        command.env("MLFLOW_TRACKING_TOKEN", token);
    }
    let log = folder.path().join("output");
    let mut python = Process::start("the script", &mut command, &log).unwrap();
    let answered = |text: &str| text.lines().find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
    // It may have answered and ended between two looks, so what it wrote counts, not how it was waited for.
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
