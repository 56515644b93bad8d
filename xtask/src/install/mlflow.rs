//! MLflow in a virtual environment.

use std::path::PathBuf;

use anyhow::Result;

use super::python;
use crate::command::run;
use crate::progress::Progress;
use crate::workspace::Workspace;

const VERSION: &str = "3.17.2";

/// The path of the Python interpreter with MLflow.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let venv = workspace.tools().join(format!("mlflow-{VERSION}"));
    // A virtual environment cannot be moved once packages are installed. A marker file therefore shows that it is
    // complete.
    let complete = venv.join(".complete");
    if !complete.is_file() {
        let task = progress.task(format!("MLflow {VERSION}"));
        let python = python::create_venv(&venv, &task)?;
        let mut pip = python::pip(&python);
        run(pip.arg("install").arg(format!("mlflow=={VERSION}")), &task)?;
        std::fs::write(complete, "")?;
        task.finish("from PyPI");
    }
    Ok(python::interpreter(&venv))
}
