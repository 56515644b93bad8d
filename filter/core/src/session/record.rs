//! The session record: what Redis keeps, sealed, of one browser session.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{self, WithoutRefreshToken};
use crate::error::SessionEnd;
use crate::principal::Principal;
use crate::revocation::memory::RevocationKeys;
use crate::secret::SecretText;
use crate::time::Timestamp;

/// Schema version of the record. Records with another version are not read.
pub const SCHEMA: u32 = 2;
/// A timestamp further in the future than this was written with a wrong clock.
const WRONG_CLOCK: Duration = Duration::from_secs(300);

/// A browser session. Its limits are inside the sealed data; TTLs in Redis only remove old records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The user who signed in.
    pub principal: Principal,
    /// When the login completed.
    pub created: Timestamp,
    /// When the session ends at the latest.
    pub expires: Timestamp,
    /// The last recorded use; lags by up to [`touch_interval`].
    pub last_used: Timestamp,
    /// The tokens from the provider.
    pub grant: Grant,
}

/// Longest ID token that is sent as `id_token_hint`, in bytes. A longer one would not fit into the request lines of
/// providers and browsers. Without a hint, the provider asks the user to confirm the logout.
pub const MAX_HINT_LEN: usize = 6 * 1024;

/// The provider's tokens for a session, from the login or the latest refresh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The ID token, for `id_token_hint` at logout. Empty if it is too long for that ([`Grant::hint`]).
    pub id_token: SecretText,
    /// The refresh token; used once.
    pub refresh_token: Option<SecretText>,
    /// When the tokens were obtained, by our clock.
    pub obtained: Timestamp,
    /// When the access token expires, by our clock.
    pub access_until: Timestamp,
    /// When the refresh token expires, if the provider says so.
    pub refresh_until: Option<Timestamp>,
    /// `iat` of the ID token: the provider's clock.
    pub issued: Timestamp,
    /// `auth_time` of the login, which a refresh does not change (OIDC Core 12.2).
    pub auth_time: Option<Timestamp>,
    /// `nonce` of the login, which a refresh repeats or leaves out.
    pub nonce: SecretText,
    /// `azp` of the login, which a refresh does not change.
    pub azp: Option<String>,
}

/// Whether the session must be refreshed, and whether before the request or during it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No refresh is needed.
    Fresh,
    /// Refresh soon, in the background.
    Due,
    /// Refresh before this request, although the access token is still valid. If the provider is unavailable, the
    /// session goes on.
    CheckDue,
    /// Refresh before this request: the access token has expired.
    Stale,
}

impl Grant {
    /// The part of an ID token that is stored: the whole token, or nothing if it is too long for a hint. With hundreds
    /// of groups it would be the largest part of a record.
    pub fn hint(id_token: &SecretText) -> SecretText {
        if id_token.len() > MAX_HINT_LEN { SecretText::default() } else { id_token.clone() }
    }
}

impl Record {
    /// A session that begins now.
    pub fn begin(principal: Principal, grant: Grant, now: Timestamp, config: &config::Session) -> Self {
        let expires = now.saturating_add(config.absolute_timeout);
        Self { schema: SCHEMA, principal, created: now, expires, last_used: now, grant }
    }

    /// Whether the session is within its limits. `used` is the latest known use, which may not be written yet.
    ///
    /// # Errors
    /// The limit that was exceeded.
    pub fn check_used(
        &self,
        used: Timestamp,
        now: Timestamp,
        config: &config::Session,
    ) -> Result<(), SessionEnd> {
        // `expires` is from the configuration at login, and the absolute timeout may have been shortened since, so
        // check `created`, too. If `created` is in the future, a clock was wrong, and the session's real age is
        // unknown.
        let from_the_future = self.created.duration_since(now) > WRONG_CLOCK;
        if now >= self.end(config)
            || from_the_future
            || now.duration_since(self.created) >= config.absolute_timeout
        {
            return Err(SessionEnd::Expired);
        }
        if now.duration_since(used.max(self.last_used)) >= config.idle_timeout {
            return Err(SessionEnd::Idle);
        }
        Ok(())
    }

    /// When the session ends if it stays in use and is not revoked: never after its refresh token expires.
    pub fn end(&self, config: &config::Session) -> Timestamp {
        let grant = &self.grant;
        let grant_end = match (&grant.refresh_token, config.without_refresh_token) {
            (Some(_), _) => grant.refresh_until,
            (None, WithoutRefreshToken::End) => Some(grant.access_until),
            (None, WithoutRefreshToken::Keep) => None,
        };
        grant_end.map_or(self.expires, |end| end.min(self.expires))
    }

    /// Whether the session must be refreshed.
    pub fn freshness(&self, now: Timestamp, config: &config::Session) -> Freshness {
        let grant = &self.grant;
        if grant.refresh_token.is_none() {
            return Freshness::Fresh;
        }
        if now >= grant.access_until || grant.obtained.duration_since(now) > WRONG_CLOCK {
            return Freshness::Stale;
        }
        if config.check_interval.is_some_and(|interval| now.duration_since(grant.obtained) >= interval) {
            return Freshness::CheckDue;
        }
        // Use at most half of the lifetime, or a short-lived token would be refreshed all the time.
        let half = grant.access_until.duration_since(grant.obtained).checked_div(2).unwrap_or_default();
        if grant.access_until.duration_since(now) <= config.refresh_ahead.min(half) {
            Freshness::Due
        } else {
            Freshness::Fresh
        }
    }

