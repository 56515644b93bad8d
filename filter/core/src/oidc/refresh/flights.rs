//! The refreshes of one worker: which are under way, which failed a moment ago, and which leases it may hold.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::error::{Dependency, Rejection, SessionEnd};
use crate::session::entry::Entry;
use crate::session::renewal::LeaseOwner;
use crate::sync::Flights;
use crate::time::Timestamp;

/// Longest pause after a failed refresh.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Most sessions for which a worker remembers a failed refresh, or an unanswered request for the lease.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The hash of a session's name.
type Key = [u8; 16];

/// The refreshes of one worker.
pub struct Refreshes {
    /// Those under way.
    pub flights: Flights<Key, RefreshOutcome>,
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
            flights: Flights::default(),
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

    /// The identity of this worker's unanswered request for the lease on this session, if any.
    pub fn take_unanswered(&self, key: &Key) -> Option<Asking> {
        self.unanswered.borrow_mut().pop(key)
    }

    /// Records that a request for the lease got no reply. The next request uses the same owner.
    pub fn put_unanswered(&self, key: Key, asking: Asking) {
        self.unanswered.borrow_mut().put(key, asking);
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
