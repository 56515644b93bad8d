//! The session store of one worker: records in Redis, a cache in front, revocations that reach all workers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::error::{Dependency, Limit, LoginError, Rejection, SessionEnd};
use crate::host::{Host, Level};
use crate::record_name::RecordName;
use crate::redis::resp::Value;
use crate::redis::{Command, MAX_VALUE_LEN, Redis, RedisError};
use crate::revocation::log::RevocationLog;
use crate::revocation::memory::{Forget, Revocation, Revocations, session_id_hash};
use crate::seal::{KeyRing, Purpose};
use crate::session::cache::Cache;
use crate::session::door::Door;
use crate::session::ended::Ended;
use crate::session::entry::Entry;
use crate::session::index::Index;
use crate::session::record::{Record, SCHEMA, touch_interval};
use crate::session::script;
use crate::session::ticket::{Origin, Ticket};
use crate::session::unwritten::Unwritten;
use crate::sync::{Flights, Role, within};

/// Bytes of sessions that one worker remembers at most.
const CACHE_CAPACITY: usize = 16 * 1024 * 1024;
/// How long the first requests after a start wait until it is known what has ended.
const FIRST_READ_WAIT: Duration = Duration::from_secs(5);

/// The session store of one worker.
pub struct Store {
    pub(super) host: Rc<dyn Host>,
    pub(super) config: config::Session,
    pub(super) redis: Redis,
    keys: KeyRing,
    cache: RefCell<Cache<[u8; 16], Entry>>,
    reads: Flights<[u8; 16]>,
    /// Which tickets it is asked about.
    pub door: Door,
    ended: Ended,
    pub(super) unwritten: Unwritten,
    /// What ended.
    pub revocations: Rc<Revocations>,
    /// Tells other Envoys what ended.
    pub log: Rc<RevocationLog>,
    /// Which sessions belong together.
    pub index: Index,
}

impl Store {
    /// For the store, keys and limits of the configuration. `keep` is how long revocations matter.
    pub fn new(
        host: Rc<dyn Host>,
        config: config::Session,
        keys: KeyRing,
        door: Door,
        issuer: &str,
        keep: Duration,
    ) -> Self {
        let redis = Redis::new(host.clone(), config.redis.clone());
        // Two gates in one Envoy may have the same prefix in different Redis.
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

    /// Whether a session that is about to begin is over already, by what the provider announced.
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

    /// Writes a new session and gives out its ticket.
    ///
    /// # Errors
    /// The record is too large, Redis did not store it, or there is no randomness.
    pub async fn create(&self, record: &Record) -> Result<Ticket, Rejection> {
        let ticket = Ticket::generate(&*self.host, &self.keys)?;
        self.create_for(&ticket, record).await?;
        Ok(ticket)
    }

    /// Writes a new session that this ticket opens.
    pub(crate) async fn create_for(&self, ticket: &Ticket, record: &Record) -> Result<(), Rejection> {
        let sealed = self.seal(ticket, record, 1)?;
        // The indexes first: who signs this user out a moment later must find the session.
        self.index.add(record, &ticket.record_name()).await.map_err(unavailable)?;
        let ttl = self.ttl(record);
        let size = sealed.len();
        let reply = self
            .eval(script::CREATE, &ticket.record_name(), |command| {
                command.arg(sealed).number(ttl).number(self.idle_at(record))
            })
            .await?;
        if reply != Value::Integer(1) {
            return Err(wrong_type());
        }
        self.remember(self.entry(ticket, record.clone(), 1, size));
        Ok(())
    }

    /// The session that a ticket opens.
    ///
    /// # Errors
    /// [`Rejection::SessionEnded`] only when Redis or the list of revocations said so; a store that does not answer is
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

    /// Knows what has ended until now. After a start this waits until the log was read for the first time, but not
    /// longer than [`FIRST_READ_WAIT`]. Once a request has waited that long, no other one waits.
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

    /// Whether a session that was renewed, or waited for, still lives.
    ///
    /// # Errors
    /// It ended meanwhile.
    pub fn confirm(&self, entry: &Entry) -> Result<(), Rejection> {
        self.catch_up();
        match self.alive(entry) {
            // The request that waited uses it, and it was in use when that arrived.
            Err(Rejection::SessionEnded(SessionEnd::Idle)) => Ok(()),
            outcome => outcome,
        }
    }

    /// The session as Redis has it now.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub async fn reload(&self, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        self.catch_up();
        let entry = self.fetch(ticket).await?;
        self.alive(&entry)?;
        Ok(entry)
    }

