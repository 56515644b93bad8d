//! The account page's endpoints: show who is signed in and where, end one session or all.

use std::rc::Rc;
use std::time::Duration;

use crate::error::{Dependency, Malformed, Refused, Rejection};
use crate::http::account_page::{AccountPage, render};
use crate::http::csrf::{AskedBy, asked_by};
use crate::http::endpoint::Endpoint;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::metrics::{self, Logout};
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::{logout, refresh};
use crate::record_name::RecordName;
use crate::revocation::memory::Revocation;
use crate::session::entry::Entry;
use crate::session::index::{Listed, SessionOwner};
use crate::session::record::{Grant, Record};
use crate::sync::finish;
use crate::time::Timestamp;

/// Most sessions that are shown: the latest.
const MAX_SHOWN: usize = 20;
/// A listed session without a record has ended if it is older than this. A younger one may not be written yet.
const WRITTEN_BY_NOW: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Shows the page.
///
/// # Errors
/// No session; the list of sessions is unavailable.
pub async fn show(login: &Rc<BrowserLogin>, request: &Request) -> Result<Reply, Rejection> {
    let entry = refresh::session(login, request).await?;
    let record = &entry.record;
    let mut others = others(login, request, record).await?;
    let not_shown = others.len().saturating_sub(MAX_SHOWN);
    others.truncate(MAX_SHOWN);
    let end = record.end(&login.session);
    let page = AccountPage {
        principal: &record.principal,
        created: record.created,
        // A refresh moves the expiry of the refresh token, but not this.
        ends: if record.grant.refresh_token.is_some() { record.expires } else { end },
        ends_unused: login.host.now().saturating_add(login.session.idle_timeout).min(end),
        others: &others,
        not_shown,
        request_id: request.id(),
    };
    Ok(Reply::document(render(&page), login.client.form_origin().as_deref()))
}

/// Ends one of the user's sessions, or all of them.
///
/// # Errors
/// No session; another page made the request; there is no such session; Redis did not confirm it.
pub async fn sign_out(login: &Rc<BrowserLogin>, request: &Request) -> Result<Reply, Refused> {
    if asked_by(request, &login.config.public_url.origin) != AskedBy::Person {
        return Err(Rejection::CrossSite.into());
    }
    let to_the_page = |rejection: Rejection| Refused {
        retry_path: Endpoint::Account.path().to_owned(),
        ..rejection.into()
    };
    let entry = refresh::session(login, request).await.map_err(to_the_page)?;
    let mut asked = request.query_pairs().filter(|(name, _)| name == "session" || name == "everywhere");
    match (asked.next(), asked.next()) {
        (Some((name, value)), None) if name == "session" => {
            let name = RecordName::parse(value.as_bytes()).ok_or(Malformed::Parameters)?;
            end_one(login, &entry.record, name).await.map_err(to_the_page)?;
            Ok(Reply::see_other(Endpoint::Account.path().to_owned()))
        }
        (Some((_, value)), None) if value == "true" => end_all(login, request, entry).await,
        _ => Err(Malformed::Parameters.into()),
    }
}

async fn end_one(login: &Rc<BrowserLogin>, record: &Record, name: RecordName) -> Result<(), Rejection> {
    // A name proves nothing, so it must be one of this user's sessions.
    if !listed(login, record).await?.iter().any(|listed| listed.name == name) {
        return Err(Rejection::NotFound(None));
    }
    let sessions = login.sessions.clone();
    login.host.count(metrics::logout(Logout::Account));
    finish(&*login.host, async move { sessions.end(&[name], Vec::new()).await })
        .await
        .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)))
        .map_err(logout::incomplete)
}

/// Revokes everything issued to this user until now, and ends the provider session of this browser.
async fn end_all(login: &Rc<BrowserLogin>, request: &Request, entry: Rc<Entry>) -> Result<Reply, Refused> {
    let record = &entry.record;
    let listed = listed(login, record).await?;
    let mut names: Vec<_> = listed.into_iter().map(|listed| listed.name).collect();
    // The current session belongs to the list even if Redis has lost the list.
    let own = login.ticket(request)?.record_name();
    if !names.contains(&own) {
        names.push(own);
    }
    let principal = &record.principal;
    // Whole seconds, like `iat`, and by the provider's clock. A login in the current second is ended by name or not at
    // all.
    let before = Timestamp::from_secs(provider_time(login, &record.grant).as_secs());
    let revocations = vec![Revocation::user(&principal.issuer, &principal.subject, before)];
    let sessions = login.sessions.clone();
    login.host.count(metrics::logout(Logout::Account));
    finish(&*login.host, async move { sessions.end(&names, revocations).await })
        .await
        .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)))
        .map_err(|rejection| Refused {
            retry_path: Endpoint::Account.path().to_owned(),
            ..logout::incomplete(rejection).into()
        })?;
    logout::leave(login, request, Some(&record.grant)).await
}

/// The provider's current time, estimated from its last token. It differs from our clock by at most the leeway.
fn provider_time(login: &BrowserLogin, grant: &Grant) -> Timestamp {
    let (now, leeway) = (login.host.now(), login.config.clock_leeway);
    let ahead = grant.issued.duration_since(grant.obtained).min(leeway);
    // `iat` is rounded down by up to a second.
    let behind = grant.obtained.duration_since(grant.issued).saturating_sub(SECOND).min(leeway);
    now.saturating_add(ahead).saturating_sub(behind)
}

async fn others(
    login: &BrowserLogin,
    request: &Request,
    record: &Record,
) -> Result<Vec<(RecordName, Timestamp)>, Rejection> {
    let own = login.ticket(request)?.record_name();
    let mut listed = listed(login, record).await?;
    listed.retain(|listed| listed.name != own);
    let sessions = login.sessions.clone();
    let names = listed.iter().map(|listed| listed.name.clone()).collect();
    let existing = sessions.existing(names).await?;
    let (existing, ended): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|listed| existing.contains(&listed.name));
    // Sessions that expired stay in the list until somebody reads it.
    let now = login.host.now();
    let gone: Vec<_> = ended
        .into_iter()
        .filter(|listed| now.duration_since(listed.created) > WRITTEN_BY_NOW)
        .map(|listed| listed.name)
        .collect();
    if !gone.is_empty() {
        let (issuer, subject) = (record.principal.issuer.clone(), record.principal.subject.clone());
        login.host.spawn(Box::pin(async move {
            let _ = sessions.index.forget(SessionOwner::User(&issuer, &subject), &gone).await;
        }));
    }
    Ok(existing.into_iter().map(|listed| (listed.name, listed.created)).collect())
}

async fn listed(login: &BrowserLogin, record: &Record) -> Result<Vec<Listed>, Rejection> {
    Ok(login.sessions.index.list(SessionOwner::user(&record.principal)).await?)
}
