//! `cargo xtask bench`: what a part costs. Costs are CPU times, compared in alternating rounds.

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// MLflow with users and rights, compared to MLflow without.
pub fn mlflow(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let python = install::mlflow::ensure_for_tests(workspace, install::mlflow::VERSION, progress)?;
    let mut command = install::mlflow::in_package(workspace, &python);
    let status = command.arg("tests/bench_cost.py").status().context("cannot start the bench")?;
    crate::signals::check()?;
    ensure!(status.success(), "the bench ended with {status}");
    Ok(())
}
