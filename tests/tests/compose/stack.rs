//! The stack in the Docker engine: commands in the fresh copy, settings in its `.env`, and users who sign in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::process::{Trouble, wait_until};
use serde_json::Value;

use crate::document;

/// The password of every user of the development realm.
pub const PASSWORD: &str = "password123";
/// The gate's session cookie on a loopback address without TLS.
pub const SESSION_COOKIE: &str = "oidc-gate";
/// Time limit for anything that does not start a service. The machine may be busy.
pub const BOUND: Duration = Duration::from_secs(60);
/// Time limit for the start of a service.
pub const START_BOUND: Duration = Duration::from_secs(300);
/// The services that keep running.
pub const SERVICES: [&str; 6] = ["envoy", "keycloak", "minio", "mlflow", "postgres", "redis"];

/// The settings that are secrets.
pub const SECRETS: [&str; 9] = [
    "SECRET_KEY",
    "OIDC_CLIENT_SECRET",
    "POSTGRES_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "KEYCLOAK_DB_PASSWORD",
    "KEYCLOAK_ADMIN_PASSWORD",
    "REDIS_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "ASSERTION_KEYS",
];

/// Values for all secrets that Compose's files require, so that `docker compose` can read them without an `.env`.
pub const UNUSED_SECRETS: &str = "for name in SECRET_KEY OIDC_CLIENT_SECRET POSTGRES_PASSWORD KEYCLOAK_ADMIN_PASSWORD \
     REDIS_PASSWORD MINIO_ROOT_PASSWORD ASSERTION_KEYS; do export $name=unused; done";

/// The state of the stack that all tests share. Holding the lock gives exclusive use of the stack.
static STACK: Mutex<Known> = Mutex::new(Known { up_with: None, quick_start: None });

struct Known {
    /// The `.env` with which it was last started, so that a correct stack is not started again.
    up_with: Option<String>,
    /// How long the printed commands of the quick start took, once they have run.
    quick_start: Option<Duration>,
}

/// The stack of this run. If a test fails, dropping it prints the last log lines of the services.
pub struct Stack {
    checkout: PathBuf,
    url: String,
    keycloak: String,
    failures: PathBuf,
    /// The Compose project, if it is not that of this run.
    project: Option<String>,
    // Released last.
    known: Option<MutexGuard<'static, Known>>,
}

impl Stack {
    /// Only the copy of the repository. Other tests may use the stack meanwhile.
    pub fn copy() -> Self {
        Self {
            checkout: path("OIDC_GATE_CHECKOUT"),
            url: format!("http://localhost:{}", variable("MLFLOW_PORT")),
            keycloak: format!("http://localhost:{}", variable("KEYCLOAK_PORT")),
            failures: path("OIDC_GATE_FAILURES"),
            project: None,
            known: None,
        }
    }

    fn alone() -> Self {
        let mut stack = Self::copy();
        stack.known = Some(lock());
        stack
    }

    /// The stack with the settings of `.env.example` and generated secrets, running and healthy, exclusively for this
    /// test.
    pub fn up() -> Self {
        let mut stack = Self::alone();
        stack.bring_up();
        stack
    }

    /// Restores the state that [`Stack::up`] promises, if necessary.
    pub fn bring_up(&mut self) {
        if !self.env_file().exists() {
            self.quick_start();
        } else if !self.is_up() {
            self.compose("up --wait");
            self.remember();
        }
        self.wait_for_gate();
    }

    /// Envoy becomes healthy shortly before the gate has Keycloak's metadata. Nobody can sign in before that.
    #[track_caller]
    pub fn wait_for_gate(&self) {
        self.eventually("the gate knows Keycloak", || {
            Client::new().navigate(&self.url("/")).is_ok_and(|page| page.redirect_target().is_some())
        });
    }

    /// Like [`Stack::up`], but started by the commands of the quick start. Returns how long they took.
    pub fn fresh() -> (Self, Duration) {
        let took = lock().quick_start;
        if let Some(took) = took {
            return (Self::up(), took);
        }
        let mut stack = Self::alone();
        if stack.env_file().exists() {
            stack.run("reset");
            std::fs::remove_file(stack.env_file()).expect("the .env of an earlier run can be removed");
        }
        let took = stack.quick_start();
        stack.wait_for_gate();
        (stack, took)
    }

