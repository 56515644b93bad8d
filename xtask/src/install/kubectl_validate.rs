//! kubectl-validate checks manifests as an API server does: kinds, members, types, and no unknown members.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::go_tool::GoTool;
use crate::command::output;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A commit, because no tagged version supports the Kubernetes version below.
const VERSION: &str = "v0.0.5-0.20260105161640-a97ccfaca20b";

/// The program contains the schemas of this version.
const KUBERNETES: &str = "1.34";

/// The path of kubectl-validate.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    GoTool { module: "sigs.k8s.io/kubectl-validate", version: VERSION, program: "kubectl-validate" }
        .ensure(workspace, progress)
}

/// Validates the manifests in a file, with the custom resources that the folders define.
///
/// # Errors
/// If an API server would refuse one of them.
pub fn validate(program: &Path, crds: &[PathBuf], manifests: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["--version", KUBERNETES]).arg(manifests);
    for folder in crds {
        command.arg("--local-crds").arg(folder);
    }
    // Otherwise it would query the user's own cluster.
    output(command.env("KUBECONFIG", "/dev/null")).map(drop)
}
