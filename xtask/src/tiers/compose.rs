//! The stack of docker-compose.yml in a real Docker engine, from a fresh copy of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Runs, integration_tests};
use crate::command::{find, output};
use crate::install::{self, apt};
use crate::progress::Progress;
use crate::stack::ports::{self, Ports};
use crate::workspace::{TESTS_PACKAGE, Workspace};

/// The integration test that this tier runs.
pub const TEST: &str = "compose";

/// The Compose project of the tests, separate from the user's own.
const PROJECT: &str = "oidc-gate-test";
/// The image of Envoy that the tests build, also separate.
const ENVOY_IMAGE: &str = "localhost/oidc-gate-envoy:test";
/// This one has the name of `docker-compose.yml`, because tests set MLFLOW_IMAGE in `.env`.
const MLFLOW_IMAGE: &str = "localhost/oidc-gate-mlflow:3.17.2";
/// The ports that the documentation prints.
const PRINTED_PORTS: [u16; 5] = [5000, 8080, 9000, 9001, 9090];
/// The prefix of the container names that the documentation prints.
const PRINTED_PREFIX: &str = "mlflow";

/// Why the tier cannot run here. `None` if it can.
pub fn obstacle() -> Option<String> {
    if find("docker").is_none() {
        return Some("docker is not installed".to_owned());
    }
    for (words, what) in [
        (["compose", "version"], "Docker Compose v2 is missing"),
        (["info", "-f={{.ID}}"], "no Docker engine answers"),
    ] {
        let answered = Command::new("docker")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !answered {
            return Some(what.to_owned());
        }
    }
    None
}

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    if let Some(obstacle) = obstacle() {
        bail!("{obstacle}");
    }
    integration_tests(workspace, |name| name == TEST)?;
    let wasm = install::wasm::build(workspace, progress)?;
    let chromedriver = apt::CHROMEDRIVER.ensure(progress)?;
    let python = install::mlflow::ensure(workspace, progress)?;
    let promtool = apt::PROMTOOL.ensure(progress)?;
    let keycloak = install::keycloak::ensure(workspace, progress)?;
    apt::CURL.ensure(progress)?;
    apt::JQ.ensure(progress)?;
    let folder = workspace.state().join("test-compose");
    let checkout = checkout(workspace, &folder, &wasm)?;
    let plan = Plan::choose()?;
    // An interrupted run may have left containers behind.
    plan.remove(&checkout)?;
    // The first `up` must build them, as on a new machine. An error means that there are none.
    for image in [ENVOY_IMAGE, MLFLOW_IMAGE] {
        let _ = output(Command::new("docker").args(["image", "rm", "--force", image]));
    }
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--locked", "--no-fail-fast", "--package", TESTS_PACKAGE, "--test", TEST])
        .env("OIDC_GATE_CHECKOUT", &checkout)
        .env("OIDC_GATE_REPOSITORY", workspace.root())
        .env("OIDC_GATE_FAILURES", &folder)
        .env("OIDC_GATE_MLFLOW_PYTHON", python)
        .env("OIDC_GATE_PROMTOOL", promtool)
        .env("OIDC_GATE_KCADM", keycloak.join("bin/kcadm.sh"))
        .env("OIDC_GATE_CHROMEDRIVER", chromedriver)
        .env("OIDC_GATE_WASM", wasm);
    for (name, value) in plan.environment() {
        cargo.env(name, value);
    }
    // The tests take turns at one stack. A test that builds an image runs in parallel.
    let result = runs.cargo_test(&cargo, "", &["--test-threads", "2"]);
    let removed = plan.remove(&checkout).context("removing the stack");
    result.and(removed)
}

/// What must differ between this stack and another one on the same engine.
struct Plan {
    /// MLflow, Keycloak, MinIO and its console, Prometheus.
    ports: [u16; 5],
    prefix: String,
}

