//! promtool, from Debian's package, without Prometheus' service.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::command::find;
use crate::progress::Progress;

/// The path of promtool.
pub fn ensure(progress: &Progress) -> Result<PathBuf> {
    if let Some(promtool) = find("promtool") {
        return Ok(promtool);
    }
    let task = progress.task("promtool");
    apt::install(&["prometheus"], &task)?;
    if Path::new("/run/systemd/system").exists() {
        // Only the tool is needed. Without a service manager no service was started.
        let _ = Command::new("systemctl").args(["disable", "--now", "prometheus.service"]).output();
    }
    task.finish("Debian package");
    find("promtool").context("the package prometheus installed no promtool")
}
