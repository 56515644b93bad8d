//! Headless Chromium and its driver, for the tests that log in like a user.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::apt;
use crate::command::find;
use crate::progress::Progress;

/// The path of chromedriver, which finds the browser by itself.
pub fn ensure(progress: &Progress) -> Result<PathBuf> {
    if let Some(driver) = find("chromedriver") {
        return Ok(driver);
    }
    let task = progress.task("Chromium");
    apt::install(&["chromium", "chromium-driver"], &task)?;
    task.finish("Debian package");
    find("chromedriver").context("the package chromium-driver installed no chromedriver")
}