    /// Another stack with the same settings. Nothing is started yet, and everything is removed at the end. For starts
    /// that must fail.
    pub fn beside() -> Self {
        let mut stack = Self::up();
        stack.project = Some(format!("{}-refused", variable("COMPOSE_PROJECT_NAME")));
        stack
    }

    /// A stack with empty volumes that replaces the shared one, which is stopped meanwhile. Nothing is started yet, and
    /// everything is removed at the end.
    pub fn instead() -> Self {
        let mut stack = Self::alone();
        if !stack.env_file().exists() {
            stack.quick_start();
        }
        stack.known.as_mut().expect("the stack is ours").up_with = None;
        stack.compose("down");
        stack.project = Some(format!("{}-instead", variable("COMPOSE_PROJECT_NAME")));
        stack
    }

    /// Lets other tests use the stack while this test continues.
    pub fn share(&mut self) {
        self.known = None;
    }

    /// Takes exclusive use of the stack again, in the state that [`Stack::up`] promises.
    pub fn take(&mut self) {
        self.known = Some(lock());
        self.bring_up();
    }

    fn quick_start(&mut self) -> Duration {
        let started = Instant::now();
        self.run("quick-start");
        let took = started.elapsed();
        self.remember();
        self.known.as_mut().expect("the stack is ours").quick_start = Some(took);
        took
    }

    fn env_file(&self) -> PathBuf {
        self.checkout.join(".env")
    }

    fn remember(&mut self) {
        let settings = std::fs::read_to_string(self.env_file()).ok();
        self.known.as_mut().expect("the stack is ours").up_with = settings;
    }

    /// Whether all services are healthy and run with the current settings in `.env`.
    fn is_up(&self) -> bool {
        let settings = std::fs::read_to_string(self.env_file()).ok();
        let up_with = self.known.as_ref().and_then(|known| known.up_with.clone());
        settings.is_some() && settings == up_with && {
            let states = self.states();
            SERVICES.iter().all(|service| states.get(*service).is_some_and(|state| state == "healthy"))
        }
    }

    /// Runs the commands that docs/compose.md prints under a name. Returns their output.
    #[track_caller]
    pub fn run(&self, name: &str) -> String {
        self.shell(&document::printed(name))
    }

    /// Like [`Stack::run`], with more lines after the printed ones.
    #[track_caller]
    pub fn run_and(&self, name: &str, then: &str) -> String {
        self.shell(&format!("{}{then}\n", document::printed(name)))
    }

    /// Runs a script that must succeed. Returns its standard output.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let output = self.output(script);
        assert!(output.status.success(), "{script}\nended with {}:\n{}", output.status, said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script in the copy. Ports and names that the documentation prints are replaced by those of this run.
    pub fn output(&self, script: &str) -> Output {
        let script = script
            .replace("localhost:5000", &format!("localhost:{}", variable("MLFLOW_PORT")))
            // Inside Keycloak's container the port is always 8080.
            .replace("--server http://localhost:8080", "--server http://LOCALHOST:8080")
            .replace("localhost:8080", &format!("localhost:{}", variable("KEYCLOAK_PORT")))
            .replace("--server http://LOCALHOST:8080", "--server http://localhost:8080")
            .replace("mlflow.example.com", &format!("mlflow.example.com:{}", variable("MLFLOW_PORT")))
            .replace("login.example.com:8443", &format!("login.example.com:{}", variable("KEYCLOAK_PORT")))
            // Ports that the pages open to other machines stay on loopback here.
            .replace("=0.0.0.0", "=127.0.0.1")
            .replace("localhost:9090", &format!("localhost:{}", variable("PROMETHEUS_PORT")))
            .replace("mlflow-oidc-gate_", &format!("{}_", variable("COMPOSE_PROJECT_NAME")))
            .replace("exec mlflow-redis", &format!("exec {}-redis", variable("CONTAINER_PREFIX")));
        let python = path("OIDC_GATE_MLFLOW_PYTHON");
        let python = python.parent().expect("the interpreter is in a folder").display().to_string();
        let mut bash = Command::new("bash");
        if let Some(project) = &self.project {
            bash.env("COMPOSE_PROJECT_NAME", project).env("CONTAINER_PREFIX", project);
        }
        bash.args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.checkout)
            // A python3 that has MLflow installed, like its users'.
            .env("PATH", format!("{python}:{}", std::env::var("PATH").unwrap_or_default()))
            .env_remove("MLFLOW_TRACKING_USERNAME")
            .env_remove("MLFLOW_TRACKING_PASSWORD")
            .output()
            .expect("there is a bash")
    }

