//! Uses of sessions that could not be written down, since Redis can be read and takes no writes: its memory or disk is
//! full, it is a replica, or has too few of them. Nobody is taken for idle by what could not be written.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::error::Dependency;
use crate::host::{Host, Level, shared_or};
use crate::metrics;
use crate::redis::RedisError;
use crate::revocation::memory::session_id_hash;
use crate::session::entry::Entry;
use crate::session::ticket::Ticket;
use crate::time::Timestamp;

/// After a refusal, no worker of this Envoy tries to write for this long.
pub const PAUSE: Duration = Duration::from_secs(1);
/// After the last refusal, no session is treated as idle for this long: the pending uses are being written.
const GRACE: Duration = Duration::from_secs(30);
/// Most pending uses in one worker. The one added longest ago is dropped first.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// Tries to update the shared state when other workers write it too.
const TRIES: u32 = 4;

/// Pending uses of this worker, and what its Envoy knows about Redis' refusals.
pub struct Unwritten {
    host: Rc<dyn Host>,
    key: String,
    kept: RefCell<LruCache<[u8; 16], Use>>,
    is_writing: Cell<bool>,
}

/// One use of a session that is not written yet.
#[derive(Clone)]
pub struct Use {
    /// The session's ticket.
    pub ticket: Ticket,
    /// The session as it was known at that time.
    pub entry: Rc<Entry>,
    /// When the session was used.
    pub at: Timestamp,
}

/// Shared by the workers of an Envoy: when Redis refused last, and whether it has accepted no write since.
#[derive(Clone, Copy)]
struct Refusals {
    last: Timestamp,
    go_on: bool,
}

impl Unwritten {
    /// No pending uses. `tenant` keeps gates apart that do not belong together.
    pub fn new(host: Rc<dyn Host>, tenant: &str) -> Self {
        Self {
            host,
            key: format!("oidc-gate.unwritten.{tenant}"),
            kept: RefCell::new(LruCache::new(MAX_KEPT)),
            is_writing: Cell::default(),
        }
    }

    /// Call when Redis failed to record a use, even though it may serve reads.
    pub fn refused(&self, problem: Dependency) {
        let Dependency::Redis(error) = problem else { return };
        if !matches!(error, RedisError::Refused(_)) {
            // No reply: the use may have been written. It is retried.
            let line = "session last-used time not written to Redis, retrying";
            return self.host.log(Level::Warn, &format!("{line}: {error}"));
        }
        let now = self.host.now();
        if self.tell(Refusals { last: now, go_on: true }).is_some_and(|before| !before.is_within(GRACE, now))
        {
            let line = "session last-used times can't be written to Redis: idle timeouts are suspended";
            self.host.log(Level::Error, &format!("{line}: {error}"));
        }
    }

    /// Call when Redis recorded a use.
    pub fn written(&self) {
        if let Some(known) = self.refusals().filter(|known| known.go_on)
            && self.tell(Refusals { go_on: false, ..known }).is_some_and(|before| before.go_on)
        {
            self.host
                .log(Level::Info, "session last-used times are written to Redis again: idle timeouts resume");
        }
    }

    /// Whether Redis refused a write within the last [`PAUSE`], so that a new try is not worthwhile.
    pub fn is_refused(&self) -> bool {
        self.refusals().is_some_and(|known| known.go_on && known.is_within(PAUSE, self.host.now()))
    }

    /// Whether Redis refuses writes, or did within the last [`GRACE`]. Idle sessions cannot be detected then.
    pub fn was_refused(&self) -> bool {
        self.refusals().is_some_and(|known| known.is_within(GRACE, self.host.now()))
    }

    /// Keeps a use that could not be written. True if the caller must start the task that writes it later.
    pub fn keep(&self, ticket: &Ticket, entry: &Rc<Entry>) -> bool {
        self.host.count(metrics::session_use_unwritten());
        let kept = Use { ticket: ticket.clone(), entry: entry.clone(), at: self.host.now() };
        self.kept.borrow_mut().put(session_id_hash(&entry.name), kept);
        !self.is_writing.replace(true)
    }

    /// When a session was used last, if that is not written yet.
    pub fn used(&self, session: &[u8; 16]) -> Option<Timestamp> {
        self.kept.borrow().peek(session).map(|kept| kept.at)
    }

    /// The oldest pending use. If there is none, the task that writes them can end.
    pub fn next(&self) -> Option<([u8; 16], Use)> {
        let next = self.kept.borrow().peek_lru().map(|(session, kept)| (*session, kept.clone()));
        self.is_writing.set(next.is_some());
        next
    }

    /// A use was written, or no longer matters.
    pub fn done(&self, session: &[u8; 16], at: Timestamp) {
        let mut kept = self.kept.borrow_mut();
        if kept.peek(session).is_some_and(|kept| kept.at <= at) {
            kept.pop(session);
        }
    }

    fn refusals(&self) -> Option<Refusals> {
        Refusals::decode(&self.host.shared_get(&self.key)?.0)
    }

    /// Updates the state of all workers and returns the previous one. `None` if other workers kept writing first.
    fn tell(&self, next: Refusals) -> Option<Refusals> {
        (0..TRIES).find_map(|_| {
            let (bytes, version) = shared_or(&*self.host, &self.key, &[])?;
            let before = Refusals::decode(&bytes).unwrap_or_else(Refusals::never);
            self.host.shared_set(&self.key, &next.encode(), Some(version)).is_ok().then_some(before)
        })
    }
}

impl Refusals {
    fn never() -> Self {
        Self { last: Timestamp::default(), go_on: false }
    }

    /// Whether the last refusal is within `time` of now. The clock may have been set back or forward.
    fn is_within(self, time: Duration, now: Timestamp) -> bool {
        now.duration_since(self.last) < time && self.last.duration_since(now) < time
    }

    fn encode(self) -> [u8; 9] {
        let mut bytes = [u8::from(self.go_on); 9];
        for (to, from) in bytes.iter_mut().zip(self.last.as_millis().to_be_bytes()) {
            *to = from;
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (last, go_on) = bytes.split_first_chunk()?;
        Some(Self { last: Timestamp::from_millis(u64::from_be_bytes(*last)), go_on: go_on == [1] })
    }
}
