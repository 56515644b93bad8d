//! The running stack: its addresses, its users, and how a test stops a part of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::process::{required_path, tail, wait_until};
use oidc_gate_testkit::provider::random_text;
use serde_json::{Value, json};

/// The password of every user of the development realm.
pub const PASSWORD: &str = "password123";
/// Time limit for anything that does not start a part. The machine may be busy.
pub const BOUND: Duration = Duration::from_secs(60);
/// The gate's session cookie on a loopback address without TLS.
pub const SESSION_COOKIE: &str = "oidc-gate";
/// The call of MLflow's API that scripts make.
pub const SEARCH: &str = "/api/2.0/mlflow/experiments/search";

/// A server of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The session store.
    Redis,
    /// The provider.
    Keycloak,
    /// The gate.
    Envoy,
}

/// The stack that `cargo xtask test stack` has started. If the test fails, dropping it prints the last log lines of its
/// parts.
#[derive(Debug)]
pub struct Stack {
    url: String,
    keycloak: String,
    folder: PathBuf,
    xtask: PathBuf,
}

impl Stack {
    /// Reads the environment.
    pub fn running() -> Self {
        Self {
            url: variable("OIDC_GATE_STACK_URL"),
            keycloak: variable("OIDC_GATE_KEYCLOAK_URL"),
            folder: path("OIDC_GATE_STACK_DIR"),
            xtask: path("OIDC_GATE_XTASK"),
        }
    }

    /// The URL of a path behind the gate.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Keycloak's origin.
    pub fn keycloak(&self) -> &str {
        &self.keycloak
    }

    /// The folder for screenshots of failed tests.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The Python interpreter that has MLflow installed.
    pub fn python(&self) -> PathBuf {
        path("OIDC_GATE_MLFLOW_PYTHON")
    }

    /// A client that sends this as its session cookie, as a thief does.
    pub fn browser_with(&self, session: &str) -> Client {
        let client = Client::new();
        client.jar().plant("localhost", SESSION_COOKIE, session);
        client
    }

    /// Sends a request without a credential.
    pub fn get(&self, path: &str) -> Response {
        Client::new().request("GET", &self.url(path)).send().unwrap()
    }

    /// Calls MLflow's API as a script does, for at most ten results.
    pub fn call_api(&self, path: &str, token: Option<&str>) -> Response {
        self.post(path, token, &json!({"max_results": 10}))
    }

    /// Sends a GET request with a token.
    pub fn get_with(&self, path: &str, token: &str) -> Response {
        Client::new().request("GET", &self.url(path)).bearer(token).send().unwrap()
    }

    /// Creates an experiment with a name that begins like this. Returns its id.
    pub fn make_experiment(&self, token: &str, name: &str) -> String {
        let name = format!("{name}-{}", random_text(12));
        let response = self.post("/api/2.0/mlflow/experiments/create", Some(token), &json!({"name": name}));
        assert_eq!(response.status, 200, "{response}");
        response.json()["experiment_id"].as_str().expect("an id").to_owned()
    }

    /// Creates an experiment, unless one with this name exists.
    pub fn create_experiment(&self, token: &str, name: &str) {
        let path = "/api/2.0/mlflow/experiments/create";
        let response = self.post(path, Some(token), &json!({"name": name}));
        let there = response.json()["error_code"] == "RESOURCE_ALREADY_EXISTS";
        assert!(response.status == 200 || there, "{response}");
    }

    /// A browser that has submitted the password, and the URL of the callback, which it has not opened.
    pub fn login_up_to_the_callback(&self, user: &str) -> (Client, String) {
        let client = Client::new();
        let form = client.visit(&self.url("/")).unwrap();
        let action = form.end().form_action().unwrap_or_else(|| panic!("no login form: {}", form.end()));
        let back = client.submit(&action, &[("username", user), ("password", PASSWORD)]).unwrap();
        match back.redirect_target() {
            Some(callback) if callback.starts_with(&self.url("/oauth2/callback")) => (client, callback),
            _ => panic!("Keycloak does not send the browser back: {back}"),
        }
    }

    /// The process id of Envoy. Tests compare it, because no outage may require a restart.
    pub fn envoy_pid(&self) -> u64 {
        self.pid_of("envoy")
    }

    /// The process id of MLflow.
    pub fn mlflow_pid(&self) -> u64 {
        self.pid_of("mlflow")
    }

    fn pid_of(&self, part: &str) -> u64 {
        let record = self.folder.join(format!("run/{part}.pid"));
        let text =
            std::fs::read_to_string(&record).unwrap_or_else(|error| panic!("{}: {error}", record.display()));
        let record: Value = serde_json::from_str(&text).unwrap();
        let pid = record["pid"].as_u64().expect("a process id");
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "{part} has ended");
        pid
    }

    /// The port of the gate's admin interface.
    pub fn envoy_admin_port(&self) -> u16 {
        let text = std::fs::read_to_string(self.folder.join("run/envoy.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let port = config["admin"]["address"]["socket_address"]["port_value"].as_u64();
        port.and_then(|port| u16::try_from(port).ok()).expect("Envoy has an admin interface")
    }

    /// MLflow's own port, which only the gate uses.
    pub fn application_port(&self) -> u16 {
        let text = std::fs::read_to_string(self.folder.join("plan.json")).unwrap();
        let plan: Value = serde_json::from_str(&text).unwrap();
        let port = plan["ports"]["application"].as_u64().and_then(|port| u16::try_from(port).ok());
        port.expect("the plan has the port of MLflow")
    }

    /// Stops a part until the guard is dropped.
    pub fn without(&self, part: Part) -> Outage<'_> {
        self.xtask("stop", part);
        Outage { stack: self, part, over: false }
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        self.within(BOUND, what, condition);
    }

    /// Waits until a condition holds, with a time limit of its own.
    #[track_caller]
    pub fn within(&self, bound: Duration, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(bound, condition), "not within {bound:?}: {what}");
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Response {
        let client = Client::new();
        let request = client.request("POST", &self.url(path)).json(body);
        let request = match token {
            Some(token) => request.bearer(token),
            None => request,
        };
        request.send().unwrap()
    }

    fn xtask(&self, action: &str, part: Part) {
        let mut command = Command::new(&self.xtask);
        command.args(["part", action, part.name(), "--state"]).arg(&self.folder);
        let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for part in ["envoy", "keycloak", "mlflow"] {
                let log = self.folder.join("logs").join(format!("{part}.log"));
                eprintln!("\n{part}'s log ends with:\n{}", tail(&log));
            }
        }
    }
}

/// A stopped part. Dropping this starts it again, even if the test failed, because the next test needs it.
#[derive(Debug)]
#[must_use]
pub struct Outage<'a> {
    stack: &'a Stack,
    part: Part,
    over: bool,
}

impl Outage<'_> {
    /// Starts the part and waits until it is ready.
    pub fn end(mut self) {
        self.over = true;
        self.stack.xtask("start", self.part);
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.stack.xtask("start", self.part);
        }
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Keycloak => "keycloak",
            Self::Envoy => "envoy",
        }
    }
}

/// A variable that `cargo xtask test stack` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set. Run these tests with `cargo xtask test stack`, which sets it.")
    })
}

fn path(name: &str) -> PathBuf {
    required_path(name).unwrap_or_else(|trouble| panic!("{trouble}"))
}
