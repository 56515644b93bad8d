//! redis-server: the system's, or Debian's package without its service.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::apt;
use crate::command::find;
use crate::progress::Progress;

/// The path of redis-server.
pub fn ensure(progress: &Progress) -> Result<PathBuf> {
    if let Some(server) = find("redis-server") {
        return Ok(server);
    }
    let task = progress.task("Redis");
    apt::install(&["redis-server"], &task)?;
    // The stack runs its own Redis with a password on another port.
    apt::stop_service("redis-server");
    task.finish("Debian package");
    find("redis-server").context("the package redis-server installed no redis-server")
}
