//! What counts once, on whichever worker of whichever Envoy it comes first: a login flow, a logout token.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::encoding::base64url;
use crate::error::{Dependency, LoginError, Rejection};
use crate::redis::Command;
use crate::redis::resp::Value;
use crate::session::store::{Store, millis, wrong_type};

impl Store {
    /// Takes a login flow for this callback; the second to ask, on any worker of any Envoy, is refused, whatever code it
    /// brings: PKCE binds the code to the flow.
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
    pub async fn take_once(&self, what: &str, id: &str, keep: Duration) -> Result<bool, Rejection> {
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
