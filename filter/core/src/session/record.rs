//! The session record: what Redis keeps, sealed, of one browser session.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::SessionEnd;
use crate::principal::Principal;
use crate::time::Timestamp;

/// Version of the record's form; another one is not read.
pub const SCHEMA: u32 = 1;

/// A browser session. Its limits are inside the seal: what Redis says about lifetimes is only for tidying up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Who signed in.
    pub principal: Principal,
    /// When the login completed.
    pub created: Timestamp,
    /// When the session ends whatever happens.
    pub expires: Timestamp,
    /// When it was last known to be in use; lags by up to [`touch_interval`].
    pub last_used: Timestamp,
    /// The ID token, for `id_token_hint` at logout.
    pub id_token: String,
}

impl Record {
    /// A session that begins now.
    pub fn begin(principal: Principal, id_token: String, now: Timestamp, config: &config::Session) -> Self {
        let expires = now.plus(config.absolute_timeout);
        Self { schema: SCHEMA, principal, created: now, expires, last_used: now, id_token }
    }

    /// Whether the session still lives.
    ///
    /// # Errors
    /// Which limit it is past.
    pub fn check(&self, now: Timestamp, config: &config::Session) -> Result<(), SessionEnd> {
        // A clock that was set back must not make sessions eternal: the configured limit counts from `created`, too.
        // One from the future tells of a clock that was wrong: who knows how long it lives.
        let from_the_future = self.created.since(now) > Duration::from_secs(300);
        if now >= self.expires || from_the_future || now.since(self.created) >= config.absolute_timeout {
            return Err(SessionEnd::Expired);
        }
        if now.since(self.last_used) >= config.idle_timeout {
            return Err(SessionEnd::Idle);
        }
        Ok(())
    }

    /// How long Redis should keep it: what is left of the absolute timeout, or the idle one if that is shorter.
    pub fn time_to_live(&self, now: Timestamp, config: &config::Session) -> Duration {
        self.expires.since(now).min(config.idle_timeout).max(Duration::from_millis(1))
    }

    /// Whether its use should be written down again.
    pub fn is_due_for_touch(&self, now: Timestamp, config: &config::Session) -> bool {
        now.since(self.last_used) >= touch_interval(config)
    }
}

/// A session in use is written at most this often: a tenth of the idle timeout, between 1 s and 60 s.
pub fn touch_interval(config: &config::Session) -> Duration {
    config
        .idle_timeout
        .checked_div(10)
        .unwrap_or_default()
        .clamp(Duration::from_secs(1), Duration::from_secs(60))
}