impl Plan {
    /// The ports and names that the documentation prints if they are free, otherwise others.
    fn choose() -> Result<Self> {
        let ports = if PRINTED_PORTS.into_iter().all(ports::is_free) {
            PRINTED_PORTS
        } else {
            let hidden = Ports::hidden()?;
            [hidden.gate, hidden.provider, hidden.application, hidden.redis, hidden.envoy_admin]
        };
        let filter = format!("name=^/{PRINTED_PREFIX}-redis$");
        let taken = output(Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]))?;
        let theirs = !taken.trim().is_empty()
            && !output(
                Command::new("docker")
                    .args(["ps", "--all", "--quiet", "--filter", &filter])
                    .args(["--filter", &format!("label=com.docker.compose.project={PROJECT}")]),
            )
            .is_ok_and(|ours| !ours.trim().is_empty());
        let prefix = if theirs { PROJECT } else { PRINTED_PREFIX }.to_owned();
        Ok(Self { ports, prefix })
    }

    /// Variables for `docker compose`. They take precedence over `.env`.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let [mlflow, keycloak, minio, console, prometheus] = self.ports.map(|port| port.to_string());
        vec![
            ("COMPOSE_PROJECT_NAME", PROJECT.to_owned()),
            ("COMPOSE_ANSI", "never".to_owned()),
            ("COMPOSE_PROGRESS", "plain".to_owned()),
            ("CONTAINER_PREFIX", self.prefix.clone()),
            ("MLFLOW_PORT", mlflow),
            ("KEYCLOAK_PORT", keycloak),
            ("MINIO_PORT", minio),
            ("MINIO_CONSOLE_PORT", console),
            ("PROMETHEUS_PORT", prometheus),
            ("ENVOY_GATE_IMAGE", ENVOY_IMAGE.to_owned()),
            ("OIDC_GATE_FILTER", "prebuilt".to_owned()),
            // Keycloak starts a dozen times and never runs for long. Less compilation saves a minute.
            ("KEYCLOAK_HEAP", "-Xms64m -Xmx512m -XX:TieredStopAtLevel=1".to_owned()),
        ]
    }

    /// Removes the stack and those that tests create beside it, with their data. This does not need the variables that
    /// the files require.
    fn remove(&self, checkout: &Path) -> Result<()> {
        let mut removed = Ok(());
        for suffix in SUFFIXES {
            let mut compose = Command::new("docker");
            compose.current_dir(checkout).args([
                "compose",
                "-f",
                "docker-compose.yml",
                "-f",
                "docker-compose.monitoring.yml",
                "--profile",
                "*",
                "down",
                "--volumes",
                "--remove-orphans",
            ]);
            for (name, value) in self.environment() {
                compose.env(name, value);
            }
            compose.env("COMPOSE_PROJECT_NAME", format!("{PROJECT}{suffix}"));
            for name in SECRETS {
                compose.env(name, "none");
            }
            // A project that cannot be removed must not prevent removing the others.
            removed = removed.and(output(&mut compose).map(drop));
        }
        removed
    }
}

/// The suffixes of the project names: the shared one, and those of `Stack::instead` and `Stack::beside`.
const SUFFIXES: [&str; 3] = ["", "-instead", "-refused"];

const SECRETS: [&str; 7] = [
    "SECRET_KEY",
    "OIDC_CLIENT_SECRET",
    "POSTGRES_PASSWORD",
    "KEYCLOAK_ADMIN_PASSWORD",
    "REDIS_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "ASSERTION_KEYS",
];

/// A copy of the repository as a clone would have it, including uncommitted changes, with the prebuilt filter.
fn checkout(workspace: &Workspace, folder: &Path, wasm: &Path) -> Result<PathBuf> {
    let checkout = folder.join("checkout");
    if checkout.exists() {
        fs::remove_dir_all(&checkout)?;
    }
    for name in workspace.files()? {
        let from = workspace.root().join(&name);
        let to = checkout.join(&name);
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("copying {name}"))?;
    }
    fs::create_dir_all(checkout.join("dist"))?;
    fs::copy(wasm, checkout.join("dist/oidc_gate.wasm"))?;
    Ok(checkout)
}
