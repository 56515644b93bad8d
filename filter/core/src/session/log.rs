//! The log of endings: a stream in Redis that every Envoy reads twice a second, so that what ends on one ends on all.
//! One worker of an Envoy reads for all of its workers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::encoding::{base64url, from_base64url};
use crate::host::{Host, Level, shared_or};
use crate::lease::Lease;
use crate::metrics;
use crate::redis::resp::Value;
use crate::redis::{Command, Redis, RedisError};
use crate::session::endings::{Ending, Endings, MAX_KNOWN};
use crate::sync::Event;
use crate::time::Timestamp;

/// How often an Envoy asks for news.
const POLL: Duration = Duration::from_millis(500);
/// How often a worker looks whether it is its turn.
const LOOK: Duration = Duration::from_millis(100);
/// Entries of one answer.
const BATCH: u64 = 256;
/// Batches that are read in one go before others get their turn; enough for the whole stream.
const MAX_BATCHES: usize = 128;
/// Somebody should hear of it when the log could not be read for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tries to write an ending that Redis did not take, and the longest pause between two of them.
const TRIES: u32 = 600;
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A stream entry's id: milliseconds, then a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

/// The log as one worker reads and writes it.
pub struct Log {
    host: Rc<dyn Host>,
    redis: Redis,
    endings: Rc<Endings>,
    lease: Lease,
    key: String,
    cursor_key: String,
    keep: Duration,
    read_longest: Duration,
    read_once: Cell<bool>,
    was_read: Event,
    trouble_key: String,
}

impl Log {
    /// For the Redis of the sessions. `keep` is how long an ending matters: until whatever it ended has ended by itself.
    pub fn new(
        host: Rc<dyn Host>,
        redis: Redis,
        endings: Rc<Endings>,
        config: &config::Redis,
        keep: Duration,
    ) -> Self {
        let shared = format!("oidc-gate.log.{}.{}", config.cluster, config.prefix);
        Self {
            lease: Lease::new(host.clone(), format!("{shared}.lease")),
            key: redis.key(&["revoked"]),
            cursor_key: format!("{shared}.cursor"),
            trouble_key: format!("{shared}.trouble"),
            read_longest: config.timeout.saturating_add(Duration::from_secs(1)),
            read_once: Cell::default(),
            was_read: Event::default(),
            keep,
            host,
            redis,
            endings,
        }
    }

    /// Tells all workers here at once, and all other Envoys.
    ///
    /// # Errors
    /// Redis did not take it; it is tried again in the background, and this Envoy knows already.
    pub async fn append(self: &Rc<Self>, endings: Vec<Ending>) -> Result<(), RedisError> {
        self.endings.announce(&endings);
        let written = self.write(&endings).await;
        if written.is_err() {
            let log = self.clone();
            self.host.spawn(Box::pin(async move { log.append_later(endings).await }));
        }
        written
    }

    /// The job that reads; never ends.
    pub async fn run(self: Rc<Self>) {
        let mut waited = Duration::ZERO;
        loop {
            if self.lease.take(self.read_longest) {
                let outcome = self.read().await;
                self.report(outcome);
                self.lease.put_off(POLL);
                self.read_once.set(true);
                self.was_read.notify();
            } else if !self.read_once.get() {
                // Whoever has the turn has read it, or had time enough to find that it can't.
                if self.host.shared_get(&self.cursor_key).is_some() || waited >= self.read_longest {
                    self.read_once.set(true);
                    self.was_read.notify();
                }
                waited = waited.saturating_add(LOOK);
            }
            self.host.sleep(LOOK).await;
        }
    }

    /// Whether this Envoy has read the log, or tried to.
    pub fn was_read(&self) -> bool {
        self.read_once.get()
    }

    /// Completes once this Envoy has read the log, or tried to: what it knows of tokens is from there alone.
    pub async fn first_read(&self) {
        while !self.read_once.get() {
            let read = self.was_read.next();
            if !self.read_once.get() {
                read.await;
            }
        }
    }

    /// While it is not read, nothing else may fail: sessions in use are read by other commands, and tokens by none.
    fn report(&self, outcome: Result<(), RedisError>) {
        let (known, version) = shared_or(&*self.host, &self.trouble_key, &[]).unwrap_or_default();
        // Since when it can't be read, and then whether that was said: by whichever worker had its turn.
        let since = known.first_chunk().map(|since| Timestamp::from_millis(u64::from_be_bytes(*since)));
        let said = known.len() > size_of::<u64>();
        let (next, line) = match (outcome, since) {
            (Ok(()), None) => return,
            (Ok(()), Some(_)) => {
                (Vec::new(), said.then(|| (Level::Info, "the log of endings is read again".to_owned())))
            }
            (Err(RedisError(what)), since) => {
                self.host.count(metrics::log_read_failed());
                self.host.log(Level::Debug, &format!("log of endings not read: {what}"));
                let now = self.host.now();
                let since = since.unwrap_or(now).min(now);
                let is_time = !said && now.since(since) >= PATIENCE;
                let mut next = since.as_millis().to_be_bytes().to_vec();
                next.extend((said || is_time).then_some(1));
                let line =
                    "the log of endings can't be read, so this Envoy does not hear what ends on others";
                (next, is_time.then(|| (Level::Error, format!("{line}: {what}"))))
            }
        };
        if self.host.shared_set(&self.trouble_key, &next, Some(version)).is_ok()
            && let Some((level, line)) = line
        {
            self.host.log(level, &line);
        }
    }

