//! Ctrl-C as a flag that waiting loops look at, so that what was started is also stopped.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The exit code of a shell command ended by SIGINT.
pub const EXIT_INTERRUPTED: i32 = 130;

/// From now on the first SIGINT, SIGTERM or SIGHUP only sets the flag; a second one ends the process at once.
pub fn catch() -> Result<()> {
    ctrlc::set_handler(|| {
        if RECEIVED.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(EXIT_INTERRUPTED);
        }
    })
    .context("signals cannot be caught")
}

/// Whether the user asked to stop.
pub fn interrupted() -> bool {
    RECEIVED.load(Ordering::SeqCst) > 0
}

/// # Errors
/// When the user asked to stop.
pub fn check() -> Result<()> {
    anyhow::ensure!(!interrupted(), "interrupted");
    Ok(())
}
