//! What counts once, on whichever worker of whichever Envoy it comes first: a login flow, a logout message.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::encoding::base64url;
use crate::error::{Dependency, LoginError, Rejection};
use crate::redis::resp::Value;
use crate::redis::{Command, RedisError};
use crate::session::store::Store;
use crate::time::millis;

/// A logout token, identified by its `jti`.
pub struct Message {
    hash: String,
    keep: Duration,
}

impl Message {
    /// The token with this id. `keep` is how long a replay of it would still be accepted.
    pub fn new(id: &str, keep: Duration) -> Self {
        Self { hash: base64url(Sha256::digest(id.as_bytes())), keep }
    }
}

impl Store {
    /// Whether this token was processed before, on any worker of any Envoy. If Redis is unavailable, the answer is no:
    /// logging out twice is harmless.
    pub async fn is_done(&self, message: &Message) -> bool {
        let exists = self.run_one(Command::new("EXISTS").arg(self.message_key(message))).await;
        exists.is_ok_and(|reply| reply == Value::Integer(1))
    }

    /// Records that a token was processed. Call this only after its revocations were written, so that a failed delivery
    /// can be repeated. If Redis does not take the record, the token can be processed twice.
    pub async fn done(&self, message: &Message) {
        let key = self.message_key(message);
        let _ =
            self.run_one(Command::new("SET").arg(key).arg("1").arg("PX").number(millis(message.keep))).await;
    }

    fn message_key(&self, message: &Message) -> String {
        self.redis.key(&["jti", &message.hash])
    }

    /// Claims a login flow for this callback. Any further callback for this flow is refused on every worker of every
    /// Envoy, even with another code: PKCE binds the code to the flow.
    ///
    /// # Errors
    /// [`LoginError::CodeUsed`], or Redis is unavailable (then the code is not redeemed).
    pub async fn take_flow(&self, state: &str, keep: Duration) -> Result<(), Rejection> {
        let hash = Sha256::new().chain_update(b"oidc-gate/flow/1").chain_update(state).finalize();
        if self.take_once("code", &base64url(hash), keep).await? {
            Ok(())
        } else {
            Err(LoginError::CodeUsed.into())
        }
    }

    /// Whether this is the first call with `id` within `keep`, on any worker of any Envoy.
    ///
    /// # Errors
    /// Redis is unavailable.
    async fn take_once(&self, what: &str, id: &str, keep: Duration) -> Result<bool, Rejection> {
        let key = self.redis.key(&[what, id]);
        let mut ours = [0; 12];
        self.host.random(&mut ours).map_err(|_| Dependency::Host)?;
        let ours = base64url(ours);
        let set =
            Command::new("SET").arg(key.clone()).arg(ours.clone()).arg("NX").arg("PX").number(millis(keep));
        match self.run_one(set).await? {
            Value::Simple(ok) if ok == "OK" => Ok(true),
            // In a cluster, a command is sent again if its reply was lost. The value tells whether the first one was
            // ours.
            Value::Nil => match self.run_one(Command::new("GET").arg(key)).await? {
                Value::Bulk(first) => Ok(first == ours.as_bytes()),
                Value::Nil => Ok(false),
                _ => Err(RedisError::WrongType.into()),
            },
            _ => Err(RedisError::WrongType.into()),
        }
    }
}
