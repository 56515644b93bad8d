//! The running stack: where its parts are, who its users are, and how a test takes a part away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::process::{required_path, tail, wait_until};
use serde_json::Value;

/// The password of every user of the development realm.
pub const PASSWORD: &str = "password123";
/// How long anything may take that needs no part to start: the machine may be busy.
pub const BOUND: Duration = Duration::from_secs(60);
/// The gate's name at the provider.
const CLIENT_ID: &str = "mlflow";

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

/// The stack that `cargo xtask test stack` has started. When the test fails, dropping it prints what its parts logged
/// last.
#[derive(Debug)]
pub struct Stack {
    url: String,
    keycloak: String,
    folder: PathBuf,
    xtask: PathBuf,
}

impl Stack {
    /// From the environment.
    pub fn running() -> Self {
        Self {
            url: variable("OIDC_GATE_STACK_URL"),
            keycloak: variable("OIDC_GATE_KEYCLOAK_URL"),
            folder: path("OIDC_GATE_STACK_DIR"),
            xtask: path("OIDC_GATE_XTASK"),
        }
    }

    /// An address behind the gate.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The origin of Keycloak.
    pub fn keycloak(&self) -> &str {
        &self.keycloak
    }

    /// Where a failed test leaves its pictures.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The interpreter that has MLflow.
    pub fn python(&self) -> PathBuf {
        path("OIDC_GATE_MLFLOW_PYTHON")
    }

    /// An access token of a user, by the password grant.
    pub fn token(&self, user: &str) -> String {
        let url = format!("{}/realms/mlflow/protocol/openid-connect/token", self.keycloak);
        let secret = variable("OIDC_GATE_CLIENT_SECRET");
        let form = [
            ("grant_type", "password"),
            ("client_id", CLIENT_ID),
            ("client_secret", &secret),
            ("username", user),
            ("password", PASSWORD),
            ("scope", "openid"),
        ];
        access_token(&Client::new().request("POST", &url).form(&form).send().unwrap())
    }

    /// The sessions that Keycloak has of a user.
    pub fn keycloak_sessions(&self, user: &str) -> Vec<Value> {
        let user = self.user_id(user);
        let sessions = self.admin("GET", &format!("/users/{user}/sessions"));
        sessions.json().as_array().expect("Keycloak lists sessions").clone()
    }

    /// Ends all sessions of a user at Keycloak, so that the next login asks for the password and a count begins at none.
    pub fn end_keycloak_sessions(&self, user: &str) {
        let user = self.user_id(user);
        self.admin("POST", &format!("/users/{user}/logout"));
    }

    /// Stops a part until the guard goes.
    pub fn without(&self, part: Part) -> Outage<'_> {
        self.xtask("stop", part);
        Outage { stack: self, part, over: false }
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(BOUND, condition), "not within {BOUND:?}: {what}");
    }

    fn user_id(&self, user: &str) -> String {
        let users = self.admin("GET", &format!("/users?exact=true&username={user}"));
        users.json()[0]["id"].as_str().unwrap_or_else(|| panic!("no user {user}: {users}")).to_owned()
    }

    /// A call of Keycloak's Admin API on the realm.
    fn admin(&self, method: &str, path: &str) -> Response {
        let client = Client::new();
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.keycloak);
        let password = variable("OIDC_GATE_KEYCLOAK_ADMIN_PASSWORD");
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", password.as_str()),
        ];
        let token = access_token(&client.request("POST", &url).form(&form).send().unwrap());
        let url = format!("{}/admin/realms/mlflow{path}", self.keycloak);
        let response = client.request(method, &url).bearer(&token).send().unwrap();
        assert!((200..300).contains(&response.status), "{method} {path}: {response}");
        response
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

/// A part is away. It comes back when this is dropped, also after a failure: the next test needs it.
#[derive(Debug)]
#[must_use]
pub struct Outage<'a> {
    stack: &'a Stack,
    part: Part,
    over: bool,
}

impl Outage<'_> {
    /// Starts the part again and waits until it is ready.
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

fn access_token(response: &Response) -> String {
    let token = response.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("Keycloak gives no token: {response}"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set. Run these tests with `cargo xtask test stack`, which sets it.")
    })
}

fn path(name: &str) -> PathBuf {
    required_path(name).unwrap_or_else(|trouble| panic!("{trouble}"))
}
