//! The refreshes of one worker: which are under way, which failed a moment ago, and which leases it may hold.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::error::{Dependency, Rejection, SessionEnd};
use crate::session::entry::Entry;
use crate::session::renewal::LeaseOwner;
use crate::sync::Event;
use crate::time::Timestamp;

/// Longest pause after a failed refresh.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Most sessions for which a worker remembers a failed refresh, or an unanswered request for the lease.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The hash of a session's name.
type Key = [u8; 16];

/// The refreshes of one worker.
pub struct Refreshes {
    under_way: RefCell<HashMap<Key, Rc<Flight>>>,
    /// Until when, and the reason.
    postponed: RefCell<LruCache<Key, (Timestamp, Dependency)>>,
    unanswered: RefCell<LruCache<Key, Asking>>,
}

/// The identity under which this worker requests a lease.
#[derive(Clone, Copy)]
pub struct Asking {
    /// The same in every request, because the first reply may have been lost.
    pub owner: LeaseOwner,
    /// How many requests got no reply.
    pub unanswered: u32,
}

/// One refresh in progress.
#[derive(Default)]
pub struct Flight {
    outcome: RefCell<Option<RefreshOutcome>>,
    landed: Event,
}

/// The result of a refresh.
#[derive(Clone)]
pub enum RefreshOutcome {
    /// The session goes on with this entry.
    Renewed(Rc<Entry>),
    /// The session has ended.
    Ended(SessionEnd),
    /// The refresh failed for this reason.
    Failed(Dependency),
}

impl Default for Refreshes {
    fn default() -> Self {
        Self {
            under_way: RefCell::default(),
            postponed: RefCell::new(LruCache::new(MAX_REMEMBERED)),
            unanswered: RefCell::new(LruCache::new(MAX_REMEMBERED)),
        }
    }
}

impl Refreshes {
    /// The reason why this session is not refreshed now, if it is postponed.
    pub fn postponed(&self, key: &Key, now: Timestamp) -> Option<Dependency> {
        let (until, dependency) = self.postponed.borrow().peek(key).cloned()?;
        (now < until && until.duration_since(now) <= MAX_PAUSE).then_some(dependency)
    }

    /// Postpones refreshes of this session.
    pub fn postpone(&self, key: Key, now: Timestamp, pause: Duration, why: Dependency) {
        self.postponed.borrow_mut().put(key, (now.saturating_add(pause.min(MAX_PAUSE)), why));
    }

    /// The refresh of this session that is in progress, if any.
    pub fn under_way(&self, key: &Key) -> Option<Rc<Flight>> {
        self.under_way.borrow().get(key).cloned()
    }

    /// Starts a refresh.
    pub fn take_off(&self, key: Key) -> Rc<Flight> {
        let flight = Rc::new(Flight::default());
        self.under_way.borrow_mut().insert(key, flight.clone());
        flight
    }

    /// Finishes a refresh and wakes all requests that wait for it.
    pub fn land(&self, key: &Key, outcome: RefreshOutcome) {
        let Some(flight) = self.under_way.borrow_mut().remove(key) else { return };
        *flight.outcome.borrow_mut() = Some(outcome);
        flight.landed.notify();
    }

    /// The identity of this worker's unanswered request for the lease on this session, if any.
    pub fn take_unanswered(&self, key: &Key) -> Option<Asking> {
        self.unanswered.borrow_mut().pop(key)
    }

    /// Records that a request for the lease got no reply. The next request uses the same owner.
    pub fn put_unanswered(&self, key: Key, asking: Asking) {
        self.unanswered.borrow_mut().put(key, asking);
    }
}

impl Flight {
    /// Waits for the result.
    pub async fn outcome(&self) -> RefreshOutcome {
        loop {
            let landed = self.landed.next();
            if let Some(outcome) = self.outcome.borrow().clone() {
                return outcome;
            }
            landed.await;
        }
    }
}

impl From<Rejection> for RefreshOutcome {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::SessionEnded(end) => Self::Ended(end),
            Rejection::Unavailable(dependency) => Self::Failed(dependency),
            _ => Self::Failed(Dependency::Host),
        }
    }
}
