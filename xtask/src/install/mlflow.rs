//! MLflow in a virtual environment, with this repository's package for it (`mlflow/`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::python;
use crate::command::run;
use crate::download;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// The version that runs.
pub const VERSION: &str = "3.17.2";
/// The older versions that the package supports.
pub const OLDER: [&str; 1] = ["3.17.1"];
/// The folder of the package.
const PACKAGE: &str = "mlflow";

/// The path of the Python interpreter with MLflow and the package. Installs both again if the package has changed.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    ensure_version(workspace, VERSION, progress)
}

/// Like [`ensure`], with what the package's tests and linters need.
pub fn ensure_for_tests(workspace: &Workspace, version: &str, progress: &Progress) -> Result<PathBuf> {
    let python = ensure_version(workspace, version, progress)?;
    let complete = venv(workspace, version).join(".tests");
    let wanted = fingerprint(workspace, version)?;
    if std::fs::read_to_string(&complete).ok().as_deref() != Some(wanted.as_str()) {
        let task = progress.task(format!("tools for the tests with MLflow {version}"));
        let mut pip = python::pip(&python);
        // The package is there already: this adds what its extra `test` names.
        pip.arg("install").arg(format!("{}[test]", workspace.root().join(PACKAGE).display()));
        run(&mut pip, &task)?;
        std::fs::write(complete, wanted)?;
        task.finish("from PyPI");
    }
    Ok(python)
}

/// Python in the folder of the package. It imports what is there, not what was installed.
pub fn in_package(workspace: &Workspace, python: &Path) -> Command {
    let package = workspace.root().join(PACKAGE);
    let mut command = Command::new(python);
    command.env("PYTHONPATH", package.join("src")).current_dir(package);
    command
}

fn venv(workspace: &Workspace, version: &str) -> PathBuf {
    workspace.tools().join(format!("mlflow-{version}"))
}

fn ensure_version(workspace: &Workspace, version: &str, progress: &Progress) -> Result<PathBuf> {
    let venv = venv(workspace, version);
    // A virtual environment cannot be moved once packages are installed. A marker file therefore shows that it is
    // complete, and what is in it.
    let complete = venv.join(".complete");
    let wanted = fingerprint(workspace, version)?;
    let found = std::fs::read_to_string(&complete).ok();
    if found.as_deref() != Some(wanted.as_str()) {
        let task = progress.task(format!("MLflow {version} with oidc-gate-mlflow"));
        let python = match found {
            Some(_) => {
                std::fs::remove_file(&complete)?;
                python::interpreter(&venv)
            }
            None => python::create_venv(&venv, &task)?,
        };
        run(
            python::pip(&python).args(["install", &format!("mlflow[auth]=={version}"), "PyJWT>=2.10,<3"]),
            &task,
        )?;
        // By itself pip keeps what is installed under the same version.
        let mut pip = python::pip(&python);
        pip.args(["install", "--no-deps", "--force-reinstall"]).arg(workspace.root().join(PACKAGE));
        run(&mut pip, &task)?;
        std::fs::write(complete, wanted)?;
        task.finish("from PyPI, and mlflow/");
    }
    Ok(python::interpreter(&venv))
}

/// Builds the package's wheel in `folder` and returns its path.
pub fn wheel(workspace: &Workspace, folder: &Path, progress: &Progress) -> Result<PathBuf> {
    let venv = workspace.tools().join("wheel");
    let task = progress.task("oidc-gate-mlflow");
    let python = match python::interpreter(&venv) {
        python if python.is_file() => python,
        _ => python::create_venv(&venv, &task)?,
    };
    // The wheel alone, so that an older one is not taken for it.
    let scratch = tempfile::tempdir_in(folder)?;
    let mut pip = python::pip(&python);
    pip.args(["wheel", "--no-deps", "--wheel-dir"]).arg(scratch.path()).arg(workspace.root().join(PACKAGE));
    run(&mut pip, &task)?;
    let built: Vec<_> = std::fs::read_dir(scratch.path())?.collect::<std::io::Result<_>>()?;
    ensure!(built.len() == 1, "pip built {} files", built.len());
    let built = built.first().context("pip built no wheel")?;
    let wheel = folder.join(built.file_name());
    std::fs::rename(built.path(), &wheel)?;
    task.finish("by pip");
    Ok(wheel)
}

/// The files that are installed, or decide what is.
pub fn sources(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let ours = |name: &str| name == "mlflow/pyproject.toml" || name.starts_with("mlflow/src/");
    let files = workspace.files()?.into_iter().filter(|name| ours(name));
    Ok(files.map(|name| workspace.root().join(name)).collect())
}

/// A hash of the sources, their names, and the version of MLflow.
fn fingerprint(workspace: &Workspace, version: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(version);
    for path in sources(workspace)? {
        let name = path.strip_prefix(workspace.root()).unwrap_or(&path);
        hash.update(format!("\n{} {}", name.display(), download::file_sha256(&path)?));
    }
    Ok(download::hex(&hash.finalize()))
}
