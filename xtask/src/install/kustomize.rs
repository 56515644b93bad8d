//! kustomize, which builds the manifests that `kubectl apply -k` would apply.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::go_tool::GoTool;
use crate::command::output;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// The next version requires a newer Go than most users have.
const VERSION: &str = "v5.8.1";

/// The path of kustomize.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    GoTool { module: "sigs.k8s.io/kustomize/kustomize/v5", version: VERSION, program: "kustomize" }
        .ensure(workspace, progress)
}

/// The manifests of a base, as one stream of documents.
pub fn build(kustomize: &Path, base: &Path) -> Result<String> {
    output(Command::new(kustomize).arg("build").arg(base))
}
