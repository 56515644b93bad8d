//! Virtual environments and packages from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::command::{find, run};
use crate::progress::Task;

/// Creates a virtual environment in `folder` and returns the path of its interpreter.
pub fn create_venv(folder: &Path, task: &Task) -> Result<PathBuf> {
    if find("python3").is_none() {
        apt::install(&["python3", "python3-venv"], task)?;
    }
    let venv = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(folder);
        command
    };
    // Debian packages ensurepip separately from python3. Only running it shows whether it is there.
    if run(&mut venv(), task).is_err() {
        crate::signals::check()?;
        apt::install(&["python3-venv"], task)?;
        run(&mut venv(), task)?;
    }
    Ok(interpreter(folder))
}

/// The path of the interpreter in a virtual environment.
pub fn interpreter(venv: &Path) -> PathBuf {
    venv.join("bin/python")
}

/// Downloads the wheel for this machine to `folder`. Its version and SHA-256 are fixed.
pub fn download_wheel(
    package: &str,
    version: &str,
    hashes: &[&str],
    folder: &Path,
    task: &Task,
) -> Result<PathBuf> {
    let scratch = folder.join(format!("{package}-{version}.pip"));
    let python = create_venv(&scratch.join("venv"), task)?;
    let hashes: String = hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    let requirements = scratch.join("requirements.txt");
    std::fs::write(&requirements, format!("{package}=={version}{hashes}\n"))?;
    let wheels = scratch.join("wheels");
    let mut pip = pip(&python);
    pip.args(["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest"]);
    run(pip.arg(&wheels).arg("--requirement").arg(&requirements), task)?;
    let wheel = std::fs::read_dir(&wheels)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("pip downloaded no wheel of {package}"))?;
    let kept = folder.join(wheel.file_name().context("a wheel has a name")?);
    std::fs::rename(&wheel, &kept)?;
    std::fs::remove_dir_all(&scratch)?;
    Ok(kept)
}

/// pip of a virtual environment, without prompts.
pub fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]);
    command
}
