//! Refreshing a session in Redis: the lease that one worker of all Envoys gets, and what its holder may write. The
//! scripts are in `script`; `oidc::refresh` has the protocol with the provider.
//!
//! 1. A worker asks for the lease with the version that it has read. It gets the lease with a fence number, or one of
//!    these answers: another worker holds the lease; the last refresh failed and the pause is not over; the session has
//!    a newer version, which comes with the answer. If the answer is lost, the worker asks again as the same owner and
//!    gets the same lease.
//! 2. A lease lasts `issuer.timeout` + 2 × `redis.timeout` + 1 s. Taking it and calling the provider
//!    always take less time, so a refresh token is never in use without a lease. The duration is stored with the lease,
//!    because the limits of two Envoys differ while a new configuration is rolled out. The holder extends the lease
//!    when the provider has answered, and while it waits for keys.
//! 3. The new record is written only if fence and version are unchanged. A sign-out deletes the hash, so nothing is
//!    written after it.
//! 4. While a lease is held, the session's use is not written down. That would change the version under the refresh.
//! 5. After a lease has expired, another worker waits for `redis.timeout` + 1.5 s before it takes over. The holder may
//!    have been cut off from Redis after it used the refresh token, and this is its last chance to write.
//! 6. After a failure the lease is released with a pause of 1 s to 30 s. No Envoy tries again before the pause is over.

use std::rc::Rc;
use std::time::Duration;

use crate::encoding::base64url;
use crate::error::{Dependency, Rejection};
use crate::host::Host;
use crate::redis::RedisError;
use crate::redis::resp::Value;
use crate::session::entry::Entry;
use crate::session::record::Record;
use crate::session::replies::ScriptReply;
use crate::session::script;
use crate::session::store::Store;
use crate::session::ticket::Ticket;
use crate::time::millis;

/// Longest pause between two tries to write the result of a refresh.
pub const COMMIT_PAUSE: Duration = Duration::from_secs(1);

const MARGIN: Duration = Duration::from_millis(500);

/// The right to refresh one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence(u64);

/// Identifies a request for a lease. A repeated request with the same owner gets the same lease, because the first
/// reply may have been lost.
#[derive(Clone, Copy, Debug)]
pub struct LeaseOwner([u8; 12]);

impl LeaseOwner {
    /// A random owner.
    ///
    /// # Errors
    /// No randomness is available.
    pub fn generate(host: &dyn Host) -> Result<Self, Rejection> {
        let mut owner = [0; 12];
        host.random(&mut owner).map_err(|_| Dependency::Host)?;
        Ok(Self(owner))
    }
}

/// The reply to a request for the lease.
#[derive(Debug)]
pub enum LeaseOutcome {
    /// This worker holds the lease.
    Ours(Fence),
    /// Another worker holds the lease. Check again after this time at the latest.
    Theirs(Duration),
    /// The last refresh failed. No refresh is allowed before this time has passed.
    Later(Duration),
    /// Another worker has refreshed the session already: its new record.
    Done(Rc<Entry>),
}

impl Store {
    /// Requests the lease on a session in order to refresh this version of it. The holder of an expired lease gets a
    /// grace period for one more try to write: one pause and one call.
    ///
    /// # Errors
    /// The session ended, or Redis is unavailable.
    pub async fn acquire(
        &self,
        ticket: &Ticket,
        entry: &Entry,
        LeaseOwner(owner): LeaseOwner,
        lease: Duration,
    ) -> Result<LeaseOutcome, Rejection> {
        let grace = self.config.redis.timeout.saturating_add(COMMIT_PAUSE).saturating_add(MARGIN);
        let reply = self
            .eval(script::ACQUIRE, &entry.name, |command| {
                command
                    .number(entry.version)
                    .number(millis(lease))
                    .number(millis(grace))
                    .arg(base64url(owner))
            })
            .await?;
        match self.outcome(ticket, reply)? {
            ScriptReply::Changed(entry) => Ok(LeaseOutcome::Done(entry)),
            ScriptReply::Number(word, number) => match word.as_str() {
                "yours" => Ok(LeaseOutcome::Ours(Fence(number))),
                "held" => Ok(LeaseOutcome::Theirs(Duration::from_millis(number))),
                "later" => Ok(LeaseOutcome::Later(Duration::from_millis(number))),
                _ => Err(RedisError::WrongType.into()),
            },
            ScriptReply::Word(_) => Err(RedisError::WrongType.into()),
        }
    }

    /// Extends the lease. The result is not checked here: [`Store::commit`] detects a lost lease.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn renew(&self, entry: &Entry, Fence(fence): Fence, lease: Duration) -> Result<(), Rejection> {
        self.eval(script::RENEW, &entry.name, |command| command.number(fence).number(millis(lease)))
            .await
            .map(drop)
    }

    /// Writes a refreshed record. `None` if the session ended in the meantime or another worker refreshed it.
    ///
    /// # Errors
    /// Redis is unavailable: the record may have been written or not.
    pub async fn commit(
        &self,
        ticket: &Ticket,
        entry: &Entry,
        Fence(fence): Fence,
        record: &Record,
    ) -> Result<Option<Rc<Entry>>, Rejection> {
        let version = entry.version.saturating_add(1);
        let sealed = self.seal(ticket, record, version)?;
        let size = sealed.len();
        let reply = self
            .eval(script::COMMIT, &entry.name, |command| {
                command
                    .number(fence)
                    .number(entry.version)
                    .number(version)
                    .arg(sealed)
                    .number(self.ttl(record))
                    .number(self.idle_at(record))
            })
            .await?;
        match reply {
            Value::Integer(1) => Ok(Some(self.remember(self.entry(ticket, record.clone(), version, size)))),
            Value::Integer(_) => Ok(None),
            _ => Err(RedisError::WrongType.into()),
        }
    }

    /// Releases the lease after a failed refresh. Returns how long no worker may try again.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn release_after(
        &self,
        entry: &Entry,
        Fence(fence): Fence,
        first: Duration,
        most: Duration,
    ) -> Result<Duration, Rejection> {
        let reply = self
            .eval(script::RELEASE_AFTER, &entry.name, |command| {
                command.number(fence).number(millis(first)).number(millis(most))
            })
            .await?;
        match reply {
            Value::Integer(pause) => Ok(Duration::from_millis(u64::try_from(pause).unwrap_or_default())),
            _ => Err(RedisError::WrongType.into()),
        }
    }

    /// Ends a session that the provider refused to refresh. False if another worker refreshed it in the meantime.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn end_refused(&self, entry: &Entry, Fence(fence): Fence) -> Result<bool, Rejection> {
        let reply = self
            .eval(script::END, &entry.name, |command| command.number(fence).number(entry.version))
            .await?;
        match reply {
            Value::Integer(ended) => Ok(ended == 1),
            _ => Err(RedisError::WrongType.into()),
        }
    }
}
