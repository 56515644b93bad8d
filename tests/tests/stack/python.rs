//! MLflow's Python client, in a separate process.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::process::{Process, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::stack::Stack;

/// Importing MLflow takes seconds, and longer on a busy machine.
const BOUND: Duration = Duration::from_secs(180);
/// Marks the answer in the script's output, which may contain warnings of libraries too.
pub const MARK: &str = "ANSWER ";
/// The functions that every script may use.
const PRELUDE: &str = r#"
import json, os, pathlib, threading, time, mlflow
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
pub fn run_with(stack: &Stack, environment: &[(&str, impl AsRef<OsStr>)], script: &str) -> Value {
    Script::start(stack, environment, script).answer(BOUND)
}

/// A script that runs.
#[derive(Debug)]
pub struct Script {
    python: Process,
    log: PathBuf,
    _folder: TempDir,
    _packages: Option<TempDir>,
}

impl Script {
    /// Starts a script in an empty folder, with these variables and the functions of the prelude.
    #[track_caller]
    pub fn start(stack: &Stack, environment: &[(&str, impl AsRef<OsStr>)], script: &str) -> Self {
        let mut python = command(stack, &stack.python());
        python.args(["-c", &format!("{PRELUDE}\n{script}")]).envs(variables(environment));
        Self::of(python)
    }

    /// Starts a script in an environment that has MLflow, but not the package.
    #[track_caller]
    pub fn start_without_package(stack: &Stack, environment: &[(&str, &str)], script: &str) -> Self {
        let installed = stack.python().parent().unwrap().parent().unwrap().join("lib");
        let version = std::fs::read_dir(&installed).unwrap().next().expect("a version of Python").unwrap();
        let packages = tempfile::tempdir().unwrap();
        for package in std::fs::read_dir(version.path().join("site-packages")).unwrap() {
            let package = package.unwrap();
            if !package.file_name().to_string_lossy().starts_with("oidc_gate_mlflow") {
                symlink(package.path(), packages.path().join(package.file_name())).unwrap();
            }
        }
        // The interpreter that the virtual environment was made from, without the packages of its own.
        let interpreter = stack.python().canonicalize().unwrap();
        let mut python = command(stack, &interpreter);
        python.args(["-S", "-c", &format!("{PRELUDE}\n{script}")]).env("PYTHONPATH", packages.path());
        python.envs(variables(environment));
        Self { _packages: Some(packages), ..Self::of(python) }
    }

    /// Starts the command of the package: `python -m oidc_gate_mlflow …`.
    #[track_caller]
    pub fn of_package(stack: &Stack, environment: &[(&str, impl AsRef<OsStr>)], arguments: &[&str]) -> Self {
        let mut python = command(stack, &stack.python());
        python.args(["-m", "oidc_gate_mlflow"]).args(arguments).envs(variables(environment));
        Self::of(python)
    }

    #[track_caller]
    fn of(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str| command.get_envs().any(|(key, value)| key == name && value.is_some());
        if !set("HOME") {
            // A ~/.mlflow/credentials of the user who runs the tests would override the token.
            command.env("HOME", folder.path());
        }
        command.current_dir(folder.path());
        let log = folder.path().join("output");
        let python = Process::start("the script", &mut command, &log).unwrap();
        Self { python, log, _folder: folder, _packages: None }
    }

    /// Waits for the answer.
    #[track_caller]
    pub fn answer(mut self, bound: Duration) -> Value {
        let log = self.log.clone();
        let answered =
            || python_log(&log).lines().find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
        // The script may finish between two checks, so the output counts and not the result of waiting.
        let waited = self.python.wait_until(bound, || answered().is_some());
        let answer = answered().unwrap_or_else(|| match waited {
            Err(trouble) => panic!("{trouble}"),
            Ok(()) => unreachable!("the wait ends with an answer"),
        });
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Waits until the output contains this text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let log = self.log.clone();
        let waited = self.python.wait_until(BOUND, || python_log(&log).contains(text));
        assert!(python_log(&log).contains(text), "the script does not say {text:?}: {waited:?}");
    }

    /// Waits until the script has ended. Returns its whole output.
    #[track_caller]
    pub fn output(mut self, bound: Duration) -> String {
        let ended = wait_until(bound, || !self.python.is_running());
        assert!(ended, "{}", self.python.trouble("does not end"));
        self.said()
    }

    /// What it has printed so far.
    pub fn said(&self) -> String {
        python_log(&self.log)
    }

    pub fn is_running(&mut self) -> bool {
        self.python.is_running()
    }
}

fn variables<'a>(environment: &'a [(&str, impl AsRef<OsStr>)]) -> impl Iterator<Item = (&'a str, &'a OsStr)> {
    environment.iter().map(|(name, value)| (*name, value.as_ref()))
}

fn command(stack: &Stack, interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    let ours = std::env::vars_os().map(|(name, _)| name);
    // The tests' own variables, such as the gate's secret, are also variables of the package.
    for name in ours.filter(|name| name.to_string_lossy().starts_with("OIDC_GATE_")) {
        command.env_remove(name);
    }
    command
        .env_remove("MLFLOW_TRACKING_USERNAME")
        .env_remove("MLFLOW_TRACKING_PASSWORD")
        .env_remove("MLFLOW_TRACKING_TOKEN")
        // A variable of these tests, and of the package's client.
        .env_remove("OIDC_GATE_CLIENT_SECRET")
        .env("MLFLOW_TRACKING_URI", stack.url(""))
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("GIT_PYTHON_REFRESH", "quiet");
    command
}

fn python_log(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
