//! The revocation log: a stream in Redis that every Envoy reads twice a second, so that what one revokes, all revoke. A
//! lease in shared data decides which worker of an Envoy reads for all of its workers.
//!
//! - The other workers learn of a reading when it is complete. So after a start, no worker takes a part of the stream
//!   for all of it.
//! - The first requests after a start wait for a successful read, for five seconds at most. A read that failed is
//!   repeated after 100 ms. Once a request has waited for five seconds, no other request waits.
//! - If the stream is younger than what was read, or begins after it, revocations may have been missed. All workers
//!   then drop their cached sessions, and the stream is read from its beginning. A stream that expired because nothing
//!   was written for long is not such a case.
//! - The stream is also read from its beginning after it could not be read for five seconds.
//! - In both cases each worker writes its own revocations again: they may have been lost before every Envoy had read
//!   them.
//! - A revocation that Redis does not accept is retried in the background, for up to 50 minutes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::host::{Host, Level, shared_or};
use crate::lease::Lease;
use crate::metrics::{self, LogRead};
use crate::redis::{Redis, RedisError};
use crate::revocation::memory::{Revocation, Revocations};
use crate::revocation::stream::{How, Id, Stream};
use crate::sync::Event;
use crate::time::Timestamp;

/// How often an Envoy polls the log.
const POLL: Duration = Duration::from_millis(500);
/// How often a worker checks whether to poll.
const LOOK: Duration = Duration::from_millis(100);
/// Most pages in one read; enough for a stream of four million entries.
const MAX_PAGES: usize = 1024;
/// If the log cannot be read for this long, an error is logged. The next successful read starts at the beginning.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tries to write a revocation that Redis did not accept, and the longest pause between two of them.
const TRIES: u32 = 600;
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Shortest time between two repairs of a stream whose ids are ahead of the clock, and between two rewrites of a
/// worker's own revocations after a reset. Somebody may damage the stream again and again.
const REPAIR_PAUSE: Duration = Duration::from_secs(5);
/// Most of its own revocations that a worker remembers in order to rewrite them: the latest.
const MAX_OWN: usize = 1024;

/// The log as one worker reads and writes it.
pub struct RevocationLog {
    host: Rc<dyn Host>,
    stream: Stream,
    revocations: Rc<Revocations>,
    lease: Lease,
    repair: Lease,
    keep: Duration,
    read_longest: Duration,
    first_read: Cell<FirstRead>,
    was_read: Event,
    cursor_key: String,
    written_key: String,
    trouble_key: String,
    resets_key: String,
    own: RefCell<VecDeque<(Timestamp, Revocation)>>,
}

/// Whether this Envoy knows the revocations from before its start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstRead {
    /// Not yet: requests wait.
    Awaited,
    /// A request waited for the maximum time, and Redis has not answered.
    GivenUp,
    /// The log was read.
    Done,
}

impl RevocationLog {
    /// Uses the Redis of the sessions. `keep` is how long a revocation matters: until everything that it revoked would
    /// have expired.
    pub fn new(
        host: Rc<dyn Host>,
        redis: Redis,
        revocations: Rc<Revocations>,
        config: &config::Redis,
        keep: Duration,
    ) -> Self {
        let shared = format!("oidc-gate.log.{}.{}", config.cluster, config.prefix);
        Self {
            lease: Lease::new(host.clone(), format!("{shared}.lease")),
            repair: Lease::new(host.clone(), format!("{shared}.repair")),
            stream: Stream::new(redis, keep),
            cursor_key: format!("{shared}.cursor"),
            written_key: format!("{shared}.written"),
            trouble_key: format!("{shared}.trouble"),
            resets_key: format!("{shared}.resets"),
            read_longest: config.timeout.saturating_add(Duration::from_secs(1)),
            first_read: Cell::new(FirstRead::Awaited),
            was_read: Event::default(),
            own: RefCell::default(),
            keep,
            host,
            revocations,
        }
    }

    /// Announces revocations to all workers here at once, and writes them for all other Envoys.
    ///
    /// # Errors
    /// Redis did not accept them. They are retried in the background, and this Envoy applies them already.
    pub async fn append(self: &Rc<Self>, revocations: Vec<Revocation>) -> Result<(), RedisError> {
        self.revocations.announce(&revocations);
        self.remember_own(&revocations);
        let written = self.write(&revocations).await;
        if written.is_err() {
            let log = self.clone();
            self.host.spawn(Box::pin(async move { log.append_later(revocations).await }));
        }
        written
    }

