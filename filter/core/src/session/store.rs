//! Sessions in Redis, and the worker's cache in front of them.
//!
//! `{prefix}:s:{name}` is a hash of `ver` (a counter) and `rec` (the sealed record), with a TTL. `{prefix}:code:{hash}`
//! marks a login flow as done. Each operation touches one key.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config;
use crate::encoding::base64url;
use crate::error::{Dependency, LoginError, Rejection, SessionEnd};
use crate::host::{Host, Level};
use crate::redis::resp::Value;
use crate::redis::{Command, MAX_VALUE_LEN, Redis, RedisError};
use crate::seal::{KeyRing, Purpose};
use crate::session::cache::Cache;
use crate::session::ended::{Ended, News};
use crate::session::record::{Record, SCHEMA};
use crate::session::ticket::{RecordName, Ticket};

/// Sessions that one worker remembers at most.
const CACHE_CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// Writes `rec` only if the session still exists in the version that was read: a logout is never undone.
const TOUCH: &str = "if redis.call('HGET',KEYS[1],'ver')~=ARGV[1] then return 0 end \
    redis.call('HSET',KEYS[1],'ver',ARGV[2],'rec',ARGV[3]) redis.call('PEXPIRE',KEYS[1],ARGV[4]) return 1";

/// The session store of one worker.
pub struct Store {
    host: Rc<dyn Host>,
    config: config::Session,
    redis: Redis,
    keys: KeyRing,
    cache: RefCell<Cache<Entry>>,
    ended: Ended,
}

#[derive(Clone)]
struct Entry {
    record: Record,
    version: u64,
}

impl Store {
    /// For the store, keys and limits of the configuration.
    pub fn new(host: Rc<dyn Host>, config: config::Session, keys: KeyRing) -> Self {
        let redis = Redis::new(host.clone(), config.redis.clone());
        let ended = Ended::new(host.clone(), &config.redis.prefix);
        Self { host, redis, keys, cache: RefCell::new(Cache::new(CACHE_CAPACITY)), ended, config }
    }

    /// Takes a login flow for this callback; the second to ask, on any worker of any Envoy, is refused, whatever code it
    /// brings: PKCE binds the code to the flow.
    ///
    /// # Errors
    /// [`LoginError::CodeUsed`], or Redis can't say (then the code is not spent).
    pub async fn take_flow(&self, state: &str, keep: Duration) -> Result<(), Rejection> {
        let hash = Sha256::new().chain_update(b"oidc-gate/flow/1").chain_update(state).finalize();
        let key = self.redis.key(&["code", &base64url(hash)]);
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let set = Command::new("SET").arg(key).arg("1").arg("NX").arg("PX").number(keep);
        match self.run_one(set).await? {
            Value::Simple(ok) if ok == "OK" => Ok(()),
            Value::Nil => Err(LoginError::CodeUsed.into()),
            _ => Err(Dependency::Redis("wrong type of reply").into()),
        }
    }

    /// Writes a new session and gives out its ticket.
    ///
    /// # Errors
    /// The record is too large, Redis did not store it, or there is no randomness.
    pub async fn create(&self, record: &Record) -> Result<Ticket, Rejection> {
        let ticket = Ticket::generate(&*self.host)?;
        let sealed = self.seal(&ticket, record, 1)?;
        let key = self.key(&ticket.record_name());
        let ttl = self.ttl(record);
        let replies = self
            .redis
            .run(&[
                Command::new("MULTI"),
                Command::new("HSET").arg(key.clone()).arg("ver").arg("1").arg("rec").arg(sealed),
                Command::new("PEXPIRE").arg(key).number(ttl),
                Command::new("EXEC"),
            ])
            .await
            .map_err(unavailable)?;
        match replies.last() {
            Some(Value::Array(results)) if results.as_slice() == [Value::Integer(2), Value::Integer(1)] => {}
            _ => return Err(Dependency::Redis("wrong type of reply").into()),
        }
        self.remember(&ticket, Entry { record: record.clone(), version: 1 });
        Ok(ticket)
    }

    /// The session that a ticket opens.
    ///
    /// # Errors
    /// [`Rejection::SessionEnded`] only when Redis said so; a store that does not answer is
    /// [`Rejection::Unavailable`], never "no session".
    pub async fn load(self: &Rc<Self>, ticket: &Ticket) -> Result<Rc<Record>, Rejection> {
        self.forget_ended();
        let now = self.host.now();
        let cached = self.cache.borrow_mut().get(&ticket.fingerprint(), now);
        let entry = match cached {
            Some(entry) => entry,
            None => self.fetch(ticket).await?,
        };
        let now = self.host.now();
        entry.record.check(now, &self.config).map_err(Rejection::SessionEnded)?;
        if entry.record.is_due_for_touch(now, &self.config) {
            self.touch_later(ticket, &entry);
        }
        Ok(Rc::new(entry.record.clone()))
    }

    /// Ends a session: when this returns, no worker that reads Redis finds it.
    ///
    /// # Errors
    /// Redis did not confirm it. This Envoy does not know the session any more all the same.
    pub async fn delete(&self, ticket: &Ticket) -> Result<(), Rejection> {
        let fingerprint = ticket.fingerprint();
        self.cache.borrow_mut().remove(&fingerprint);
        self.ended.add(&fingerprint);
        match self.run_one(Command::new("DEL").arg(self.key(&ticket.record_name()))).await? {
            Value::Integer(_) => Ok(()),
            _ => Err(Dependency::Redis("wrong type of reply").into()),
        }
    }

