//! Programs from Go modules, built through the module proxy at an exact version into `.oidc-gate/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::command::{find, run};
use crate::progress::Progress;
use crate::tries;
use crate::workspace::Workspace;

/// A program from a Go module. Go checks the module against its checksum database.
pub struct GoTool<'a> {
    /// The path of the module. Its root is the program.
    pub module: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// The program's name.
    pub program: &'a str,
}

impl GoTool<'_> {
    /// The program's path.
    pub fn ensure(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let folder = workspace.tools().join(format!("{}-{}", self.program, self.version));
        let program = folder.join(self.program);
        if program.is_file() {
            return Ok(program);
        }
        let task = progress.task(format!("{} {}", self.program, self.version));
        if find("go").is_none() {
            apt::install(&["golang-go"], &task).context("Go builds it")?;
        }
        std::fs::create_dir_all(&folder)?;
        let mut go = Command::new("go");
        go.args(["install", "-trimpath", "-ldflags", "-s -w"])
            .arg(format!("{}@{}", self.module, self.version))
            // A go.mod in the user's current folder must have no effect.
            .current_dir(&folder)
            // Settings for another target system must have no effect: Go refuses GOBIN with them.
            .envs([("CGO_ENABLED", "0"), ("GOOS", ""), ("GOARCH", "")])
            .env("GOBIN", &folder);
        tries::repeat(&task, || run(&mut go, &task))?;
        if !program.is_file() {
            bail!("{}@{} has no program {}", self.module, self.version, self.program);
        }
        task.finish("built by Go");
        Ok(program)
    }
}
