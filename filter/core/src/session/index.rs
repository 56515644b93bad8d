//! Which sessions belong to one session at the provider, and which to one user. Best effort: the record is the truth,
//! and an entry without one is harmless.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::encoding::{base64url, length_prefixed};
use crate::principal::{Principal, Sid, Subject};
use crate::record_name::RecordName;
use crate::redis::resp::Value;
use crate::redis::{Command, Redis, RedisError};
use crate::session::record::Record;
use crate::time::{Timestamp, millis};

/// Most sessions in one index, the latest ones.
const MAX_ENTRIES: i64 = 100;

/// Sorted sets of record names, ordered by when the session began.
pub struct Index {
    redis: Redis,
    keep: Duration,
}

/// The owner of an index.
#[derive(Clone, Copy, Debug)]
pub enum SessionOwner<'a> {
    /// The user with this issuer and `sub`.
    User(&'a str, &'a Subject),
    /// The provider's session with this issuer and `sid`.
    ProviderSession(&'a str, &'a Sid),
}

impl<'a> SessionOwner<'a> {
    /// The user behind a session.
    pub fn user(principal: &'a Principal) -> Self {
        Self::User(&principal.issuer, &principal.subject)
    }
}

/// One session in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name of its record.
    pub name: RecordName,
    /// When the session began.
    pub created: Timestamp,
}

impl Index {
    /// `keep` is the longest life of a session.
    pub fn new(redis: Redis, keep: Duration) -> Self {
        Self { redis, keep }
    }

    /// Adds a session to the indexes of its owners.
    ///
    /// # Errors
    /// Redis did not take it.
    pub async fn add(&self, record: &Record, name: &RecordName) -> Result<(), RedisError> {
        let oldest = record.created.saturating_sub(self.keep).as_millis().to_string();
        let keep = millis(self.keep);
        for owner in owners(record) {
            let key = self.key(owner);
            self.redis
                .run(&[
                    Command::new("ZADD")
                        .arg(key.clone())
                        .number(record.created.as_millis())
                        .arg(name.as_bytes()),
                    Command::new("ZREMRANGEBYSCORE").arg(key.clone()).arg("-inf").arg(oldest.clone()),
                    Command::new("ZREMRANGEBYRANK")
                        .arg(key.clone())
                        .arg("0")
                        .arg((-1i64).saturating_sub(MAX_ENTRIES).to_string()),
                    Command::new("PEXPIRE").arg(key).number(keep),
                ])
                .await?;
        }
        Ok(())
    }

    /// Removes a session from the indexes of its owners.
    ///
    /// # Errors
    /// Redis did not remove it. That is harmless.
    pub async fn remove(&self, record: &Record, name: &RecordName) -> Result<(), RedisError> {
        for owner in owners(record) {
            self.forget(owner, std::slice::from_ref(name)).await?;
        }
        Ok(())
    }

    /// Removes ended sessions from an owner's index.
    ///
    /// # Errors
    /// Redis did not remove them. That is harmless.
    pub async fn forget(&self, owner: SessionOwner<'_>, names: &[RecordName]) -> Result<(), RedisError> {
        let command = Command::new("ZREM").arg(self.key(owner));
        let command = names.iter().fold(command, |command, name| command.arg(name.as_bytes()));
        self.redis.run(&[command]).await.map(drop)
    }

    /// The sessions of an owner, the latest first. Some may have ended.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn list(&self, owner: SessionOwner<'_>) -> Result<Vec<Listed>, RedisError> {
        let range = Command::new("ZREVRANGE")
            .arg(self.key(owner))
            .arg("0")
            .arg(MAX_ENTRIES.saturating_sub(1).to_string())
            .arg("WITHSCORES");
        let replies = self.redis.run(&[range]).await?;
        let [Value::Array(entries)] = replies.as_slice() else {
            return Err(RedisError::WrongType);
        };
        // Members that are not record names are skipped.
        Ok(entries.as_chunks::<2>().0.iter().filter_map(listed).collect())
    }

    /// The key holds a hash, so that it reveals neither `sub` nor `sid`.
    fn key(&self, owner: SessionOwner<'_>) -> String {
        let (kind, issuer, id) = match owner {
            SessionOwner::User(issuer, subject) => ("sub", issuer, subject.as_str()),
            SessionOwner::ProviderSession(issuer, sid) => ("sid", issuer, sid.as_str()),
        };
        let parts = length_prefixed(&[kind, issuer, id].map(str::as_bytes));
        let hash = Sha256::new().chain_update(b"oidc-gate/index/1").chain_update(parts);
        self.redis.key(&[kind, &base64url(hash.finalize())])
    }
}

fn owners(record: &Record) -> impl Iterator<Item = SessionOwner<'_>> {
    let principal = &record.principal;
    let session = principal.sid.as_ref().map(|sid| SessionOwner::ProviderSession(&principal.issuer, sid));
    [Some(SessionOwner::user(principal)), session].into_iter().flatten()
}

fn listed([name, score]: &[Value; 2]) -> Option<Listed> {
    let (Value::Bulk(name), Value::Bulk(score)) = (name, score) else { return None };
    let created = std::str::from_utf8(score).ok()?.parse().ok()?;
    Some(Listed { name: RecordName::parse(name)?, created: Timestamp::from_millis(created) })
}