    /// Ends the session of a ticket and gives back what it was; `None` when there was none: whoever has only something
    /// that looks like a ticket gets nothing written to Redis.
    ///
    /// # Errors
    /// Redis did not confirm it. If we gave the ticket out, or the session was known here, this Envoy honours it no
    /// more all the same, and [`Store::remove`] can be tried again.
    pub async fn delete(&self, ticket: &Ticket) -> Result<Option<Rc<Entry>>, Failed> {
        if self.is_gone(ticket) {
            return Ok(None);
        }
        let name = ticket.record_name();
        let known = self.cache.borrow_mut().stale(&session_id_hash(&name));
        let known = known.filter(|entry| entry.fingerprint == ticket.fingerprint());
        // As Redis has it, even where the clock or the revocations here say that it is over: other Envoys may not know,
        // and who is told that they are signed out must be.
        let entry = match (self.fetch(ticket).await, known) {
            (Ok(entry), _) => entry,
            // There is something of that name that does not open here; another Envoy may have a key for it.
            (Err(Rejection::SessionEnded(SessionEnd::Unreadable)), _) => {
                let ended = self.end(std::slice::from_ref(&name), Vec::new()).await;
                return ended.map(|()| None).map_err(|rejection| Failed { rejection, name: Some(name) });
            }
            // Redis lost it, or does not answer.
            (Err(_), Some(known)) => known,
            (Err(Rejection::SessionEnded(_)), None) => {
                self.have_forgotten(&name);
                return Ok(None);
            }
            // There may well be a session: whatever becomes of this try, it ends.
            (Err(rejection @ Rejection::Unavailable(_)), None) if ticket.origin() == Origin::Ours => {
                // Once: who asks again and again has nothing more written.
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
                // Nothing depends on it.
                let _ = self.index.remove(&entry.record, &name).await;
                Ok(Some(entry))
            }
            Err(rejection) => Err(Failed { rejection, name: Some(name) }),
        }
    }

    /// Has the workers of this Envoy ask Redis for a session that one of them may remember although it is gone there.
    /// Anybody can have it done, with anything that looks like a ticket, so it is done no more often than it is needed.
    fn have_forgotten(&self, name: &RecordName) {
        if self.revocations.may_announce_for_strangers() {
            self.revocations.announce(&[Revocation::changed(name)]);
        }
    }

    /// Ends sessions by name, and whatever else `revocations` says: when this returns, no worker that reads Redis finds
    /// them, and within a second none that remembers them answers from memory.
    ///
    /// # Errors
    /// Redis did not confirm it. This Envoy does not know the sessions any more all the same.
    pub async fn end(&self, names: &[RecordName], mut revocations: Vec<Revocation>) -> Result<(), Rejection> {
        revocations.extend(names.iter().map(Revocation::session));
        let logged = self.log.append(revocations).await.map_err(unavailable);
        self.catch_up();
        self.remove(names).await.and(logged)
    }

    /// Removes records.
    ///
    /// # Errors
    /// Redis did not confirm it.
    pub async fn remove(&self, names: &[RecordName]) -> Result<(), Rejection> {
        let deletions = names.iter().map(|name| Command::new("DEL").arg(self.key(name))).collect();
        self.redis.run_each(deletions).await.map(drop).map_err(unavailable)
    }

