//! Holds responses back until the test releases them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::process::{Trouble, wait_until};

/// Holds requests back until [`Hold::release`]. Later requests pass. Clones share their state.
#[derive(Clone, Debug)]
pub struct Hold {
    moment: Moment,
    state: Arc<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Unspent,
    Spent,
}

#[derive(Debug)]
struct State {
    held: AtomicUsize,
    open: watch::Sender<bool>,
}

impl Hold {
    /// Holds requests before they are processed, so no token is spent yet.
    pub fn unspent() -> Self {
        Self::new(Moment::Unspent)
    }

    /// Processes requests immediately, so tokens are spent, but holds the responses.
    pub fn spent() -> Self {
        Self::new(Moment::Spent)
    }

    fn new(moment: Moment) -> Self {
        let (open, _) = watch::channel(false);
        Self { moment, state: Arc::new(State { held: AtomicUsize::new(0), open }) }
    }

    /// How many requests have been held so far.
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Waits until this many requests have been held.
    ///
    /// # Errors
    /// There were fewer within `bound`.
    pub fn wait_for(&self, requests: usize, bound: Duration) -> Result<(), Trouble> {
        if wait_until(bound, || self.held() >= requests) {
            return Ok(());
        }
        let held = self.held();
        Err(Trouble::new(format!("{held} of {requests} requests came to be held back within {bound:?}")))
    }

    /// Releases all held requests and lets later ones pass.
    pub fn release(&self) {
        self.state.open.send_replace(true);
    }

    /// Waits here if this hold applies before processing.
    pub(super) async fn before(&self) {
        if self.moment == Moment::Unspent {
            self.wait().await;
        }
    }

    /// Waits here if this hold applies to responses.
    pub(super) async fn after(&self) {
        if self.moment == Moment::Spent {
            self.wait().await;
        }
    }

    async fn wait(&self) {
        let mut open = self.state.open.subscribe();
        self.state.held.fetch_add(1, Ordering::SeqCst);
        // The sender lives as long as this hold.
        let _ = open.wait_for(|open| *open).await;
    }
}
