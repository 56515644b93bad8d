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
use crate::redis::resp::is_refusal;
use crate::revocation::memory::session_id_hash;
use crate::session::entry::Entry;
use crate::session::ticket::Ticket;
use crate::time::Timestamp;

/// After a refusal no worker of this Envoy tries for so long.
pub const PAUSE: Duration = Duration::from_secs(1);
/// After the last refusal nobody is taken for idle for so long: uses that were kept are being written.
const GRACE: Duration = Duration::from_secs(30);
/// Sessions whose use a worker keeps until it can be written; the one that was kept longest ago goes.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// Tries to tell the other workers.
const TRIES: u32 = 4;

/// What one worker could not write, and what its Envoy knows of Redis' refusals.
pub struct Unwritten {
    host: Rc<dyn Host>,
    key: String,
    kept: RefCell<LruCache<[u8; 16], Use>>,
    is_writing: Cell<bool>,
}

/// That a session was used.
#[derive(Clone)]
pub struct Use {
    /// Its ticket.
    pub ticket: Ticket,
    /// As it was known then.
    pub entry: Rc<Entry>,
    /// When.
    pub at: Timestamp,
}

/// What the workers of an Envoy tell each other: when Redis refused last, and whether it has taken nothing since.
#[derive(Clone, Copy)]
struct Refusals {
    last: Timestamp,
    go_on: bool,
}

impl Unwritten {
    /// Nothing yet. `tenant` keeps apart what has nothing to do with each other.
    pub fn new(host: Rc<dyn Host>, tenant: &str) -> Self {
        Self {
            host,
            key: format!("oidc-gate.unwritten.{tenant}"),
            kept: RefCell::new(LruCache::new(MAX_KEPT)),
            is_writing: Cell::default(),
        }
    }

    /// Redis did not take a write about a session's use, while it may still be read.
    pub fn refused(&self, problem: Dependency) {
        let Dependency::Redis(what) = problem else { return };
        if !is_refusal(what) {
            // No answer: perhaps it was written. It is tried again.
            let line = "session last-used time not written to Redis, retrying";
            return self.host.log(Level::Warn, &format!("{line}: {what}"));
        }
        let now = self.host.now();
        if self.tell(Refusals { last: now, go_on: true }).is_some_and(|before| !before.is_within(GRACE, now))
        {
            let line = "session last-used times can't be written to Redis: idle timeouts are suspended";
            self.host.log(Level::Error, &format!("{line}: {what}"));
        }
    }

    /// Redis took a write about a session's use.
    pub fn written(&self) {
        if let Some(known) = self.refusals().filter(|known| known.go_on)
            && self.tell(Refusals { go_on: false, ..known }).is_some_and(|before| before.go_on)
        {
            self.host
                .log(Level::Info, "session last-used times are written to Redis again: idle timeouts resume");
        }
    }

    /// Whether Redis has refused just now: not worth a try.
    pub fn is_refused(&self) -> bool {
        self.refusals().is_some_and(|known| known.go_on && known.is_within(PAUSE, self.host.now()))
    }

    /// Whether Redis refuses, or did a moment ago, so that nobody can be told from somebody who is idle.
    pub fn was_refused(&self) -> bool {
        self.refusals().is_some_and(|known| known.is_within(GRACE, self.host.now()))
    }

    /// Keeps a use that could not be written; whether somebody has to be found who writes it later.
    pub fn keep(&self, ticket: &Ticket, entry: &Rc<Entry>) -> bool {
        self.host.count(metrics::session_use_unwritten());
        let kept = Use { ticket: ticket.clone(), entry: entry.clone(), at: self.host.now() };
        self.kept.borrow_mut().put(session_id_hash(&entry.name), kept);
        !self.is_writing.replace(true)
    }

    /// When a session was used last, where that is not written down.
    pub fn used(&self, session: &[u8; 16]) -> Option<Timestamp> {
        self.kept.borrow().peek(session).map(|kept| kept.at)
    }

    /// The use that was kept longest ago. Without one, nobody has to write any more.
    pub fn next(&self) -> Option<([u8; 16], Use)> {
        let next = self.kept.borrow().peek_lru().map(|(session, kept)| (*session, kept.clone()));
        self.is_writing.set(next.is_some());
        next
    }

    /// A use was written, or is of no more interest.
    pub fn done(&self, session: &[u8; 16], at: Timestamp) {
        let mut kept = self.kept.borrow_mut();
        if kept.peek(session).is_some_and(|kept| kept.at <= at) {
            kept.pop(session);
        }
    }

    fn refusals(&self) -> Option<Refusals> {
        Refusals::decode(&self.host.shared_get(&self.key)?.0)
    }

    /// Tells all workers, and gives what they knew before; `None` when others tell at the same time.
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

    /// Whether the last one is no longer ago than that, by a clock that may have been set.
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
