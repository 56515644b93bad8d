//! Refresh (OIDC Core 12): a session is refreshed before its access token expires, once for all workers of all Envoys.
//!
//! Two things make it happen once. Within a worker there is one flight for each session (`flights`), and all requests
//! of the session wait for it. Among the workers of all Envoys, one gets the lease on the session
//! (`crate::session::renewal`).
//!
//! The refresh is a job of the root context and outlives the request that started it. If a refresh token was used and
//! the result was not stored, the session would be lost. Requests that need the result wait for it, within a time
//! limit.

pub mod flights;
mod leased;
mod renewal;
mod response;

use std::rc::Rc;

use crate::error::{Dependency, Rejection};
use crate::http::request::Request;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::refresh::flights::{Flight, RefreshOutcome};
use crate::oidc::refresh::renewal::Renewal;
use crate::revocation::memory::session_id_hash;
use crate::session::entry::Entry;
use crate::session::record::Freshness;
use crate::session::ticket::Ticket;
use crate::sync::within;

/// The session of this browser's cookie, refreshed first if necessary.
///
/// # Errors
/// As [`BrowserLogin::ticket`]; or the session ended; or a dependency is unavailable: then the user is not let in, but
/// stays signed in.
pub async fn session(login: &Rc<BrowserLogin>, request: &Request) -> Result<Rc<Entry>, Rejection> {
    let ticket = login.ticket(request)?;
    let entry = login.sessions.load(&ticket).await?;
    let freshness = entry.record.freshness(login.host.now(), &login.session);
    if freshness == Freshness::Fresh {
        return Ok(entry);
    }
    let flight = begin(login, ticket.clone(), &entry);
    match (freshness, flight) {
        (Freshness::Due, _) | (Freshness::CheckDue, Err(_)) => Ok(entry),
        (_, Err(dependency)) => Err(dependency.into()),
        (freshness, Ok(flight)) => {
            let current = match wait(login, &flight).await {
                RefreshOutcome::Renewed(renewed) => renewed,
                RefreshOutcome::Ended(end) => return Err(Rejection::SessionEnded(end)),
                RefreshOutcome::Failed(_) if freshness == Freshness::CheckDue => entry,
                RefreshOutcome::Failed(dependency) => return Err(dependency.into()),
            };
            // The session may have been signed out while this request waited.
            login.sessions.confirm(&ticket, &current)?;
            Ok(current)
        }
    }
}

/// Starts a refresh, or joins the one in progress.
///
/// # Errors
/// Why a recent refresh failed.
fn begin(login: &Rc<BrowserLogin>, ticket: Ticket, entry: &Rc<Entry>) -> Result<Rc<Flight>, Dependency> {
    let key = session_id_hash(&ticket.record_name());
    if let Some(dependency) = login.refreshes.postponed(&key, login.host.now()) {
        return Err(dependency);
    }
    if let Some(flight) = login.refreshes.under_way(&key) {
        return Ok(flight);
    }
    let flight = login.refreshes.take_off(key);
    let (job, renewal) = (login.clone(), Renewal::new(login.clone(), ticket, entry.clone()));
    login.host.spawn(Box::pin(async move {
        let outcome = renewal.run().await;
        job.refreshes.land(&key, outcome);
    }));
    Ok(flight)
}

/// Waits for the outcome, long enough for a whole refresh by any worker.
async fn wait(login: &BrowserLogin, flight: &Flight) -> RefreshOutcome {
    let outcome = within(&*login.host, renewal::lease(login), flight.outcome()).await;
    outcome.unwrap_or_else(|| RefreshOutcome::Failed(login.client.provider.refresh_brought_nothing()))
}