    /// TTL of the record in Redis: what is left of the session. It is not shortened to the idle timeout, because Redis
    /// may refuse writes, and the use of the session could then not extend it.
    pub fn time_to_live(&self, now: Timestamp, config: &config::Session) -> Duration {
        self.end(config).duration_since(now).max(Duration::from_millis(1))
    }

    /// When the idle timeout ends the session if it is not used again.
    pub fn idle_at(&self, config: &config::Session) -> Timestamp {
        self.last_used.saturating_add(config.idle_timeout)
    }

    /// Whether the use of the session must be written again.
    pub fn is_due_for_touch(&self, now: Timestamp, config: &config::Session) -> bool {
        now.duration_since(self.last_used) >= touch_interval(config)
    }

    /// The keys under which a revocation of this session is found.
    pub fn revocation_keys(&self) -> RevocationKeys {
        let principal = &self.principal;
        RevocationKeys::new(&principal.issuer, &principal.subject, principal.sid.as_ref(), self.grant.issued)
    }
}

/// Shortest time between two recorded uses of a session: a tenth of the idle timeout, between 1 s and 60 s.
pub fn touch_interval(config: &config::Session) -> Duration {
    config
        .idle_timeout
        .checked_div(10)
        .unwrap_or_default()
        .clamp(Duration::from_secs(1), Duration::from_secs(60))
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Kind;
    use crate::testing;
    use crate::testing::test;

    const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn config() -> config::Session {
        testing::config::config().browser.unwrap().session
    }

    fn record() -> Record {
        let principal = Principal {
            issuer: "https://idp.example".into(),
            subject: "s-1".into(),
            kind: Kind::Person,
            preferred_username: None,
            name: None,
            email: None,
            groups: vec![],
            groups_elsewhere: false,
            sid: None,
        };
        let grant = Grant {
            id_token: SecretText::new("id"),
            refresh_token: Some(SecretText::new("secret")),
            obtained: NOW,
            access_until: NOW.saturating_add(secs(300)),
            refresh_until: None,
            issued: NOW,
            auth_time: None,
            nonce: SecretText::new("n"),
            azp: None,
        };
        Record::begin(principal, grant, NOW, &config())
    }

    #[test]
    fn the_provider_is_asked_ahead_of_the_end_and_before_use_after_it() {
        let (record, config) = (record(), config());
        let at = |seconds| record.freshness(NOW.saturating_add(secs(seconds)), &config);
        assert_eq!([at(0), at(269)], [Freshness::Fresh; 2]);
        assert_eq!([at(270), at(299)], [Freshness::Due; 2]);
        assert_eq!(at(300), Freshness::Stale);
        assert_eq!(
            record.freshness(NOW.saturating_sub(secs(301)), &config),
            Freshness::Stale,
            "a clock set back"
        );
        let checked = config::Session { check_interval: Some(secs(60)), ..config.clone() };
        assert_eq!(record.freshness(NOW.saturating_add(secs(60)), &checked), Freshness::CheckDue);
        assert_eq!(record.freshness(NOW.saturating_add(secs(300)), &checked), Freshness::Stale);
        let mut short = record;
        short.grant.access_until = NOW.saturating_add(secs(10));
        let at = |seconds| short.freshness(NOW.saturating_add(secs(seconds)), &config);
        assert_eq!([at(4), at(5)], [Freshness::Fresh, Freshness::Due], "half of a short life");
        short.grant.refresh_token = None;
        assert_eq!(short.freshness(NOW.saturating_add(secs(10)), &config), Freshness::Fresh);
    }

    #[test]
    fn ss07_no_session_outlives_what_the_provider_gave_for_it() {
        let (mut record, mut config) = (record(), config());
        let ends =
            |record: &Record, config: &config::Session| record.end(config).duration_since(NOW).as_secs();
        assert_eq!(ends(&record, &config), 12 * 3600);
        record.grant.refresh_until = Some(NOW.saturating_add(secs(1800)));
        assert_eq!(ends(&record, &config), 1800);
        assert_eq!(
            record.check_used(record.last_used, NOW.saturating_add(secs(1800)), &config),
            Err(SessionEnd::Expired)
        );
        assert_eq!(record.time_to_live(NOW.saturating_add(secs(60)), &config), secs(1740));
        assert_eq!(record.idle_at(&config), NOW.saturating_add(secs(3600)));
        record.grant.refresh_until = Some(NOW.saturating_add(secs(100 * 3600)));
        assert_eq!(ends(&record, &config), 12 * 3600, "nor the absolute timeout");
        record.grant.refresh_token = None;
        assert_eq!(ends(&record, &config), 300);
        config.without_refresh_token = WithoutRefreshToken::Keep;
        assert_eq!(ends(&record, &config), 12 * 3600);
    }

    #[test]
    fn printing_a_record_shows_no_token() {
        let printed = format!("{:?}", record());
        assert!(printed.contains("[redacted]") && !printed.contains("secret"));
    }
}