    /// The task that polls the log. It never returns.
    pub async fn run(self: Rc<Self>) {
        let mut resets = self.resets();
        let mut pause = Duration::ZERO;
        loop {
            if self.lease.take(self.read_longest) {
                let outcome = self.read().await;
                let is_read = outcome.is_ok();
                self.report(outcome);
                if is_read {
                    self.first_read_is(FirstRead::Done);
                }
                // While requests wait, retry a failed read at once.
                let is_awaited = self.first_read.get() == FirstRead::Awaited;
                self.lease.release_after(if is_awaited { LOOK } else { POLL });
            } else if self.first_read.get() != FirstRead::Done && self.cursor().is_some() {
                self.first_read_is(FirstRead::Done);
            }
            if pause.is_zero() && self.resets() != resets {
                resets = self.resets();
                pause = REPAIR_PAUSE;
                self.write_own_again();
            }
            pause = pause.saturating_sub(LOOK);
            self.host.sleep(LOOK).await;
        }
    }

    /// Whether requests need not wait for [`RevocationLog::first_read`].
    pub fn was_read(&self) -> bool {
        self.first_read.get() != FirstRead::Awaited
    }

    /// Completes once this Envoy has read the log. Revocations of access tokens are known only from the log.
    pub async fn first_read(&self) {
        while !self.was_read() {
            let read = self.was_read.next();
            if !self.was_read() {
                read.await;
            }
        }
    }

    /// Stops later requests from waiting for [`RevocationLog::first_read`].
    pub fn give_up_first_read(&self) {
        if self.first_read.get() == FirstRead::Awaited {
            self.first_read_is(FirstRead::GivenUp);
        }
    }

    fn first_read_is(&self, state: FirstRead) {
        if self.first_read.replace(state) != state {
            self.was_read.notify();
        }
    }

    /// Reports a log that cannot be read, because nothing else may fail then: other commands read the sessions in use,
    /// and tokens need none.
    fn report(&self, outcome: Result<(), RedisError>) {
        let (known, version) = shared_or(&*self.host, &self.trouble_key, &[]).unwrap_or_default();
        let trouble = Trouble::decode(&known);
        let (next, line) = match (outcome, trouble) {
            (Ok(()), None) => return,
            (Ok(()), Some(trouble)) => (
                Vec::new(),
                trouble.is_lasting.then(|| {
                    (Level::Info, "revocation stream can be read again: reading it from the start".to_owned())
                }),
            ),
            (Err(error), trouble) => {
                self.host.count(metrics::log_read(LogRead::Failed));
                self.host.log(Level::Debug, &format!("revocation stream not read: {error}"));
                let now = self.host.now();
                let since = trouble.map_or(now, |trouble| trouble.since.min(now));
                let was_said = trouble.is_some_and(|trouble| trouble.is_lasting);
                let is_time = !was_said && now.duration_since(since) >= PATIENCE;
                let line = "revocation stream can't be read: this Envoy misses revocations from other Envoys";
                (
                    Trouble { since, is_lasting: was_said || is_time }.encode(),
                    is_time.then(|| (Level::Error, format!("{line}: {error}"))),
                )
            }
        };
        if self.host.shared_set(&self.trouble_key, &next, Some(version)).is_ok()
            && let Some((level, line)) = line
        {
            self.host.log(level, &line);
        }
    }

    async fn append_later(&self, revocations: Vec<Revocation>) {
        for attempt in 0..TRIES {
            let pause = Duration::from_millis(100).saturating_mul(1 << attempt.min(6)).min(MAX_PAUSE);
            self.host.sleep(pause).await;
            if self.write(&revocations).await.is_ok() {
                return;
            }
        }
        self.host.log(
            Level::Error,
            "revocation could not be written to Redis, giving up: other Envoys may not apply it",
        );
    }

    async fn write(&self, revocations: &[Revocation]) -> Result<(), RedisError> {
        let written = self.stream.write(revocations).await?;
        if let Some(newest) = written.newest {
            self.set_id(&self.written_key, newest);
        }
        if written.how == How::PutRight {
            self.host.count(metrics::log_read(LogRead::Ahead));
            self.host.log(
                Level::Warn,
                "revocation stream had ids ahead of Redis' clock and accepted no entries: stream rewritten",
            );
        }
        Ok(())
    }

