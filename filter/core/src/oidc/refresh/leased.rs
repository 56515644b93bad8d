//! A session on which this worker has the lease: nobody else spends its refresh token.

use std::time::Duration;

use crate::error::{Dependency, Outlook, Rejection, SessionEnd, Trouble};
use crate::host::Level;
use crate::metrics::{self, Refresh};
use crate::oidc::answer::ProviderEndpoint;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::refresh::flights::{MAX_PAUSE, RefreshOutcome};
use crate::oidc::refresh::response;
use crate::oidc::token_endpoint::{self, Failure, Tokens};
use crate::quote::quote;
use crate::redis::RedisError;
use crate::revocation::memory::{Revocation, session_id_hash};
use crate::session::entry::Entry;
use crate::session::record::{Freshness, Record};
use crate::session::renewal::{COMMIT_PAUSE, Fence};
use crate::session::ticket::Ticket;
use crate::time::Timestamp;

/// The pause after the first failed refresh. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Tries to write the result of a refresh, and tries to validate it while keys are unavailable.
const COMMIT_TRIES: u32 = 100;
const CHECK_TRIES: u32 = 12;
/// Longest reason in a log line, in characters.
const MAX_LOGGED: usize = 600;

/// A session on which this worker holds the lease.
pub struct Leased<'a> {
    login: &'a BrowserLogin,
    ticket: &'a Ticket,
    entry: &'a Entry,
    fence: Fence,
    lease: Duration,
    /// When the exchange began.
    asked: Timestamp,
}

impl<'a> Leased<'a> {
    /// Starts now. `lease` is the duration of the lease.
    pub fn new(
        login: &'a BrowserLogin,
        ticket: &'a Ticket,
        entry: &'a Entry,
        (fence, lease): (Fence, Duration),
    ) -> Self {
        Self { login, ticket, entry, fence, lease, asked: login.host.now() }
    }

    /// Redeems the refresh token and writes the result.
    pub async fn exchange(&self) -> RefreshOutcome {
        let Self { login, entry, .. } = *self;
        let refresh_token = entry.record.grant.refresh_token.clone().unwrap_or_default();
        let who = entry.record.principal.for_log();
        let trouble = match token_endpoint::refresh(&login.client, &refresh_token).await {
            Ok(tokens) => match self.validate(&tokens).await {
                Ok(record) => return self.persist(record, Refresh::Renewed).await,
                // Neither the gate nor the user is at fault. Keep the new refresh token, because the old one is used
                // up.
                Err(Rejection::Unavailable(dependency)) => {
                    login.host.log(
                        Level::Error,
                        &format!(
                            "session not refreshed: its new tokens could not be verified ({}): {}; \
                             retrying later {who}",
                            dependency.reason().label(),
                            quote(&dependency.detail().unwrap_or_default(), MAX_LOGGED)
                        ),
                    );
                    let record = response::unchecked(&entry.record, tokens, self.asked);
                    let kept = self.persist(record, Refresh::Failed).await;
                    let pause = if passes_soon(&dependency) { FIRST_PAUSE } else { MAX_PAUSE };
                    self.postpone(pause, dependency.clone());
                    return match kept {
                        RefreshOutcome::Renewed(_) => RefreshOutcome::Failed(dependency),
                        other => other,
                    };
                }
                // RF03: tokens that do not belong to this login end the session and are dropped.
                Err(rejection) => {
                    let is_forged = matches!(&rejection, Rejection::Login(error) if error.is_forgery());
                    let (counted, level) = if is_forged {
                        (Refresh::Forged, Level::Error)
                    } else {
                        (Refresh::Invalid, Level::Warn)
                    };
                    login.host.count(metrics::refresh(counted));
                    let detail = rejection.detail().unwrap_or_default();
                    login.host.log(
                        level,
                        &format!(
                            "session ended: invalid refresh response: {} {who}",
                            quote(&detail, MAX_LOGGED)
                        ),
                    );
                    return self.end(SessionEnd::RefreshInvalid).await;
                }
            },
            // RF04: the provider does not know this session any more, or would always refuse the same request.
            Err(Failure::GrantRefused(words) | Failure::RequestRefused(words)) => {
                login.host.count(metrics::refresh(Refresh::Refused));
                login.host.log(
                    Level::Info,
                    &format!(
                        "session ended: the provider refused the refresh: {} {who}",
                        quote(&words, MAX_LOGGED)
                    ),
                );
                return self.end(SessionEnd::RefreshRefused).await;
            }
            Err(Failure::ClientRefused(words)) => Trouble::lasting(words),
            Err(Failure::NoTokens(what)) => Trouble::lasting(ProviderEndpoint::Token.says(what)),
            Err(Failure::Trouble(trouble)) => trouble,
        };
        // RF05: the session goes on until its access token expires.
        login.host.count(metrics::refresh(Refresh::Failed));
        login.host.log(
            Level::Error,
            &format!("session not refreshed: {}; retrying later {who}", quote(&trouble.detail, MAX_LOGGED)),
        );
        login.client.provider.remember(&trouble);
        let pause = login.sessions.release_after(entry, self.fence, FIRST_PAUSE, MAX_PAUSE).await;
        self.postpone(pause.unwrap_or(FIRST_PAUSE), Dependency::Provider(trouble.clone()));
        RefreshOutcome::Failed(Dependency::Provider(trouble))
    }

