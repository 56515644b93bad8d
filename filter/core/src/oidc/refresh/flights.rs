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

/// Longest pause after a refresh that failed.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Sessions whose failed refresh, or whose question for the lease without an answer, a worker remembers.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// What names a session here.
type Key = [u8; 16];

/// The refreshes of one worker.
pub struct Refreshes {
    under_way: RefCell<HashMap<Key, Rc<Flight>>>,
    /// Until when, and why.
    postponed: RefCell<LruCache<Key, (Timestamp, Dependency)>>,
    unanswered: RefCell<LruCache<Key, Asking>>,
}

/// As whom this worker asks for a lease.
#[derive(Clone, Copy)]
pub struct Asking {
    /// The same for every question: the answer to the first may have been lost.
    pub owner: LeaseOwner,
    /// How often it asked and got no answer.
    pub unanswered: u32,
}

/// One refresh under way.
#[derive(Default)]
pub struct Flight {
    outcome: RefCell<Option<RefreshOutcome>>,
    landed: Event,
}

/// What came of a refresh.
#[derive(Clone)]
pub enum RefreshOutcome {
    /// The session goes on, as this.
    Renewed(Rc<Entry>),
    /// The session is over.
    Ended(SessionEnd),
    /// Nothing: this was in the way.
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
    /// Why no refresh of this session is tried now, if none is.
    pub fn postponed(&self, key: &Key, now: Timestamp) -> Option<Dependency> {
        let (until, dependency) = self.postponed.borrow().peek(key).cloned()?;
        (now < until && until.duration_since(now) <= MAX_PAUSE).then_some(dependency)
    }

    /// None is tried for so long.
    pub fn postpone(&self, key: Key, now: Timestamp, pause: Duration, why: Dependency) {
        self.postponed.borrow_mut().put(key, (now.saturating_add(pause.min(MAX_PAUSE)), why));
    }

    /// The refresh of this session that is under way, if one is.
    pub fn under_way(&self, key: &Key) -> Option<Rc<Flight>> {
        self.under_way.borrow().get(key).cloned()
    }

    /// A new one.
    pub fn take_off(&self, key: Key) -> Rc<Flight> {
        let flight = Rc::new(Flight::default());
        self.under_way.borrow_mut().insert(key, flight.clone());
        flight
    }

    /// It is over: tells all who wait for it.
    pub fn land(&self, key: &Key, outcome: RefreshOutcome) {
        let Some(flight) = self.under_way.borrow_mut().remove(key) else { return };
        *flight.outcome.borrow_mut() = Some(outcome);
        flight.landed.notify();
    }

    /// As whom this worker asked for the lease on this session, if it got no answer.
    pub fn take_unanswered(&self, key: &Key) -> Option<Asking> {
        self.unanswered.borrow_mut().pop(key)
    }

    /// There was no answer: the next question is asked as the same owner.
    pub fn put_unanswered(&self, key: Key, asking: Asking) {
        self.unanswered.borrow_mut().put(key, asking);
    }
}

impl Flight {
    /// What came of it, when it is over.
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
