//! Ctrl-C sets a flag that waiting loops check, so that everything that was started is also stopped.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The exit status of a shell command that SIGINT ended.
pub const EXIT_INTERRUPTED: i32 = 130;

/// From now on the first SIGINT, SIGTERM or SIGHUP only sets the flag. A second one ends the process immediately.
pub fn catch() -> Result<()> {
    ctrlc::set_handler(|| {
        if RECEIVED.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(EXIT_INTERRUPTED);
        }
    })
    .context("signals cannot be caught")
}

/// Whether the user has asked to stop.
pub fn interrupted() -> bool {
    RECEIVED.load(Ordering::SeqCst) > 0
}

/// # Errors
/// If the user has asked to stop.
pub fn check() -> Result<()> {
    anyhow::ensure!(!interrupted(), "interrupted");
    Ok(())
}