    async fn append_later(&self, endings: Vec<Ending>) {
        for attempt in 0..TRIES {
            let pause = Duration::from_millis(100).saturating_mul(1 << attempt.min(6)).min(MAX_PAUSE);
            self.host.sleep(pause).await;
            if self.write(&endings).await.is_ok() {
                return;
            }
        }
        self.host
            .log(Level::Error, "an ending could not be written to Redis; other Envoys may not know of it");
    }

    async fn write(&self, endings: &[Ending]) -> Result<(), RedisError> {
        let mut commands: Vec<Command> = endings
            .iter()
            .map(|ending| {
                Command::new("XADD")
                    .arg(self.key.clone())
                    .arg("MAXLEN")
                    .arg("~")
                    .number(u64::try_from(MAX_KNOWN).unwrap_or(u64::MAX))
                    .arg("*")
                    .arg("e")
                    .arg(base64url(ending.encode()))
            })
            .collect();
        let keep = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX);
        commands.push(Command::new("PEXPIRE").arg(self.key.clone()).number(keep));
        self.redis.run(&commands).await.map(drop)
    }

    /// Reads on from where this Envoy stands. Others hear of it only when all of it is known.
    async fn read(&self) -> Result<(), RedisError> {
        let mut cursor = self.cursor();
        let mut heard = Vec::new();
        let mut outcome = Ok(());
        for _ in 0..MAX_BATCHES {
            let News { endings, newest, first, last } = match self.read_batch(cursor).await {
                Ok(news) => news,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            // The stream is younger than what we read of it, or it begins behind where we stand: Redis lost its data,
            // another one took its place, or we were away for so long that entries were dropped.
            let is_younger = last.is_none_or(|last| last < cursor);
            if last.is_none() && self.has_expired(cursor) {
                cursor = Id::default();
                break;
            }
            if cursor != Id::default() && (is_younger || first.is_some_and(|first| first > cursor)) {
                heard.push(Ending::missed());
                self.host.log(Level::Warn, "the log of endings in Redis is not the one that was read before");
                if is_younger {
                    cursor = Id::default();
                    if last.is_some() {
                        continue;
                    }
                    break;
                }
            }
            heard.extend(endings);
            cursor = newest.unwrap_or(cursor);
            if last.is_none_or(|last| last <= cursor) {
                break;
            }
        }
        if !heard.is_empty() {
            self.endings.announce(&heard);
        }
        // Only now: whoever sees it takes what it knows for complete.
        if outcome.is_ok() || cursor != Id::default() {
            self.set_cursor(cursor);
        }
        outcome
    }

    /// Whether nothing was written for so long that Redis let go of the log, as it was told to.
    fn has_expired(&self, Id(written, _): Id) -> bool {
        self.host.now() >= Timestamp::from_millis(written).plus(self.keep)
    }

    async fn read_batch(&self, after: Id) -> Result<News, RedisError> {
        let from = match after {
            Id(0, 0) => "-".to_owned(),
            Id(millis, number) => format!("({millis}-{number}"),
        };
        let range = |name: &str, start: &str, end: &str, count: u64| {
            Command::new(name).arg(self.key.clone()).arg(start).arg(end).arg("COUNT").number(count)
        };
        let replies = self
            .redis
            .run(&[
                range("XRANGE", &from, "+", BATCH),
                range("XRANGE", "-", "+", 1),
                range("XREVRANGE", "+", "-", 1),
            ])
            .await?;
        let wrong = RedisError("wrong type of reply");
        let [news, first, last] = <[Value; 3]>::try_from(replies).map_err(|_| wrong.clone())?;
        let entries = entries(&news).ok_or(wrong.clone())?;
        let only = |value: &Value| entries_ids(value).map(|ids| ids.first().copied());
        Ok(News {
            newest: entries.last().map(|(id, _)| *id),
            // What is no ending of ours is passed over.
            endings: entries.iter().filter_map(|(_, ending)| *ending).collect(),
            first: only(&first).ok_or(wrong.clone())?,
            last: only(&last).ok_or(wrong)?,
        })
    }

    fn cursor(&self) -> Id {
        self.host.shared_get(&self.cursor_key).and_then(|(bytes, _)| parse_id(&bytes)).unwrap_or_default()
    }

    fn set_cursor(&self, Id(millis, number): Id) {
        let _ = self.host.shared_set(&self.cursor_key, format!("{millis}-{number}").as_bytes(), None);
    }
}

struct News {
    /// The newest entry of this batch.
    newest: Option<Id>,
    endings: Vec<Ending>,
    first: Option<Id>,
    last: Option<Id>,
}

fn entries(value: &Value) -> Option<Vec<(Id, Option<Ending>)>> {
    let Value::Array(entries) = value else { return None };
    entries
        .iter()
        .map(|entry| {
            let Value::Array(parts) = entry else { return None };
            let [Value::Bulk(id), fields] = parts.as_slice() else { return None };
            Some((parse_id(id)?, ending(fields)))
        })
        .collect()
}

fn entries_ids(value: &Value) -> Option<Vec<Id>> {
    Some(entries(value)?.into_iter().map(|(id, _)| id).collect())
}

fn ending(fields: &Value) -> Option<Ending> {
    let Value::Array(fields) = fields else { return None };
    let [Value::Bulk(name), Value::Bulk(value)] = fields.as_slice() else { return None };
    if name != b"e" {
        return None;
    }
    Ending::decode(&from_base64url(value).ok()?)
}

fn parse_id(bytes: &[u8]) -> Option<Id> {
    let (millis, number) = std::str::from_utf8(bytes).ok()?.split_once('-')?;
    Some(Id(millis.parse().ok()?, number.parse().ok()?))
}
