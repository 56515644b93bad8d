//! What counts once, on whichever worker of whichever Envoy it comes first: a login flow, a logout message.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::encoding::base64url;
use crate::error::{Dependency, LoginError, Rejection};
use crate::redis::Command;
use crate::redis::resp::Value;
use crate::session::store::{Store, millis, wrong_type};

/// A logout message, by its own id.
pub struct Message {
    hash: String,
    keep: Duration,
}

impl Message {
    /// The message with this id. `keep` is how long it could be sent again and still be accepted.
    pub fn new(id: &str, keep: Duration) -> Self {
        Self { hash: base64url(Sha256::digest(id.as_bytes())), keep }
    }
}

impl Store {
    /// Whether this message was carried out before, on any worker of any Envoy. If Redis is unavailable, the answer is
    /// no: logging out twice is harmless.
    pub async fn is_done(&self, message: &Message) -> bool {
        let exists = self.run_one(Command::new("EXISTS").arg(self.message_key(message))).await;
        exists.is_ok_and(|reply| reply == Value::Integer(1))
    }

    /// Notes that a message was carried out: only after its revocations were written, so that a message whose delivery
    /// failed can be delivered again. If Redis does not take the note, the message can be carried out twice.
    pub async fn done(&self, message: &Message) {
        let key = self.message_key(message);
        let _ =
            self.run_one(Command::new("SET").arg(key).arg("1").arg("PX").number(millis(message.keep))).await;
    }

    fn message_key(&self, message: &Message) -> String {
        self.redis.key(&["jti", &message.hash])
    }

    /// Takes a login flow for this callback; the second to ask, on any worker of any Envoy, is refused, whatever code
    /// it brings: PKCE binds the code to the flow.
    ///
    /// # Errors
    /// [`LoginError::CodeUsed`], or Redis can't say (then the code is not spent).
    pub async fn take_flow(&self, state: &str, keep: Duration) -> Result<(), Rejection> {
        let hash = Sha256::new().chain_update(b"oidc-gate/flow/1").chain_update(state).finalize();
        if self.take_once("code", &base64url(hash), keep).await? {
            Ok(())
        } else {
            Err(LoginError::CodeUsed.into())
        }
    }

    /// Whether this is the first to come with `id`, on any worker of any Envoy, since `keep` ago.
    ///
    /// # Errors
    /// Redis can't say.
    async fn take_once(&self, what: &str, id: &str, keep: Duration) -> Result<bool, Rejection> {
        let key = self.redis.key(&[what, id]);
        let mut ours = [0; 12];
        self.host.random(&mut ours).map_err(|_| Dependency::Host)?;
        let ours = base64url(ours);
        let set =
            Command::new("SET").arg(key.clone()).arg(ours.clone()).arg("NX").arg("PX").number(millis(keep));
        match self.run_one(set).await? {
            Value::Simple(ok) if ok == "OK" => Ok(true),
            // In a cluster a command is sent again when its answer did not come: then it was ourselves.
            Value::Nil => match self.run_one(Command::new("GET").arg(key)).await? {
                Value::Bulk(first) => Ok(first == ours.as_bytes()),
                Value::Nil => Ok(false),
                _ => Err(wrong_type()),
            },
            _ => Err(wrong_type()),
        }
    }
}
