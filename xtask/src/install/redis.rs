//! redis-server: the system's, or Debian's package without its service.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::command::find;
use crate::progress::Progress;

/// The redis-server binary.
pub fn ensure(progress: &Progress) -> Result<PathBuf> {
    if let Some(server) = find("redis-server") {
        return Ok(server);
    }
    let task = progress.task("Redis");
    apt::install(&["redis-server"], &task)?;
    stop_service();
    task.finish("Debian package");
    find("redis-server").context("the package redis-server installed no redis-server")
}

/// Debian starts the service of what it installs; here Redis runs with a password of its own, on its own port.
/// Nothing answers where no service manager runs, and that is fine.
fn stop_service() {
    let stop: &[&[&str]] = if Path::new("/run/systemd/system").exists() {
        &[&["systemctl", "disable", "--now", "redis-server.service"]]
    } else {
        &[&["service", "redis-server", "stop"], &["update-rc.d", "redis-server", "disable"]]
    };
    for words in stop {
        if let [program, arguments @ ..] = *words {
            let _ = Command::new(program).args(arguments).output();
        }
    }
}