    /// The session's next record, from the new tokens. Retries while they cannot be validated.
    async fn validate(&self, tokens: &Tokens) -> Result<Record, Rejection> {
        let Self { login, entry, fence, lease, asked, .. } = *self;
        let validate = || response::validate(login, &entry.record, tokens, asked);
        let _ = login.sessions.renew(entry, fence, lease).await;
        let mut outcome = validate().await;
        for _ in 0..CHECK_TRIES {
            if !matches!(&outcome, Err(Rejection::Unavailable(dependency)) if passes_soon(dependency)) {
                break;
            }
            let _ = login.sessions.renew(entry, fence, lease).await;
            login.host.sleep(FIRST_PAUSE).await;
            outcome = validate().await;
        }
        outcome
    }

    /// Writes the new record and counts the refresh. Redis may be unavailable for a while, and no one else has these
    /// tokens, so this retries for long.
    async fn persist(&self, record: Record, counted: Refresh) -> RefreshOutcome {
        let Self { login, entry, ticket, fence, .. } = *self;
        let sessions = &login.sessions;
        let mut why = Dependency::Redis(RedisError::NotWritten);
        for attempt in 0..COMMIT_TRIES {
            match sessions.commit(ticket, entry, fence, &record).await {
                Ok(Some(renewed)) => {
                    login.host.count(metrics::refresh(counted));
                    if renewed.record.principal != entry.record.principal {
                        // Its permissions have changed, so every worker must reload the record.
                        let _ = sessions.log.append(vec![Revocation::changed(&ticket.record_name())]).await;
                    }
                    return RefreshOutcome::Renewed(renewed);
                }
                // The user was signed out, an earlier try was written and its reply lost, or another worker was faster.
                Ok(None) => return self.reread().await,
                Err(rejection @ Rejection::Login(_)) => {
                    let (label, detail) =
                        (rejection.reason().label(), rejection.detail().unwrap_or_default());
                    login.host.log(
                        Level::Error,
                        &format!("session ended: refreshed session can't be stored: {label}: {detail}"),
                    );
                    return self.end(SessionEnd::RefreshInvalid).await;
                }
                Err(rejection) => {
                    if let Rejection::Unavailable(dependency) = rejection {
                        why = dependency;
                    }
                    login
                        .host
                        .sleep(
                            Duration::from_millis(50).saturating_mul(1 << attempt.min(5)).min(COMMIT_PAUSE),
                        )
                        .await;
                }
            }
        }
        login.host.count(metrics::refresh(Refresh::Lost));
        let (detail, user) = (why.detail().unwrap_or_default(), entry.record.principal.for_log());
        login.host.log(
            Level::Error,
            &format!(
                "refreshed session could not be written to Redis, its new tokens are lost and the session will end: detail={detail:?} {user}"
            ),
        );
        RefreshOutcome::Failed(why)
    }

    async fn end(&self, reason: SessionEnd) -> RefreshOutcome {
        let Self { login, entry, ticket, fence, .. } = *self;
        let sessions = &login.sessions;
        match sessions.end_refused(entry, fence).await {
            // Another worker has refreshed the session, and its result counts.
            Ok(false) => self.reread().await,
            // If Redis did not confirm the deletion, the revocation still ends the session.
            Ok(true) | Err(_) => {
                let name = ticket.record_name();
                let _ = sessions.log.append(vec![Revocation::session(&name)]).await;
                let _ = sessions.index.remove(&entry.record, &name).await;
                RefreshOutcome::Ended(reason)
            }
        }
    }

    /// Loads what another worker has written.
    async fn reread(&self) -> RefreshOutcome {
        let Self { login, ticket, .. } = *self;
        match login.sessions.reload(ticket).await {
            Ok(entry) if entry.record.freshness(login.host.now(), &login.session) == Freshness::Stale => {
                RefreshOutcome::Failed(login.client.provider.refresh_brought_nothing())
            }
            Ok(entry) => RefreshOutcome::Renewed(entry),
            Err(rejection) => rejection.into(),
        }
    }

    fn postpone(&self, pause: Duration, why: Dependency) {
        let key = session_id_hash(&self.ticket.record_name());
        self.login.refreshes.postpone(key, self.login.host.now(), pause, why);
    }
}

/// Whether a retry within seconds can help. A wrong clock is not corrected that fast, and another Envoy's clock may be
/// right.
fn passes_soon(dependency: &Dependency) -> bool {
    *dependency != Dependency::Clock && dependency.outlook() == Outlook::Passing
}
