//! Envoy's ticks as the adapter's [`Clock`]. There is one period for each root context, and setting it begins it again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use oidc_gate_adapter::scheduler::Clock;

use crate::hostcalls;

const MIN_TICK: Duration = Duration::from_millis(1);
const MAX_TICK: Duration = Duration::from_secs(60);

/// The ticks of one root context.
pub struct Ticks {
    created: Instant,
    /// When the next tick comes.
    next: Cell<Option<Duration>>,
}

impl Ticks {
    pub fn new() -> Self {
        Self { created: Instant::now(), next: Cell::default() }
    }

    /// Called after a tick. The host keeps the same period until it is set again.
    pub fn ticked(&self) {
        self.next.set(None);
    }
}

impl Clock for Ticks {
    fn elapsed(&self) -> Duration {
        self.created.elapsed()
    }

    /// A pending tick that comes early enough is kept.
    fn wake_at(&self, at: Duration) {
        let now = self.elapsed();
        let left = at.saturating_sub(now).min(MAX_TICK).max(MIN_TICK);
        let at = now.saturating_add(left);
        if self.next.get().is_none_or(|pending| at < pending) {
            self.next.set(Some(at));
            hostcalls::set_tick_period(u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
        }
    }
}
