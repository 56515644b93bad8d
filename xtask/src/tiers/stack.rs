//! The whole stack with a browser, with separate ports and a separate folder.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Runs, integration_tests};
use crate::install;
use crate::progress::Progress;
use crate::stack::instance::{Instance, Mode, Plan};
use crate::stack::ports::Ports;
use crate::stack::{self, secrets};
use crate::workspace::{TESTS_PACKAGE, Workspace};

/// The integration test that this tier runs.
pub const TEST: &str = "stack";

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    integration_tests(workspace, |name| name == TEST)?;
    let _alone = alone(workspace)?;
    let chromedriver = install::apt::CHROMEDRIVER.ensure(progress)?;
    install::apt::CURL.ensure(progress)?;
    let folder = folder(workspace);
    // An interrupted run may have left parts running.
    stack::down(&folder)?;
    stack::remove_data(&folder)?;
    let failures = folder.join("failures");
    if failures.exists() {
        std::fs::remove_dir_all(&failures).context("removing the pictures of earlier failures")?;
    }
    let plan = Plan { mode: Mode::Full, workers: 2, ports: Ports::hidden()? };
    let result = stack::up(workspace, &folder, plan, progress)
        .and_then(|instance| test(workspace, &instance, chromedriver, progress, runs));
    let stopped = stack::down(&folder).context("stopping the stack");
    result.and(stopped.map(drop))
}

fn test(
    workspace: &Workspace,
    instance: &Instance,
    chromedriver: PathBuf,
    progress: &Progress,
    runs: &mut Runs,
) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--locked", "--no-fail-fast", "--package", TESTS_PACKAGE, "--test", TEST])
        .env("OIDC_GATE_STACK_URL", instance.public_url())
        .env("OIDC_GATE_STACK_DIR", instance.folder())
        .env("OIDC_GATE_KEYCLOAK_URL", instance.provider_url())
        .env("OIDC_GATE_KEYCLOAK_ADMIN_PASSWORD", instance.secrets.required(secrets::KEYCLOAK_ADMIN_PASSWORD))
        .env("OIDC_GATE_CLIENT_SECRET", instance.secrets.required(secrets::OIDC_CLIENT_SECRET))
        .env("OIDC_GATE_MLFLOW_PYTHON", install::mlflow::ensure(workspace, progress)?)
        .env("OIDC_GATE_CHROMEDRIVER", chromedriver)
        .env("OIDC_GATE_XTASK", std::env::current_exe()?);
    // The tests share one stack, and some of them stop parts of it.
    runs.cargo_test(&cargo, "", &["--test-threads", "1"])
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.state().join("test-stack")
}

fn alone(workspace: &Workspace) -> Result<File> {
    std::fs::create_dir_all(workspace.state())?;
    let lock = File::create(workspace.state().join("test-stack.lock"))?;
    if lock.try_lock().is_err() {
        bail!("the stack tests are already running in this repository");
    }
    Ok(lock)
}
