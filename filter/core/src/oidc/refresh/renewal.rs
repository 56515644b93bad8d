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

/// How often it is looked whether another worker has finished.
const LOOK: Duration = Duration::from_millis(50);
/// How often a worker asks again for a lease that it has perhaps got.
const MAX_ASKS: u32 = 3;

/// One session that is to be renewed, here or by another worker.
pub struct Renewal {
    login: Rc<BrowserLogin>,
    ticket: Ticket,
    entry: Rc<Entry>,
}

impl Renewal {
    /// Of this session, which as this entry demands it.
    pub fn new(login: Rc<BrowserLogin>, ticket: Ticket, entry: Rc<Entry>) -> Self {
        Self { login, ticket, entry }
    }

    /// Renews the session here, or waits until another worker has done it.
    pub async fn run(mut self) -> RefreshOutcome {
        let login = self.login.clone();
        // Without the provider there is no need for a lease.
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
                // A worker that stood still for so long would lose it to another one while the provider answers.
                Ok(LeaseOutcome::Ours(_))
                    if login.host.now().duration_since(asked)
                        >= lease.saturating_sub(login.config.issuer.timeout) => {}
                Ok(LeaseOutcome::Ours(fence)) => {
                    return Leased::new(&login, &self.ticket, &self.entry, (fence, lease)).exchange().await;
                }
                Ok(LeaseOutcome::Done(newer)) => {
                    match newer.record.freshness(login.host.now(), &login.session) {
                        Freshness::Fresh => return RefreshOutcome::Renewed(newer),
                        // Only its use was written down.
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
                    // Each time makes the lease longer: whoever gets no answers leaves it to others.
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

    /// As whom this worker asks for the lease: as before, if it got no answer then.
    fn asking(&self, key: &[u8; 16]) -> Result<Asking, Rejection> {
        match self.login.refreshes.take_unanswered(key) {
            Some(asking) => Ok(asking),
            None => Ok(Asking { owner: LeaseOwner::generate(&*self.login.host)?, unanswered: 0 }),
        }
    }
}

/// As long as a refresh can take: while a lease lives, its holder's call may still be under way.
pub fn lease(login: &BrowserLogin) -> Duration {
    let redis = login.session.redis.timeout.saturating_mul(2);
    login.config.issuer.timeout.saturating_add(redis).saturating_add(Duration::from_secs(1))
}
