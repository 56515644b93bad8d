//! HAProxy, which forwards to the primary of a replicated Redis: the system's, or Debian's package without its service.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt;
use crate::command::find;
use crate::progress::Progress;

/// The path of haproxy.
pub fn ensure(progress: &Progress) -> Result<PathBuf> {
    if let Some(haproxy) = installed() {
        return Ok(haproxy);
    }
    let task = progress.task("HAProxy");
    apt::install(&["haproxy"], &task)?;
    apt::stop_service("haproxy");
    task.finish("Debian package");
    installed().context("the package haproxy installed no haproxy")
}

/// It is in an administrator's folder, which not every user has on the path.
fn installed() -> Option<PathBuf> {
    let usual = Path::new("/usr/sbin/haproxy");
    find("haproxy").or_else(|| usual.exists().then(|| usual.to_owned()))
}
