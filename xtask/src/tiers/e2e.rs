//! The filter in a real Envoy with a real Redis, which each test starts itself. Also the tests of those parts of the
//! test kit that need real programs.

use anyhow::Result;

use super::{Runs, compose, integration_tests, stack};
use crate::install;
use crate::install::wheel::WheelTool;
use crate::install::{apt, envoy};
use crate::progress::Progress;
use crate::workspace::{TESTS_PACKAGE, Workspace};

/// Each test starts an Envoy and a Redis. More tests in parallel than cores would slow each other down.
const TEST_THREADS: &str = "2";

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    run_with(&envoy::CURRENT, workspace, progress, runs)
}

/// The same tests with the older Envoys that the filter supports.
pub fn run_older(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    for release in &envoy::OLDER {
        println!("\nEnvoy {}", release.version);
        run_with(release, workspace, progress, runs)?;
    }
    Ok(())
}

fn run_with(release: &WheelTool, workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    let tests = integration_tests(workspace, |name| ![stack::TEST, compose::TEST].contains(&name))?;
    let wasm = install::wasm::build(workspace, progress)?;
    apt::CURL.ensure(progress)?;
    apt::IP.ensure(progress)?;
    let mut cargo = workspace.cargo();
    cargo
        // The library is the shared fixture and oracle, which have tests too.
        .args(["test", "--locked", "--no-fail-fast", "--package", TESTS_PACKAGE, "--lib"])
        .args(tests.iter().flat_map(|name| ["--test", name]))
        .env("OIDC_GATE_ENVOY", release.ensure(workspace, progress)?)
        .env("OIDC_GATE_REDIS", apt::REDIS.ensure(progress)?)
        .env("OIDC_GATE_HAPROXY", apt::HAPROXY.ensure(progress)?)
        .env("OIDC_GATE_CHROMEDRIVER", apt::CHROMEDRIVER.ensure(progress)?)
        .env("OIDC_GATE_WASM", wasm);
    let with = if release.version == envoy::CURRENT.version { "" } else { release.version };
    runs.cargo_test(&cargo, with, &["--test-threads", TEST_THREADS])
}
