//! The Python package for MLflow: its linters, its types, and its tests, most of which start a real MLflow. If the tier
//! is named, every route is asked as everybody, with each version of MLflow that the package supports.

use anyhow::Result;

use super::Runs;
use crate::command;
use crate::install::{apt, mlflow};
use crate::progress::Progress;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    apt::POSTGRESQL.ensure(progress)?;
    let mut versions = vec![mlflow::VERSION];
    if runs.is_thorough() {
        versions.extend(mlflow::OLDER);
    }
    for version in versions {
        let python = mlflow::ensure_for_tests(workspace, version, progress)?;
        let module = |words: &[&str]| {
            let mut command = mlflow::in_package(workspace, &python);
            command.arg("-m").args(words);
            command
        };
        if version == mlflow::VERSION {
            for (what, words) in [
                ("ruff finds nothing in the Python package", &["ruff", "check", "."][..]),
                ("ruff would not format the Python package differently", &["ruff", "format", "--check", "."]),
                ("mypy finds nothing in the Python package", &["mypy"]),
            ] {
                runs.check(what, || command::run(&mut module(words), &progress.task(what)));
            }
        }
        runs.pytest(&module(&["pytest", "-vv", "--color=no"]), &format!("MLflow {version}"))?;
    }
    Ok(())
}
