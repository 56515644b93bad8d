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

/// Sessions that are shown: the latest.
const MAX_SHOWN: usize = 20;
/// A session that is listed for longer, and not there, has ended; a younger one may be about to be written.
const WRITTEN_BY_NOW: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Shows the page.
///
/// # Errors
/// Nobody is signed in; the list of sessions can't be had.
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
        // A renewal moves the end of the refresh token, but not this.
        ends: if record.grant.refresh_token.is_some() { record.expires } else { end },
        ends_unused: login.host.now().saturating_add(login.session.idle_timeout).min(end),
        others: &others,
        not_shown,
        request_id: request.id(),
    };
    Ok(Reply::document(render(&page), login.client.form_origin().as_deref()))
}

/// Ends one of the person's sessions, or all of them.
///
/// # Errors
/// Nobody is signed in; it was not this person who asked; there is no such session; Redis did not confirm it.
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
    // A name proves nothing: it has to be one of this person's.
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

/// Everything that was issued to this person until now is void, and the provider's session of this browser ends, too.
async fn end_all(login: &Rc<BrowserLogin>, request: &Request, entry: Rc<Entry>) -> Result<Reply, Refused> {
    let record = &entry.record;
    let listed = listed(login, record).await?;
    let mut names: Vec<_> = listed.into_iter().map(|listed| listed.name).collect();
    // Whoever asks is one of them, also when Redis has lost the list.
    let own = login.ticket(request)?.record_name();
    if !names.contains(&own) {
        names.push(own);
    }
    let principal = &record.principal;
    // Whole seconds, as `iat` has them, and by the provider's clock: a login of this very second is ended by name, or
    // not at all.
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

/// What the provider's clock says, as far as its last token tells; at most the leeway away from ours.
fn provider_time(login: &BrowserLogin, grant: &Grant) -> Timestamp {
    let (now, leeway) = (login.host.now(), login.config.clock_leeway);
    let ahead = grant.issued.duration_since(grant.obtained).min(leeway);
    // Up to a second of it is cut off in `iat`.
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
    // What has ended by itself is still listed, until somebody looks.
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
    let principal = &record.principal;
    let owner = SessionOwner::User(&principal.issuer, &principal.subject);
    let listed = login.sessions.index.list(owner).await;
    listed.map_err(|error| Dependency::Redis(error.text()).into())
}