    /// Forgets what others ended or changed.
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
        // Its use by another Envoy may be about to be written down.
        if end != SessionEnd::Idle {
            self.ended.remember(session_id_hash(&entry.name), entry.fingerprint, end, now);
        }
        Err(Rejection::SessionEnded(end))
    }

    /// Whether the session of a ticket is known to have ended, so that Redis need not be asked.
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

    /// Whether Redis said a moment ago that a ticket's session is not there.
    fn is_gone(&self, ticket: &Ticket) -> bool {
        let session = session_id_hash(&ticket.record_name());
        let end = self.ended.get(&session, &ticket.fingerprint(), self.host.now());
        end == Some(SessionEnd::Unknown)
    }

    fn cached(&self, ticket: &Ticket) -> Option<Rc<Entry>> {
        let key = session_id_hash(&ticket.record_name());
        let entry = self.cache.borrow_mut().get(&key, self.host.now());
        // A right id with a wrong secret is another ticket.
        entry.filter(|entry| entry.fingerprint == ticket.fingerprint())
    }

    /// However many requests of one session come at once, one of them asks Redis.
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

    /// Reads a session and writes down its use, in one go where this worker knew it before.
    async fn read(self: &Rc<Self>, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        let known = self.cache.borrow_mut().stale(&session_id_hash(&ticket.record_name()));
        let known =
            known.filter(|known| known.fingerprint == ticket.fingerprint() && self.is_due_for_touch(known));
        if let Some(known) = &known
            && let Some(entry) = self.note_use(ticket, known).await?
        {
            return Ok(entry);
        }
        // A Redis that takes no writes may still be read.
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

    async fn fetch_admitted(&self, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        let key = self.key(&ticket.record_name());
        let reply = self.run_one(Command::new("HMGET").arg(key).arg("ver").arg("rec")).await?;
        let Value::Array(fields) = reply else { return Err(wrong_type()) };
        match fields.as_slice() {
            [Value::Nil, Value::Nil] => Err(self.gone(ticket)),
            [Value::Bulk(version), Value::Bulk(sealed)] => self.opened(ticket, version, sealed),
            // Half a record is none of ours.
            [Value::Bulk(_), Value::Nil] | [Value::Nil, Value::Bulk(_)] => {
                Err(Rejection::SessionEnded(SessionEnd::Unreadable))
            }
            // No answer to this question.
            _ => Err(wrong_type()),
        }
    }

    /// Understands what a script of ours answers: a word, or a newer record.
    pub(super) fn outcome(&self, ticket: &Ticket, reply: Value) -> Result<ScriptReply, Rejection> {
        let Value::Array(parts) = reply else { return Err(wrong_type()) };
        match parts.as_slice() {
            [Value::Bulk(word)] if word == b"gone" => Err(self.gone(ticket)),
            [Value::Bulk(word), Value::Bulk(version), Value::Bulk(sealed)] if word == b"changed" => {
                self.opened(ticket, version, sealed).map(ScriptReply::Changed)
            }
            [Value::Bulk(word)] => Ok(ScriptReply::Word(String::from_utf8_lossy(word).into_owned())),
            [Value::Bulk(word), Value::Integer(number)] => Ok(ScriptReply::Number(
                String::from_utf8_lossy(word).into_owned(),
                u64::try_from(*number).unwrap_or_default(),
            )),
            _ => Err(wrong_type()),
        }
    }

    pub(super) fn gone(&self, ticket: &Ticket) -> Rejection {
        let name = ticket.record_name();
        self.forget(&name);
        let end = SessionEnd::Unknown;
        self.ended.remember(session_id_hash(&name), ticket.fingerprint(), end, self.host.now());
        Rejection::SessionEnded(end)
    }

    /// Nothing but a record that this ticket opens, in this version, is a session.
    fn opened(&self, ticket: &Ticket, version: &[u8], sealed: &[u8]) -> Result<Rc<Entry>, Rejection> {
        let name = ticket.record_name();
        let open = || {
            let version: u64 = std::str::from_utf8(version).ok()?.parse().ok()?;
            let context = [name.as_bytes(), &version.to_be_bytes()];
            let plain = self.keys.open(Purpose::Session, ticket.secret(), &context, sealed).ok()?;
            let record: Record = serde_json::from_slice(&plain).ok()?;
            (record.schema == SCHEMA).then_some((record, version))
        };
        let (record, version) = open().ok_or(Rejection::SessionEnded(SessionEnd::Unreadable))?;
        Ok(self.remember(self.entry(ticket, record, version, sealed.len())))
    }

    pub(super) fn entry(&self, ticket: &Ticket, record: Record, version: u64, size: usize) -> Entry {
        let name = ticket.record_name();
        let revocation_keys = record.revocation_keys().of_session(&name);
        Entry { record, version, fingerprint: ticket.fingerprint(), revocation_keys, name, weight: size }
    }

    /// Bound to the record's name and version: it opens nowhere else.
    pub(super) fn seal(&self, ticket: &Ticket, record: &Record, version: u64) -> Result<Vec<u8>, Rejection> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(record).map_err(|_| Dependency::Host)?);
        let name = ticket.record_name();
        let context = [name.as_bytes(), &version.to_be_bytes()];
        let sealed = self.keys.seal(&*self.host, Purpose::Session, ticket.secret(), &context, &plain)?;
        if sealed.len() > MAX_VALUE_LEN { Err(LoginError::TooLarge(sealed.len()).into()) } else { Ok(sealed) }
    }

    pub(super) fn remember(&self, entry: Entry) -> Rc<Entry> {
        let entry = Rc::new(entry);
        // Its use is written down when it is read again.
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
        let mut replies = self.redis.run(&[command]).await.map_err(unavailable)?;
        replies.pop().ok_or(Rejection::Unavailable(Dependency::Redis("incomplete reply")))
    }

    /// Which of these sessions are there and in use.
    ///
    /// # Errors
    /// Redis can't say.
    pub async fn existing(&self, names: Vec<RecordName>) -> Result<Vec<RecordName>, Rejection> {
        let command = |name| Command::new("HMGET").arg(self.key(name)).arg("ver").arg("idle");
        let replies = self.redis.run_each(names.iter().map(command).collect()).await.map_err(unavailable)?;
        let (now, is_known) = (self.host.now().as_millis(), !self.unwritten.was_refused());
        let is_idle = |idle: &[u8]| {
            let idle: Option<u64> = std::str::from_utf8(idle).ok().and_then(|idle| idle.parse().ok());
            is_known && idle.is_some_and(|idle| idle <= now)
        };
        let there = replies.into_iter().map(|reply| match reply {
            Value::Array(fields) => match fields.as_slice() {
                [Value::Bulk(_), Value::Bulk(idle)] => !is_idle(idle),
                // Written by a version that did not say.
                [Value::Bulk(_), Value::Nil] => true,
                _ => false,
            },
            _ => false,
        });
        Ok(names.into_iter().zip(there).filter_map(|(name, there)| there.then_some(name)).collect())
    }

    fn key(&self, name: &RecordName) -> String {
        self.redis.key(&["s", name.as_str()])
    }

    pub(super) fn ttl(&self, record: &Record) -> u64 {
        millis(record.time_to_live(self.host.now(), &self.config))
    }

    pub(super) fn idle_at(&self, record: &Record) -> u64 {
        record.idle_at(&self.config).as_millis()
    }
}

/// A session could not be ended for certain.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Why.
    pub rejection: Rejection,
    /// Its name, when there is such a session.
    pub name: Option<RecordName>,
}

/// What a script of ours answered.
pub(super) enum ScriptReply {
    /// `[word]`
    Word(String),
    /// `[word, number]`
    Number(String, u64),
    /// The record was written meanwhile.
    Changed(Rc<Entry>),
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn wrong_type() -> Rejection {
    Dependency::Redis("wrong type of reply").into()
}

pub(super) fn unavailable(error: RedisError) -> Rejection {
    Rejection::Unavailable(Dependency::Redis(error.text()))
}
