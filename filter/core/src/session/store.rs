//! The session store of one worker: records in Redis, a cache in front, revocations that reach all workers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::error::{Limit, Rejection, SessionEnd};
use crate::host::{Host, Level};
use crate::record_name::RecordName;
use crate::redis::resp::Value;
use crate::redis::{Command, Redis, RedisError};
use crate::revocation::log::RevocationLog;
use crate::revocation::memory::{Forget, Revocation, Revocations, session_id_hash};
use crate::seal::KeyRing;
use crate::session::cache::Cache;
use crate::session::door::Door;
use crate::session::ended::Ended;
use crate::session::entry::Entry;
use crate::session::index::Index;
use crate::session::record::{Record, touch_interval};
use crate::session::script;
use crate::session::ticket::{Origin, Ticket};
use crate::session::unwritten::Unwritten;
use crate::sync::{Flights, Role, within};
use crate::time::millis;

/// Most bytes of session entries that one worker caches.
const CACHE_CAPACITY: usize = 16 * 1024 * 1024;
/// How long the first requests after a start wait for the first read of the revocation log.
const FIRST_READ_WAIT: Duration = Duration::from_secs(5);

/// The session store of one worker.
pub struct Store {
    pub(super) host: Rc<dyn Host>,
    pub(super) config: config::Session,
    pub(super) redis: Redis,
    pub(super) keys: KeyRing,
    cache: RefCell<Cache<[u8; 16], Entry>>,
    reads: Flights<[u8; 16]>,
    /// Checks tickets, and limits lookups of those that this gate cannot verify.
    pub door: Door,
    pub(super) ended: Ended,
    pub(super) unwritten: Unwritten,
    /// The revocations that this worker knows.
    pub revocations: Rc<Revocations>,
    /// Sends revocations to other Envoys and reads theirs.
    pub log: Rc<RevocationLog>,
    /// Finds the sessions of a user or of a provider session.
    pub index: Index,
}

impl Store {
    /// A store with the given configuration and keys. `keep` is how long a revocation must be kept.
    pub fn new(
        host: Rc<dyn Host>,
        config: config::Session,
        keys: KeyRing,
        door: Door,
        issuer: &str,
        keep: Duration,
    ) -> Self {
        let redis = Redis::new(host.clone(), config.redis.clone());
        // Two gates in one Envoy may use the same prefix in different Redis clusters.
        let tenant = format!("{}.{}", config.redis.cluster, config.redis.prefix);
        let revocations = Rc::new(Revocations::new(host.clone(), &tenant, issuer));
        let log = RevocationLog::new(host.clone(), redis.clone(), revocations.clone(), &config.redis, keep);
        Self {
            index: Index::new(redis.clone(), config.absolute_timeout),
            cache: RefCell::new(Cache::new(CACHE_CAPACITY)),
            reads: Flights::default(),
            door,
            ended: Ended::default(),
            unwritten: Unwritten::new(host.clone(), &tenant),
            log: Rc::new(log),
            host,
            redis,
            keys,
            revocations,
            config,
        }
    }

    /// Refuses a session that is about to begin if it has already been revoked.
    ///
    /// # Errors
    /// [`SessionEnd::SignedOut`]
    pub async fn require_alive(&self, record: &Record) -> Result<(), Rejection> {
        self.know_revocations().await;
        if self.revocations.is_revoked(&record.revocation_keys()) {
            return Err(Rejection::SessionEnded(SessionEnd::SignedOut));
        }
        Ok(())
    }

    /// Writes a new session and returns its ticket.
    ///
    /// # Errors
    /// The record is too large, Redis did not store it, or there is no randomness.
    pub async fn create(&self, record: &Record) -> Result<Ticket, Rejection> {
        let ticket = Ticket::generate(&*self.host, &self.keys)?;
        self.create_for(&ticket, record).await?;
        Ok(ticket)
    }

    /// Writes a new session for an existing ticket.
    pub(crate) async fn create_for(&self, ticket: &Ticket, record: &Record) -> Result<(), Rejection> {
        let sealed = self.seal(ticket, record, 1)?;
        // Write the indexes first: a logout a moment later must find the session.
        self.index.add(record, &ticket.record_name()).await?;
        let ttl = self.ttl(record);
        let size = sealed.len();
        let reply = self
            .eval(script::CREATE, &ticket.record_name(), |command| {
                command.arg(sealed).number(ttl).number(self.idle_at(record))
            })
            .await?;
        if reply != Value::Integer(1) {
            return Err(RedisError::WrongType.into());
        }
        self.remember(self.entry(ticket, record.clone(), 1, size));
        Ok(())
    }