    /// Runs `docker compose …`, which must succeed.
    #[track_caller]
    pub fn compose(&self, words: &str) -> String {
        self.shell(&format!("docker compose {words}"))
    }

    /// The value of a variable in `.env`.
    pub fn setting(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.checkout.join(".env")).expect("there is an .env");
        let line = text.lines().rev().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!(".env has no {name}")).trim_matches('"').to_owned()
    }

    /// Sets variables in `.env` and starts the stack with them, until the guard is dropped.
    #[track_caller]
    pub fn with_settings(&mut self, settings: &[(&str, &str)]) -> Changed {
        self.known.as_mut().expect("the stack is ours").up_with = None;
        let changed = self.edit_settings(settings);
        self.compose("up --wait");
        self.wait_for_gate();
        changed
    }

    /// Sets variables in `.env` until the guard is dropped. Starts nothing.
    pub fn edit_settings(&self, settings: &[(&str, &str)]) -> Changed {
        let file = self.env_file();
        let before = std::fs::read_to_string(&file).expect("there is an .env");
        let mut text = before.clone();
        for (name, value) in settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        std::fs::write(&file, text).expect(".env can be written");
        Changed { file, before }
    }

    /// The folder of the copy.
    pub fn checkout(&self) -> &Path {
        &self.checkout
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
        &self.failures
    }

    /// The health of a service: `healthy`, or another state.
    pub fn health(&self, service: &str) -> String {
        self.states().remove(service).unwrap_or_default()
    }

    /// The health of every service, or its state if it has no health check.
    fn states(&self) -> BTreeMap<String, String> {
        let listed = self.compose("ps --all --format json");
        let services = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |service: &Value, key: &str| service[key].as_str().unwrap_or_default().to_owned();
        let state = |service: &Value| {
            let health = text(service, "Health");
            if health.is_empty() { text(service, "State") } else { health }
        };
        services.map(|service| (text(&service, "Service"), state(&service))).collect()
    }

    /// Restarts a service as a user does, and waits until it is healthy.
    #[track_caller]
    pub fn restart(&self, service: &str) {
        self.compose(&format!("restart {service}"));
        let healthy = wait_until(START_BOUND, || self.health(service) == "healthy");
        assert!(healthy, "{service} is {} after its restart", self.health(service));
    }

    /// Signs a user in through Keycloak's form, like a browser. Returns the last page.
    pub fn sign_in(&self, client: &Client, user: &str, password: &str) -> Response {
        let form = client.visit(&self.url("/")).unwrap();
        let action = form.end().form_action();
        let action = action.unwrap_or_else(|| panic!("this is no login form: {}", form.end()));
        let answer = client.submit(&action, &[("username", user), ("password", password)]).unwrap();
        client.follow(answer).unwrap().end().clone()
    }

    /// A new client that has signed in as one of the development realm's users.
    pub fn signed_in(&self, user: &str) -> Client {
        let client = Client::new();
        self.sign_in(&client, user, PASSWORD);
        client
    }

    /// Whether MLflow's API accepts the session.
    pub fn may_use_mlflow(&self, client: &Client) -> bool {
        self.ask_mlflow(client).is_ok_and(|response| response.status == 200)
    }

    /// Calls MLflow's API as its page does. An ended session gets 401. A 503 tells nothing about the session.
    pub fn ask_mlflow(&self, client: &Client) -> Result<Response, Trouble> {
        client.fetch(&self.url("/ajax-api/2.0/mlflow/experiments/search?max_results=1"))
    }

    /// An access token from the password grant.
    pub fn token(&self, user: &str) -> String {
        let answer = self.password_grant(user);
        let token = answer.json()["access_token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no token: {answer}"))
    }

    /// The response of the password grant.
    pub fn password_grant(&self, user: &str) -> Response {
        self.tokens(&[("grant_type", "password"), ("username", user), ("password", PASSWORD)])
    }

    /// Sends a request to the token endpoint as the client `mlflow`.
    pub fn tokens(&self, form: &[(&str, &str)]) -> Response {
        let url = format!("{}/realms/mlflow/protocol/openid-connect/token", self.keycloak);
        let secret = self.setting("OIDC_CLIENT_SECRET");
        let mut all = vec![("client_id", "mlflow"), ("client_secret", &secret)];
        all.extend_from_slice(form);
        Client::new().request("POST", &url).form(&all).send().unwrap()
    }

    /// Lifetime of a new access token in seconds, rounded up to tens. Keycloak reads its clock twice, so `expires_in`
    /// may be one second less than configured.
    pub fn access_token_lifetime(&self) -> Option<u64> {
        let answer = self.password_grant("mlflow_user");
        Some(answer.json()["expires_in"].as_u64()?.next_multiple_of(10))
    }

    /// Calls MLflow's API with a token.
    pub fn api(&self, token: &str) -> Response {
        let url = self.url("/api/2.0/mlflow/experiments/search?max_results=1");
        Client::new().request("GET", &url).bearer(token).send().unwrap()
    }

    /// Runs commands of kcadm.sh in Keycloak's container, signed in. `kcadm` is the command.
    #[track_caller]
    pub fn kcadm(&self, script: &str) -> String {
        self.shell(&format!(
            "docker compose exec -T keycloak bash -s <<'SCRIPT'\nset -euo pipefail\n\
             export KC_OPTS='-XX:TieredStopAtLevel=1 -XX:+AutoCreateSharedArchive -XX:SharedArchiveFile=/tmp/test.jsa'\n\
             kcadm() {{ /opt/keycloak/bin/kcadm.sh \"$@\" --config /tmp/test.config </dev/null; }}\n\
             KC_CLI_PASSWORD=$KC_BOOTSTRAP_ADMIN_PASSWORD kcadm config credentials --server http://localhost:8080 \
             --realm master --user admin 2>/dev/null\n{script}\nSCRIPT"
        ))
    }

    /// Lets the next sign-in with a known name have it. In MLflow, a name belongs to the person who had it first, and
    /// not to one whom Keycloak makes again.
    pub fn release_names_in_mlflow(&self) {
        self.shell(
            "docker compose exec -T postgres psql -U postgres -d mlflow -v ON_ERROR_STOP=1 -qc \
             \"UPDATE users SET password_hash = regexp_replace(password_hash, '^!oidc-gate:[^:]*:', '!oidc-gate::')\"",
        );
    }

    /// The last lines of Envoy's access log. Envoy writes them in batches, with a delay of some seconds.
    pub fn access_log(&self) -> Vec<String> {
        let log = self.compose("logs --no-log-prefix --tail 400 envoy");
        log.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(BOUND, condition), "not within {BOUND:?}: {what}");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() && self.env_file().exists() {
            let said_last = self.output("docker compose ps --all; docker compose logs --tail 15");
            eprintln!("{}", said(&said_last));
        }
        if self.project.is_some() {
            self.output("docker compose down --volumes --remove-orphans");
        }
    }
}

/// Changed settings. Dropping this restores the previous ones.
pub struct Changed {
    file: PathBuf,
    before: String,
}

impl Drop for Changed {
    fn drop(&mut self) {
        // The next test starts the stack with it.
        if let Err(error) = std::fs::write(&self.file, &self.before) {
            eprintln!(".env could not be put back: {error}");
        }
    }
}

fn lock() -> MutexGuard<'static, Known> {
    // After a failed test, the next one checks the stack anyway.
    STACK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The whole output of a script.
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
