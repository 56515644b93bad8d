//! kubectl-validate, which reads manifests as an API server does: kinds, members, types, and nothing unknown.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::go_tool::GoTool;
use crate::command::output;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// No tag is as young as the Kubernetes below.
const VERSION: &str = "v0.0.5-0.20260105161640-a97ccfaca20b";

/// The schemas of this version are in the program.
const KUBERNETES: &str = "1.34";

/// The kubectl-validate binary.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    GoTool { module: "sigs.k8s.io/kubectl-validate", version: VERSION, program: "kubectl-validate" }
        .ensure(workspace, progress)
}

/// Reads the manifests in a file, with the custom resources that the folders define.
///
/// # Errors
/// When an API server would refuse one of them.
pub fn validate(program: &Path, crds: &[PathBuf], manifests: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["--version", KUBERNETES]).arg(manifests);
    for folder in crds {
        command.arg("--local-crds").arg(folder);
    }
    // It would ask the cluster of whoever is working here.
    output(command.env("KUBECONFIG", "/dev/null")).map(drop)
}
