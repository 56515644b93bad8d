//! Programs from Go modules, built through the module proxy at an exact version into `.oidc-gate/tools`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{apt, tool};
use crate::command::{output, run};
use crate::progress::Progress;
use crate::tries;
use crate::workspace::Workspace;

/// A program from a Go module. Go checks the module against its checksum database.
pub struct GoTool {
    /// The path of the module. Its root is the program.
    module: &'static str,
    /// Its exact version.
    version: &'static str,
    /// The program's name.
    program: &'static str,
}

/// Searches files and history for secrets.
pub const GITLEAKS: GoTool =
    GoTool { module: "github.com/zricethezav/gitleaks/v8", version: "v8.30.1", program: "gitleaks" };

/// Checks manifests as an API server does: kinds, members, types, and no unknown members. A commit, because no tagged
/// version supports the Kubernetes version below.
pub const KUBECTL_VALIDATE: GoTool = GoTool {
    module: "sigs.k8s.io/kubectl-validate",
    version: "v0.0.5-0.20260105161640-a97ccfaca20b",
    program: "kubectl-validate",
};

/// kubectl-validate contains the schemas of this version.
const KUBERNETES: &str = "1.34";

/// Builds the manifests that `kubectl apply -k` would apply. The next version requires a newer Go than most users have.
pub const KUSTOMIZE: GoTool =
    GoTool { module: "sigs.k8s.io/kustomize/kustomize/v5", version: "v5.8.1", program: "kustomize" };

impl GoTool {
    /// The program's path.
    pub fn ensure(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        tool(workspace, progress, self.program, self.version, self.program, |folder, task| {
            apt::GO.ensure(progress).context("Go builds it")?;
            std::fs::create_dir_all(folder)?;
            let mut go = Command::new("go");
            go.args(["install", "-trimpath", "-ldflags", "-s -w"])
                .arg(format!("{}@{}", self.module, self.version))
                // A go.mod in the user's current folder must have no effect.
                .current_dir(folder)
                // Settings for another target system must have no effect: Go refuses GOBIN with them.
                .envs([("CGO_ENABLED", "0"), ("GOOS", ""), ("GOARCH", "")])
                .env("GOBIN", folder);
            tries::repeat(task, || run(&mut go, task))?;
            Ok("built by Go")
        })
    }
}

/// The manifests of a base, as one stream of documents.
pub fn kustomize_build(kustomize: &Path, base: &Path) -> Result<String> {
    output(Command::new(kustomize).arg("build").arg(base))
}

/// Validates the manifests in a file, with the custom resources that the folders define.
///
/// # Errors
/// If an API server would refuse one of them.
pub fn validate(kubectl_validate: &Path, crds: &[PathBuf], manifests: &Path) -> Result<()> {
    let mut command = Command::new(kubectl_validate);
    command.args(["--version", KUBERNETES]).arg(manifests);
    for folder in crds {
        command.arg("--local-crds").arg(folder);
    }
    // Otherwise it would query the user's own cluster.
    output(command.env("KUBECONFIG", "/dev/null")).map(drop)
}
