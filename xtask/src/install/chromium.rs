//! Headless Chromium and its driver, for the tests that log in like a person.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::apt;
use crate::command::find;
use crate::progress::Progress;

/// The chromedriver binary; it finds the browser that belongs to it.
pub fn ensure(progress: &Progress) -> Result<PathBuf> {
    if let Some(driver) = find("chromedriver") {
        return Ok(driver);
    }
    let task = progress.task("Chromium");
    apt::install(&["chromium", "chromium-driver"], &task)?;
    task.finish("Debian package");
    find("chromedriver").context("the package chromium-driver installed no chromedriver")
}
