//! The stack in the engine: commands in the fresh copy, settings in its `.env`, and people who sign in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::process::wait_until;
use serde_json::Value;

use crate::document;

/// The password of every user of the development realm.
pub const PASSWORD: &str = "password123";
/// How long anything may take that needs no part to start: the machine may be busy.
pub const BOUND: Duration = Duration::from_secs(60);
/// The services that stay up.
pub const SERVICES: [&str; 6] = ["envoy", "keycloak", "minio", "mlflow", "postgres", "redis"];

/// The stack of this run. When a test fails, dropping it prints what the services logged last.
#[derive(Debug)]
pub struct Stack {
    checkout: PathBuf,
    url: String,
    keycloak: String,
    failures: PathBuf,
}

impl Stack {
    /// The copy of the repository, whatever runs.
    pub fn copy() -> Self {
        Self {
            checkout: path("OIDC_GATE_CHECKOUT"),
            url: format!("http://localhost:{}", variable("MLFLOW_PORT")),
            keycloak: format!("http://localhost:{}", variable("KEYCLOAK_PORT")),
            failures: path("OIDC_GATE_FAILURES"),
        }
    }

    /// The stack with the settings of `.env.example` and generated secrets, up and healthy.
    pub fn up() -> Self {
        let stack = Self::copy();
        if stack.checkout.join(".env").exists() {
            stack.compose("up --wait");
        } else {
            stack.run("quick-start");
        }
        stack
    }

    /// Runs what docs/compose.md prints under a name, and returns what it wrote.
    #[track_caller]
    pub fn run(&self, name: &str) -> String {
        self.shell(&document::printed(name))
    }

    /// As [`Stack::run`], and more lines after it.
    #[track_caller]
    pub fn run_and(&self, name: &str, then: &str) -> String {
        self.shell(&format!("{}{then}\n", document::printed(name)))
    }

    /// Runs a script that must end well, and returns what it wrote to standard output.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let output = self.output(script);
        assert!(output.status.success(), "{script}\nended with {}:\n{}", output.status, said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script in the copy. The ports and names that the documentation prints are those of this run.
    pub fn output(&self, script: &str) -> Output {
        let script = script
            .replace("localhost:5000", &format!("localhost:{}", variable("MLFLOW_PORT")))
            // Inside Keycloak's container the port is Keycloak's own.
            .replace("--server http://localhost:8080", "--server http://LOCALHOST:8080")
            .replace("localhost:8080", &format!("localhost:{}", variable("KEYCLOAK_PORT")))
            .replace("--server http://LOCALHOST:8080", "--server http://localhost:8080")
            .replace("exec mlflow-redis", &format!("exec {}-redis", variable("CONTAINER_PREFIX")));
        let python = path("OIDC_GATE_MLFLOW_PYTHON");
        let python = python.parent().expect("the interpreter is in a folder").display().to_string();
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.checkout)
            // A python3 that has MLflow, as its users have.
            .env("PATH", format!("{python}:{}", std::env::var("PATH").unwrap_or_default()))
            .env_remove("MLFLOW_TRACKING_USERNAME")
            .env_remove("MLFLOW_TRACKING_PASSWORD")
            .output()
            .expect("there is a bash")
    }

    /// `docker compose …`, which must end well.
    #[track_caller]
    pub fn compose(&self, words: &str) -> String {
        self.shell(&format!("docker compose {words}"))
    }

