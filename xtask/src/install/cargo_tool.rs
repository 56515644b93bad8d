//! Tools from crates.io, built at an exact version into `.oidc-gate/tools`.

use std::path::PathBuf;

use anyhow::Result;

use super::tool;
use crate::command::run;
use crate::progress::Progress;
use crate::signals;
use crate::workspace::Workspace;

/// A program from a crate.
pub struct CargoTool<'a> {
    /// The name of the crate on crates.io.
    pub package: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// The program that is needed. The crate may install others too.
    pub program: &'a str,
}

impl CargoTool<'_> {
    /// The program's path.
    pub fn ensure(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let inside = format!("bin/{}", self.program);
        tool(workspace, progress, self.package, self.version, &inside, |root, task| {
            let install = |lock: &[&str]| {
                let mut cargo = workspace.cargo();
                cargo
                    .args(["install", self.package, "--version", self.version, "--root"])
                    .arg(root)
                    .args(lock);
                // The tool runs only for seconds, and a fully optimised build would take minutes longer.
                cargo.envs([("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_LTO", "off")]);
                run(&mut cargo, task)
            };
            if install(&["--locked"]).is_err() {
                // A mirror of crates.io may not have the newest version of a dependency yet. An older one is fine.
                signals::check()?;
                install(&[])?;
            }
            Ok("from crates.io")
        })
    }
}