    /// Reads on from this Envoy's cursor. The cursor is published only when everything was read and announced.
    async fn read(&self) -> Result<(), RedisError> {
        let lasting =
            Trouble::decode(&self.shared(&self.trouble_key)).is_some_and(|trouble| trouble.is_lasting);
        let mut cursor = self.cursor().filter(|_| !lasting).unwrap_or_default();
        let resumes = cursor != Id::default();
        // What this Envoy has written must be in the stream, too.
        let mut reached = self.id(&self.written_key).unwrap_or_default().max(cursor);
        let mut heard = Vec::new();
        let mut gap = if lasting { Gap::Unread } else { Gap::None };
        let mut is_ahead = false;
        let mut outcome = Ok(());
        for _ in 0..MAX_PAGES {
            let page = match self.stream.read(cursor).await {
                Ok(page) => page,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            is_ahead = page.last.is_some_and(|last| last.is_ahead_of(page.now));
            // Nothing was written for `keep`, so Redis expired the stream as intended.
            let has_expired = page.last.is_none() && page.now >= reached.time().saturating_add(self.keep);
            // The stream ends before our position, or begins after it: Redis lost its data, another Redis took its
            // place, or entries were trimmed before we read them.
            let is_younger = page.last.is_none_or(|last| last < reached) || reached.is_ahead_of(page.now);
            let is_trimmed = cursor != Id::default() && page.first.is_some_and(|first| first > cursor);
            if !has_expired && reached != Id::default() && (is_younger || is_trimmed) {
                gap = Gap::Reset;
            }
            if has_expired || is_younger && reached != Id::default() {
                (cursor, reached) = (Id::default(), Id::default());
                self.set_id(&self.written_key, reached);
                if page.last.is_some() {
                    continue;
                }
                break;
            }
            heard.extend(page.revocations);
            cursor = page.seen.unwrap_or(cursor);
            reached = cursor.max(reached);
            if !page.more {
                break;
            }
        }
        // If the read from the start failed, the gap is not closed yet.
        let gap = if gap == Gap::Unread && outcome.is_err() { Gap::None } else { gap };
        self.learn(gap, heard);
        // Publish the cursor last; other workers read it as "fully caught up".
        if outcome.is_ok() || resumes && cursor != Id::default() {
            self.set_id(&self.cursor_key, cursor);
        }
        if is_ahead && self.repair.take(REPAIR_PAUSE) {
            self.put_right().await;
        }
        outcome
    }

    /// Rewrites the stream. Redis adds no entry after an id that is ahead of its clock.
    async fn put_right(&self) {
        if let Err(error) = self.write(&[]).await {
            self.host.count(metrics::log_read(LogRead::Ahead));
            self.host.log(
                Level::Warn,
                &format!(
                    "revocation stream has ids ahead of Redis' clock; rewriting it failed, retrying: {error}"
                ),
            );
        }
    }

    /// Announces to this Envoy what was read.
    fn learn(&self, gap: Gap, mut heard: Vec<Revocation>) {
        if gap == Gap::Reset {
            self.host.count(metrics::log_read(LogRead::Reset));
            self.host.log(Level::Warn, "revocation stream was reset or trimmed: dropping cached sessions");
        }
        if gap != Gap::None {
            heard.insert(0, Revocation::missed());
        }
        if !heard.is_empty() {
            self.revocations.announce(&heard);
        }
        if gap != Gap::None {
            let next = self.resets().wrapping_add(1);
            let _ = self.host.shared_set(&self.resets_key, &next.to_be_bytes(), None);
        }
    }

    /// How often a worker of this Envoy found that the stream may have lost revocations.
    fn resets(&self) -> u64 {
        self.shared(&self.resets_key).first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    fn remember_own(&self, revocations: &[Revocation]) {
        let now = self.host.now();
        let mut own = self.own.borrow_mut();
        own.extend(revocations.iter().map(|revocation| (now, *revocation)));
        let surplus = own.len().saturating_sub(MAX_OWN);
        own.drain(..surplus);
    }

    /// Rewrites this worker's own revocations: they may have been lost before every Envoy read them. Reading a
    /// revocation twice is harmless.
    fn write_own_again(self: &Rc<Self>) {
        let now = self.host.now();
        let mut own = self.own.borrow_mut();
        own.retain(|(written, _)| now.duration_since(*written) < self.keep);
        let revocations: Vec<Revocation> = own.iter().map(|(_, revocation)| *revocation).collect();
        if !revocations.is_empty() {
            let log = self.clone();
            self.host.spawn(Box::pin(async move { log.append_later(revocations).await }));
        }
    }

    fn shared(&self, key: &str) -> Vec<u8> {
        self.host.shared_get(key).map(|(bytes, _)| bytes).unwrap_or_default()
    }

    /// This Envoy's position in the stream; `None` before the first read.
    fn cursor(&self) -> Option<Id> {
        self.id(&self.cursor_key)
    }

    fn id(&self, key: &str) -> Option<Id> {
        Id::parse(&self.shared(key))
    }

    fn set_id(&self, key: &str, id: Id) {
        let _ = self.host.shared_set(key, id.text().as_bytes(), None);
    }
}

/// Why revocations may have been missed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// No revocation was missed.
    None,
    /// The stream was replaced, or its next entries are missing.
    Reset,
    /// The stream could not be read for a long time.
    Unread,
}

/// Since when the log cannot be read, and whether that has been logged as a lasting problem, by any worker.
#[derive(Clone, Copy)]
struct Trouble {
    since: Timestamp,
    is_lasting: bool,
}

impl Trouble {
    fn encode(self) -> Vec<u8> {
        let mut bytes = self.since.as_millis().to_be_bytes().to_vec();
        bytes.extend(self.is_lasting.then_some(1));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, rest) = bytes.split_first_chunk()?;
        let since = Timestamp::from_millis(u64::from_be_bytes(*since));
        Some(Self { since, is_lasting: !rest.is_empty() })
    }
}