    /// A value of `.env`.
    pub fn setting(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.checkout.join(".env")).expect("there is an .env");
        let line = text.lines().rev().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!(".env has no {name}")).trim_matches('"').to_owned()
    }

    /// Sets variables in `.env` and brings the stack up with them, until the guard goes.
    #[track_caller]
    pub fn with_settings(&self, settings: &[(&str, &str)]) -> Changed<'_> {
        let changed = self.edit_settings(settings);
        self.compose("up --wait");
        changed
    }

    /// Sets variables in `.env` without doing anything with them, until the guard goes.
    pub fn edit_settings(&self, settings: &[(&str, &str)]) -> Changed<'_> {
        let file = self.checkout.join(".env");
        let before = std::fs::read_to_string(&file).expect("there is an .env");
        let mut text = before.clone();
        for (name, value) in settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        std::fs::write(&file, text).expect(".env can be written");
        Changed { stack: self, before }
    }

    /// The copy's folder.
    pub fn checkout(&self) -> &Path {
        &self.checkout
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
        &self.failures
    }

    /// The health of a service: `healthy`, and otherwise something else.
    pub fn health(&self, service: &str) -> String {
        let listed = self.compose("ps --all --format json");
        let of = |value: &Value| value["Service"] == service;
        let services = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let service = services.into_iter().find(of).unwrap_or_default();
        let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
        if text("Health").is_empty() { text("State") } else { text("Health") }
    }

    /// Signs somebody in as a browser does, by Keycloak's form; the last page is what they get to see.
    pub fn sign_in(&self, client: &Client, user: &str, password: &str) -> Response {
        let form = client.visit(&self.url("/")).unwrap();
        let action = form.end().form_action();
        let action = action.unwrap_or_else(|| panic!("this is no login form: {}", form.end()));
        let answer = client.submit(&action, &[("username", user), ("password", password)]).unwrap();
        client.follow(answer).unwrap().end().clone()
    }

    /// Whether a session is good for MLflow's API.
    pub fn may_use_mlflow(&self, client: &Client) -> bool {
        let url = self.url("/ajax-api/2.0/mlflow/experiments/search?max_results=1");
        client.fetch(&url).is_ok_and(|response| response.status == 200)
    }

    /// An access token by the password grant.
    pub fn token(&self, user: &str) -> String {
        let answer = self.tokens(&[("grant_type", "password"), ("username", user), ("password", PASSWORD)]);
        let token = answer.json()["access_token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no token: {answer}"))
    }

    /// Asks the token endpoint as the client `mlflow`.
    pub fn tokens(&self, form: &[(&str, &str)]) -> Response {
        let url = format!("{}/realms/mlflow/protocol/openid-connect/token", self.keycloak);
        let secret = self.setting("OIDC_CLIENT_SECRET");
        let mut all = vec![("client_id", "mlflow"), ("client_secret", &secret)];
        all.extend_from_slice(form);
        Client::new().request("POST", &url).form(&all).send().unwrap()
    }

    /// Asks MLflow's API with a token.
    pub fn api(&self, token: &str) -> Response {
        let url = self.url("/api/2.0/mlflow/experiments/search?max_results=1");
        Client::new().request("GET", &url).bearer(token).send().unwrap()
    }

    /// Commands of kcadm.sh in Keycloak's container, signed in; `kcadm` is the command.
    #[track_caller]
    pub fn kcadm(&self, script: &str) -> String {
        self.shell(&format!(
            "docker compose exec -T keycloak bash -s <<'SCRIPT'\nset -euo pipefail\n\
             kcadm() {{ /opt/keycloak/bin/kcadm.sh \"$@\" --config /tmp/test.config </dev/null; }}\n\
             KC_CLI_PASSWORD=$KC_BOOTSTRAP_ADMIN_PASSWORD kcadm config credentials --server http://localhost:8080 \
             --realm master --user admin 2>/dev/null\n{script}\nSCRIPT"
        ))
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(BOUND, condition), "not within {BOUND:?}: {what}");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() && self.checkout.join(".env").exists() {
            let said_last = self.output("docker compose ps --all; docker compose logs --tail 15");
            eprintln!("{}", said(&said_last));
        }
    }
}

/// Settings that go back to what they were.
pub struct Changed<'a> {
    stack: &'a Stack,
    before: String,
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        // The next test brings the stack up with it.
        if let Err(error) = std::fs::write(self.stack.checkout.join(".env"), &self.before) {
            eprintln!(".env could not be put back: {error}");
        }
    }
}

/// All that a script wrote.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set. Run these tests with `cargo xtask test compose`, which sets it.")
    })
}

fn path(name: &str) -> PathBuf {
    variable(name).into()
}