    /// The session that a ticket opens.
    ///
    /// # Errors
    /// [`Rejection::SessionEnded`] if Redis, a revocation or the record's own limits say so. If Redis does not answer,
    /// [`Rejection::Unavailable`], never "no session".
    pub async fn load(self: &Rc<Self>, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        self.know_revocations().await;
        let entry = match self.cached(ticket).filter(|entry| !self.looks_idle(entry)) {
            Some(entry) => entry,
            None => {
                self.require_not_ended(ticket)?;
                self.read_once(ticket).await?
            }
        };
        self.alive(&entry)?;
        Ok(entry)
    }

    /// Applies the revocations known until now. After a start, waits for the first read of the log, at most
    /// [`FIRST_READ_WAIT`]. Once one request has waited that long, later requests do not wait.
    pub async fn know_revocations(&self) {
        if !self.log.was_read() && within(&*self.host, FIRST_READ_WAIT, self.log.first_read()).await.is_none()
        {
            self.log.give_up_first_read();
            self.host.log(
                Level::Error,
                "revocation stream could not be read since the start: revoked access tokens may be accepted",
            );
        }
        self.catch_up();
    }

    /// Checks that a session is still valid after a refresh, or after waiting for another worker's refresh.
    ///
    /// # Errors
    /// The session ended in the meantime.
    pub fn confirm(self: &Rc<Self>, ticket: &Ticket, entry: &Rc<Entry>) -> Result<(), Rejection> {
        self.catch_up();
        match self.alive(entry) {
            // The session was in use when the request arrived that waited, and that request uses it.
            Err(Rejection::SessionEnded(SessionEnd::Idle)) => {
                self.keep_use(ticket, entry);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Reads the session from Redis and ignores the cache.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub async fn reload(&self, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        self.catch_up();
        let entry = self.fetch(ticket).await?;
        self.alive(&entry)?;
        Ok(entry)
    }

    /// Ends the session of a ticket and returns its entry. `None` if there was no session: a made-up ticket causes no
    /// write to Redis.
    ///
    /// # Errors
    /// Redis did not confirm the deletion. If we issued the ticket, or this worker knew the session, this Envoy rejects
    /// it anyway, and [`Store::remove`] can be retried.
    pub async fn delete(&self, ticket: &Ticket) -> Result<Option<Rc<Entry>>, Failed> {
        if self.is_gone(ticket) {
            return Ok(None);
        }
        let name = ticket.record_name();
        let known = self.cache.borrow_mut().stale(&session_id_hash(&name));
        let known = known.filter(|entry| entry.fingerprint == ticket.fingerprint());
        // Read the record from Redis even if the clock or the revocations here say that the session is over. Other
        // Envoys may not know that yet, and a user who is told that they are signed out must be signed out there too.
        let entry = match (self.fetch(ticket).await, known) {
            (Ok(entry), _) => entry,
            // A record exists but cannot be decrypted here. Another Envoy may have the key, so end the session.
            (Err(Rejection::SessionEnded(SessionEnd::Unreadable)), _) => {
                let ended = self.end(std::slice::from_ref(&name), Vec::new()).await;
                return ended.map(|()| None).map_err(|rejection| Failed { rejection, name: Some(name) });
            }
            // Redis lost the record or did not answer.
            (Err(_), Some(known)) => known,
            (Err(Rejection::SessionEnded(_)), None) => {
                self.have_forgotten(&name);
                return Ok(None);
            }
            // The session may exist, so revoke it even though this request fails.
            (Err(rejection @ Rejection::Unavailable(_)), None) if ticket.origin() == Origin::Ours => {
                // Only once: repeated requests must not cause repeated writes.
                let ended = if self.revocations.is_session_revoked(&session_id_hash(&name)) {
                    Err(rejection)
                } else {
                    self.end(std::slice::from_ref(&name), Vec::new()).await
                };
                return ended.map(|()| None).map_err(|rejection| Failed { rejection, name: Some(name) });
            }
            (Err(rejection), None) => return Err(Failed { rejection, name: None }),
        };
        match self.end(std::slice::from_ref(&name), Vec::new()).await {
            Ok(()) => {
                self.ended.remember(
                    session_id_hash(&name),
                    entry.fingerprint,
                    SessionEnd::Unknown,
                    self.host.now(),
                );
                // Best effort: stale index entries are harmless.
                let _ = self.index.remove(&entry.record, &name).await;
                Ok(Some(entry))
            }
            Err(rejection) => Err(Failed { rejection, name: Some(name) }),
        }
    }

    /// Makes all workers of this Envoy drop a session that may still be cached although Redis no longer has it. Anybody
    /// can trigger this with something shaped like a ticket, so it is limited.
    fn have_forgotten(&self, name: &RecordName) {
        if self.revocations.may_announce_for_strangers() {
            self.revocations.announce(&[Revocation::changed(name)]);
        }
    }

    /// Ends sessions by name and publishes the given revocations with them. When this returns, no worker finds the
    /// sessions in Redis. Within a second, no worker answers from its cache.
    ///
    /// # Errors
    /// Redis did not confirm it. This Envoy rejects the sessions anyway.
    pub async fn end(&self, names: &[RecordName], mut revocations: Vec<Revocation>) -> Result<(), Rejection> {
        revocations.extend(names.iter().map(Revocation::session));
        let logged = self.log.append(revocations).await.map_err(Rejection::from);
        self.catch_up();
        self.remove(names).await.and(logged)
    }

    /// Deletes session records.
    ///
    /// # Errors
    /// Redis did not confirm it.
    pub async fn remove(&self, names: &[RecordName]) -> Result<(), Rejection> {
        let deletions = names.iter().map(|name| Command::new("DEL").arg(self.key(name))).collect();
        Ok(self.redis.run_each(deletions).await.map(drop)?)
    }

    /// Drops cached sessions that other workers revoked or changed.
    fn catch_up(&self) {
        match self.revocations.catch_up() {
            Forget::Sessions(names) => {
                let mut cache = self.cache.borrow_mut();
                for name in &names {
                    cache.remove(name);
                    self.ended.forget(name);
                }
            }
            Forget::Everything => {
                self.cache.borrow_mut().clear();
                self.ended.clear();
            }
        }
    }

    fn alive(&self, entry: &Entry) -> Result<(), Rejection> {
        let now = self.host.now();
        let end = if self.revocations.is_revoked(&entry.revocation_keys) {
            self.forget(&entry.name);
            SessionEnd::SignedOut
        } else if let Err(end) = self.check(entry) {
            end
        } else {
            return Ok(());
        };
        // Do not remember an idle timeout: another Envoy may be about to write a later use.
        if end != SessionEnd::Idle {
            self.ended.remember(session_id_hash(&entry.name), entry.fingerprint, end, now);
        }
        Err(Rejection::SessionEnded(end))
    }

    /// Refuses a ticket whose session is known to have ended, without asking Redis.
    fn require_not_ended(&self, ticket: &Ticket) -> Result<(), Rejection> {
        let session = session_id_hash(&ticket.record_name());
        let end = if self.revocations.is_session_revoked(&session) {
            SessionEnd::SignedOut
        } else if let Some(end) = self.ended.get(&session, &ticket.fingerprint(), self.host.now()) {
            end
        } else {
            return Ok(());
        };
        Err(Rejection::SessionEnded(end))
    }

    /// Whether Redis reported a few seconds ago that the ticket's session does not exist.
    fn is_gone(&self, ticket: &Ticket) -> bool {
        let session = session_id_hash(&ticket.record_name());
        let end = self.ended.get(&session, &ticket.fingerprint(), self.host.now());
        end == Some(SessionEnd::Unknown)
    }

    fn cached(&self, ticket: &Ticket) -> Option<Rc<Entry>> {
        let key = session_id_hash(&ticket.record_name());
        let entry = self.cache.borrow_mut().get(&key, self.host.now());
        // A known id with a different secret is a different ticket.
        entry.filter(|entry| entry.fingerprint == ticket.fingerprint())
    }

    /// Concurrent requests for one session share one read from Redis.
    async fn read_once(self: &Rc<Self>, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        match self.reads.join(session_id_hash(&ticket.record_name())) {
            Role::Lead(_until_read) => self.read(ticket).await,
            Role::Follow(read) => {
                read.await;
                match self.cached(ticket) {
                    Some(entry) => Ok(entry),
                    None => {
                        self.require_not_ended(ticket)?;
                        self.read(ticket).await
                    }
                }
            }
        }
    }

    /// Reads a session and records its use. If this worker already knows the session, one script does both.
    async fn read(self: &Rc<Self>, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        let known = self.cache.borrow_mut().stale(&session_id_hash(&ticket.record_name()));
        let known =
            known.filter(|known| known.fingerprint == ticket.fingerprint() && self.is_due_for_touch(known));
        if let Some(known) = &known
            && let Some(entry) = self.note_use(ticket, known).await?
        {
            return Ok(entry);
        }
        // A Redis that refuses writes may still serve reads.
        let entry = self.fetch(ticket).await?;
        if self.looks_idle(&entry) {
            return self.end_unused(ticket, entry).await;
        }
        if !self.is_due_for_touch(&entry) {
            return Ok(entry);
        }
        if known.is_none()
            && let Some(entry) = self.note_use(ticket, &entry).await?
        {
            return Ok(entry);
        }
        self.keep_use(ticket, &entry);
        Ok(entry)
    }

    async fn fetch(&self, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        let admission = self.door.admit(ticket).ok_or(Limit::UnknownTickets)?;
        let entry = self.fetch_admitted(ticket).await?;
        self.door.opened(admission);
        Ok(entry)
    }

    pub(super) fn remember(&self, entry: Entry) -> Rc<Entry> {
        let entry = Rc::new(entry);
        // Cap the validity at the touch interval: the use of the session is recorded when it is read again.
        let ttl = self.config.cache_ttl.min(touch_interval(&self.config));
        let now = self.host.now();
        let good = now..now.saturating_add(ttl).min(entry.record.expires);
        let session = session_id_hash(&entry.name);
        self.ended.forget(&session);
        self.cache.borrow_mut().put(session, entry.clone(), good);
        entry
    }

    pub(super) fn forget(&self, name: &RecordName) {
        self.cache.borrow_mut().remove(&session_id_hash(name));
    }

    pub(super) async fn eval(
        &self,
        script: &str,
        name: &RecordName,
        arguments: impl FnOnce(Command) -> Command,
    ) -> Result<Value, Rejection> {
        let command = Command::new("EVAL").arg(script).arg("1").arg(self.key(name));
        self.run_one(arguments(command)).await
    }

    pub(super) async fn run_one(&self, command: Command) -> Result<Value, Rejection> {
        let mut replies = self.redis.run(&[command]).await?;
        replies.pop().ok_or(RedisError::Incomplete.into())
    }

    /// Those of the given sessions that exist and are not idle.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn existing(&self, names: Vec<RecordName>) -> Result<Vec<RecordName>, Rejection> {
        let command = |name| Command::new("HMGET").arg(self.key(name)).arg("ver").arg("idle");
        let replies = self.redis.run_each(names.iter().map(command).collect()).await?;
        let (now, is_known) = (self.host.now().as_millis(), !self.unwritten.was_refused());
        let is_idle = |idle: &[u8]| {
            let idle: Option<u64> = std::str::from_utf8(idle).ok().and_then(|idle| idle.parse().ok());
            is_known && idle.is_some_and(|idle| idle <= now)
        };
        let there = replies.into_iter().map(|reply| match reply {
            Value::Array(fields) => match fields.as_slice() {
                [Value::Bulk(_), Value::Bulk(idle)] => !is_idle(idle),
                // Written by a version without this field.
                [Value::Bulk(_), Value::Nil] => true,
                _ => false,
            },
            _ => false,
        });
        Ok(names.into_iter().zip(there).filter_map(|(name, there)| there.then_some(name)).collect())
    }

    pub(super) fn key(&self, name: &RecordName) -> String {
        self.redis.key(&["s", name.as_str()])
    }

    pub(super) fn ttl(&self, record: &Record) -> u64 {
        millis(record.time_to_live(self.host.now(), &self.config))
    }

    pub(super) fn idle_at(&self, record: &Record) -> u64 {
        record.idle_at(&self.config).as_millis()
    }
}

/// A session may not have been ended.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The reason.
    pub rejection: Rejection,
    /// The session's name, if the session exists or may exist.
    pub name: Option<RecordName>,
}
