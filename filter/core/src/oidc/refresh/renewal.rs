//! Who renews a session: this worker, or another one that is faster.

use std::rc::Rc;
use std::time::Duration;

use crate::error::Rejection;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::refresh::flights::{Asking, RefreshOutcome};
use crate::oidc::refresh::leased::Leased;
use crate::revocation::memory::session_id_hash;
use crate::session::entry::Entry;
use crate::session::record::Freshness;
use crate::session::renewal::{LeaseOutcome, LeaseOwner};
use crate::session::ticket::Ticket;

/// How often the gate checks whether another worker has finished.
const LOOK: Duration = Duration::from_millis(50);
/// How often a worker repeats an unanswered request for a lease.
const MAX_ASKS: u32 = 3;

/// One session to refresh, here or by another worker.
pub struct Renewal {
    login: Rc<BrowserLogin>,
    ticket: Ticket,
    entry: Rc<Entry>,
}

impl Renewal {
    /// The session of this ticket, whose entry needs a refresh.
    pub fn new(login: Rc<BrowserLogin>, ticket: Ticket, entry: Rc<Entry>) -> Self {
        Self { login, ticket, entry }
    }

    /// Refreshes the session, or waits until another worker has done so.
    pub async fn run(mut self) -> RefreshOutcome {
        let login = self.login.clone();
        // If the provider is not known, do not take a lease.
        if login.client.provider.now().is_none() {
            return RefreshOutcome::Failed(login.client.provider.missing());
        }
        let lease = lease(&login);
        let key = session_id_hash(&self.ticket.record_name());
        let asking = match self.asking(&key) {
            Ok(asking) => asking,
            Err(rejection) => return rejection.into(),
        };
        let looks = lease.as_millis().checked_div(LOOK.as_millis()).unwrap_or_default();
        for _ in 0..looks {
            let asked = login.host.now();
            match login.sessions.acquire(&self.ticket, &self.entry, asking.owner, lease).await {
                // After such a long stall, the lease could expire while the provider answers.
                Ok(LeaseOutcome::Ours(_))
                    if login.host.now().duration_since(asked)
                        >= lease.saturating_sub(login.config.issuer.timeout) => {}
                Ok(LeaseOutcome::Ours(fence)) => {
                    return Leased::new(&login, &self.ticket, &self.entry, (fence, lease)).exchange().await;
                }
                Ok(LeaseOutcome::Done(newer)) => {
                    match newer.record.freshness(login.host.now(), &login.session) {
                        Freshness::Fresh => return RefreshOutcome::Renewed(newer),
                        // Another worker only recorded its use.
                        _ => self.entry = newer,
                    }
                }
                Ok(LeaseOutcome::Theirs(left)) => login.host.sleep(left.min(LOOK)).await,
                Ok(LeaseOutcome::Later(pause)) => {
                    let why = login.client.provider.refresh_brought_nothing();
                    login.refreshes.postpone(key, login.host.now(), pause, why.clone());
                    return RefreshOutcome::Failed(why);
                }
                Err(rejection) => {
                    // Each repeated request may extend the lease, so leave it to other workers after a few tries.
                    if asking.unanswered < MAX_ASKS {
                        let unanswered = asking.unanswered.saturating_add(1);
                        login.refreshes.put_unanswered(key, Asking { unanswered, ..asking });
                    }
                    return rejection.into();
                }
            }
        }
        RefreshOutcome::Failed(login.client.provider.refresh_brought_nothing())
    }

    /// The identity for the request: that of the last one if it got no reply.
    fn asking(&self, key: &[u8; 16]) -> Result<Asking, Rejection> {
        match self.login.refreshes.take_unanswered(key) {
            Some(asking) => Ok(asking),
            None => Ok(Asking { owner: LeaseOwner::generate(&*self.login.host)?, unanswered: 0 }),
        }
    }
}

/// As long as a refresh can take, so that the lease covers the holder's whole call to the provider.
pub fn lease(login: &BrowserLogin) -> Duration {
    let redis = login.session.redis.timeout.saturating_mul(2);
    login.config.issuer.timeout.saturating_add(redis).saturating_add(Duration::from_secs(1))
}
