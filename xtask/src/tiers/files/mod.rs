//! Files that no test executes unchanged: scripts and printed commands, Dockerfiles, Kustomize bases; and all files
//! that must not contain secrets. Each check must first find a planted problem, so that "nothing found" means
//! something.

mod dockerfiles;
mod manifests;
mod scripts;
mod secrets;

use std::path::Path;

use anyhow::Result;

use super::Runs;
use crate::install::apt;
use crate::install::go_tool::{GITLEAKS, KUSTOMIZE};
use crate::install::wheel::HADOLINT;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A file that is tracked by git or not ignored.
struct Source {
    /// Its path from the root of the repository.
    name: String,
    content: Vec<u8>,
}

impl Source {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.content)
    }

    fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    apt::SHELLCHECK.ensure(progress)?;
    let hadolint = HADOLINT.ensure(workspace, progress)?;
    let gitleaks = GITLEAKS.ensure(workspace, progress)?;
    let kustomize = KUSTOMIZE.ensure(workspace, progress)?;
    let root = workspace.root();
    let sources = sources(workspace)?;
    runs.check("shellcheck finds nothing in any script", || scripts::check(&scripts::scripts(&sources)));
    runs.check("shellcheck finds nothing in any printed command", || {
        scripts::check(&scripts::printed(&sources))
    });
    runs.check("shellcheck finds planted problems in a script and in a printed command", scripts::control);
    runs.check("hadolint finds nothing in any Dockerfile", || dockerfiles::check(&hadolint, &sources));
    runs.check("hadolint finds planted problems, and comments do not silence it", || {
        dockerfiles::control(&hadolint)
    });
    runs.check("no file and no commit contains a secret", || secrets::check(&gitleaks, root, &sources));
    runs.check("every secret of a generated .env is found", || secrets::control_settings(&gitleaks, root));
    runs.check("secrets are found beside known texts, under a comment, and after their removal", || {
        secrets::control_places(&gitleaks)
    });
    for base in ["envoy/istio", "envoy/envoy-gateway"] {
        runs.check(&format!("kustomize builds {base} with every file in its folder"), || {
            manifests::check(&kustomize, root, base, &sources)
        });
    }
    runs.check("a manifest that a base leaves out is detected", || manifests::control(&kustomize));
    Ok(())
}

/// The files of the repository, including uncommitted changes.
fn sources(workspace: &Workspace) -> Result<Vec<Source>> {
    let read = |name: String| {
        let content = std::fs::read(workspace.root().join(&name))?;
        Ok(Source { name, content })
    };
    workspace.files()?.into_iter().map(read).collect()
}

/// Writes files below a folder.
fn lay<'a>(folder: &Path, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, content)?;
    }
    Ok(())
}