    /// What another worker of this Envoy ended is not answered from the cache any more.
    fn forget_ended(&self) {
        match self.ended.news() {
            News::Ended(fingerprints) => {
                let mut cache = self.cache.borrow_mut();
                fingerprints.iter().for_each(|fingerprint| cache.remove(fingerprint));
            }
            News::TooMany => self.cache.borrow_mut().clear(),
        }
    }

    async fn fetch(&self, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        let name = ticket.record_name();
        let reply = self.run_one(Command::new("HMGET").arg(self.key(&name)).arg("ver").arg("rec")).await?;
        let Value::Array(fields) = reply else {
            return Err(Dependency::Redis("wrong type of reply").into());
        };
        let (version, sealed) = match <[Value; 2]>::try_from(fields) {
            Ok([Value::Nil, Value::Nil]) => return Err(Rejection::SessionEnded(SessionEnd::Unknown)),
            Ok([Value::Bulk(version), Value::Bulk(sealed)]) => (version, sealed),
            _ => return Err(Rejection::SessionEnded(SessionEnd::Unreadable)),
        };
        let entry = self
            .open(ticket, &name, &version, &sealed)
            .ok_or(Rejection::SessionEnded(SessionEnd::Unreadable))?;
        // It may have ended while Redis answered, or Redis may not have heard of it yet.
        if self.ended.contains(&ticket.fingerprint()) {
            return Err(Rejection::SessionEnded(SessionEnd::Unknown));
        }
        Ok(self.remember(ticket, entry))
    }

    /// `None` for whatever does not open under this ticket, is of another version, or is no record.
    fn open(&self, ticket: &Ticket, name: &RecordName, version: &[u8], sealed: &[u8]) -> Option<Entry> {
        let version: u64 = std::str::from_utf8(version).ok()?.parse().ok()?;
        let plain = self
            .keys
            .open(
                Purpose::Session,
                ticket.secret(),
                &[name.as_str().as_bytes(), &version.to_be_bytes()],
                sealed,
            )
            .ok()?;
        let record: Record = serde_json::from_slice(&plain).ok()?;
        (record.schema == SCHEMA).then_some(Entry { record, version })
    }

    /// Bound to the record's name and version: it opens nowhere else.
    fn seal(&self, ticket: &Ticket, record: &Record, version: u64) -> Result<Vec<u8>, Rejection> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(record).map_err(|_| LoginError::TooLarge)?);
        let name = ticket.record_name();
        let version = version.to_be_bytes();
        let context = [name.as_str().as_bytes(), &version];
        let sealed = self.keys.seal(&*self.host, Purpose::Session, ticket.secret(), &context, &plain)?;
        if sealed.len() > MAX_VALUE_LEN { Err(LoginError::TooLarge.into()) } else { Ok(sealed) }
    }

    fn remember(&self, ticket: &Ticket, entry: Entry) -> Rc<Entry> {
        let entry = Rc::new(entry);
        let until = self.host.now().plus(self.config.cache_ttl).min(entry.record.expires);
        self.cache.borrow_mut().put(ticket.fingerprint(), entry.clone(), until);
        entry
    }

    /// Writes down that the session is in use, in the background: the request does not wait, and a Redis that is away
    /// does not matter for it.
    fn touch_later(self: &Rc<Self>, ticket: &Ticket, entry: &Entry) {
        let mut touched = entry.clone();
        touched.record.last_used = self.host.now();
        touched.version = entry.version.saturating_add(1);
        // Remembered at once, so that the next requests of this worker don't write as well.
        self.remember(ticket, touched.clone());
        let (store, ticket, read) = (self.clone(), ticket.clone(), entry.version);
        self.host.spawn(Box::pin(async move {
            match store.touch(&ticket, &touched, read).await {
                Ok(true) => {}
                // Another worker was first, or the session ended: what Redis has is right.
                Ok(false) => store.cache.borrow_mut().remove(&ticket.fingerprint()),
                Err(rejection) => store.host.log(
                    Level::Warn,
                    &format!("session use not written: {}", rejection.detail().unwrap_or_default()),
                ),
            }
        }));
    }

    async fn touch(&self, ticket: &Ticket, entry: &Entry, read: u64) -> Result<bool, Rejection> {
        let sealed = self.seal(ticket, &entry.record, entry.version)?;
        let script = Command::new("EVAL")
            .arg(TOUCH)
            .arg("1")
            .arg(self.key(&ticket.record_name()))
            .number(read)
            .number(entry.version)
            .arg(sealed)
            .number(self.ttl(&entry.record));
        match self.run_one(script).await? {
            Value::Integer(written) => Ok(written == 1),
            _ => Err(Dependency::Redis("wrong type of reply").into()),
        }
    }

    async fn run_one(&self, command: Command) -> Result<Value, Rejection> {
        let mut replies = self.redis.run(&[command]).await.map_err(unavailable)?;
        replies.pop().ok_or(Rejection::Unavailable(Dependency::Redis("incomplete reply")))
    }

    fn key(&self, name: &RecordName) -> String {
        self.redis.key(&["s", name.as_str()])
    }

    fn ttl(&self, record: &Record) -> u64 {
        u64::try_from(record.time_to_live(self.host.now(), &self.config).as_millis()).unwrap_or(u64::MAX)
    }
}

fn unavailable(RedisError(what): RedisError) -> Rejection {
    Rejection::Unavailable(Dependency::Redis(what))
}
