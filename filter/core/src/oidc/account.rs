//! The account page's endpoints: show who is signed in and where, end one session or all.

use std::rc::Rc;
use std::time::Duration;

use crate::error::{Dependency, Malformed, Refused, Rejection};
use crate::http::account_page::{AccountPage, render};
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::same_site::{AskedBy, asked_by};
use crate::metrics::{self, Logout};
use crate::oidc::logout;
use crate::oidc::relying_party::RelyingParty;
use crate::session::endings::Ending;
use crate::session::entry::Entry;
use crate::session::index::{Listed, Owner};
use crate::session::record::{Grant, Record};
use crate::session::ticket::RecordName;
use crate::sync::finish;
use crate::time::Timestamp;

/// The page.
pub use crate::http::account_page::PATH;
/// What its buttons lead to.
pub const SIGN_OUT_PATH: &str = "/oauth2/account/sign-out";
/// Sessions that are shown: the latest.
const MAX_SHOWN: usize = 20;
/// A session that is listed for longer, and not there, has ended; a younger one may be about to be written.
const WRITTEN_BY_NOW: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Shows the page.
///
/// # Errors
/// Nobody is signed in; the list of sessions can't be had.
pub async fn show(rp: &Rc<RelyingParty>, request: &Request) -> Result<Reply, Rejection> {
    let entry = rp.session(request).await?;
    let browser = rp.browser()?;
    let record = &entry.record;
    let mut others = others(rp, request, record).await?;
    let not_shown = others.len().saturating_sub(MAX_SHOWN);
    others.truncate(MAX_SHOWN);
    let end = record.end(&browser.config);
    let page = AccountPage {
        principal: &record.principal,
        created: record.created,
        // A renewal moves the end of the refresh token, but not this.
        ends: if record.grant.refresh_token.is_some() { record.expires } else { end },
        ends_unused: rp.host.now().plus(browser.config.idle_timeout).min(end),
        others: &others,
        not_shown,
        request_id: request.id(),
    };
    Ok(Reply::document(render(&page), rp.form_origin().as_deref()))
}

/// Ends one of the person's sessions, or all of them.
///
/// # Errors
/// Nobody is signed in; it was not this person who asked; there is no such session; Redis did not confirm it.
pub async fn sign_out(rp: &Rc<RelyingParty>, request: &Request) -> Result<Reply, Refused> {
    if asked_by(request, &rp.config.public_url.origin) != AskedBy::Person {
        return Err(Rejection::CrossSite.into());
    }
    let to_the_page = |rejection: Rejection| Refused { retry_path: PATH.to_owned(), ..rejection.into() };
    let entry = rp.session(request).await.map_err(to_the_page)?;
    let mut asked = request.query_pairs().filter(|(name, _)| name == "session" || name == "everywhere");
    match (asked.next(), asked.next()) {
        (Some((name, value)), None) if name == "session" => {
            let name = RecordName::parse(value.as_bytes()).ok_or(Malformed::Parameters)?;
            end_one(rp, &entry.record, name).await.map_err(to_the_page)?;
            Ok(Reply::see_other(PATH.to_owned()))
        }
        (Some((_, value)), None) if value == "true" => end_all(rp, request, entry).await,
        _ => Err(Malformed::Parameters.into()),
    }
}

async fn end_one(rp: &Rc<RelyingParty>, record: &Record, name: RecordName) -> Result<(), Rejection> {
    // A name proves nothing: it has to be one of this person's.
    if !listed(rp, record).await?.iter().any(|listed| listed.name == name) {
        return Err(Rejection::NotFound(None));
    }
    let sessions = rp.browser()?.sessions.clone();
    rp.host.count(metrics::logout(Logout::Account));
    finish(&*rp.host, async move { sessions.end(&[name], Vec::new()).await })
        .await
        .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)))
        .map_err(logout::incomplete)
}

/// Everything that was issued to this person until now is void, and the provider's session of this browser ends, too.
async fn end_all(rp: &Rc<RelyingParty>, request: &Request, entry: Rc<Entry>) -> Result<Reply, Refused> {
    let record = &entry.record;
    let listed = listed(rp, record).await?;
    let mut names: Vec<_> = listed.into_iter().map(|listed| listed.name).collect();
    // Whoever asks is one of them, also when Redis has lost the list.
    let own = rp.ticket(request)?.record_name();
    if !names.contains(&own) {
        names.push(own);
    }
    let principal = &record.principal;
    // Whole seconds, as `iat` has them, and by the provider's clock: a login of this very second is ended by name, or
    // not at all.
    let before = Timestamp::from_secs(provider_time(rp, &record.grant).as_secs());
    let endings = vec![Ending::user(&principal.issuer, &principal.subject, before)];
    let sessions = rp.browser()?.sessions.clone();
    rp.host.count(metrics::logout(Logout::Account));
    finish(&*rp.host, async move { sessions.end(&names, endings).await })
        .await
        .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)))
        .map_err(|rejection| Refused {
            retry_path: PATH.to_owned(),
            ..logout::incomplete(rejection).into()
        })?;
    logout::leave(rp, request, Some(&record.grant)).await
}

/// What the provider's clock says, as far as its last token tells; at most the leeway away from ours.
fn provider_time(rp: &RelyingParty, grant: &Grant) -> Timestamp {
    let (now, leeway) = (rp.host.now(), rp.config.clock_leeway);
    let ahead = grant.issued.since(grant.obtained).min(leeway);
    // Up to a second of it is cut off in `iat`.
    let behind = grant.obtained.since(grant.issued).saturating_sub(SECOND).min(leeway);
    now.plus(ahead).minus(behind)
}

async fn others(
    rp: &RelyingParty,
    request: &Request,
    record: &Record,
) -> Result<Vec<(RecordName, Timestamp)>, Rejection> {
    let own = rp.ticket(request)?.record_name();
    let mut listed = listed(rp, record).await?;
    listed.retain(|listed| listed.name != own);
    let sessions = rp.browser()?.sessions.clone();
    let names = listed.iter().map(|listed| listed.name.clone()).collect();
    let existing = sessions.existing(names).await?;
    let (existing, ended): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|listed| existing.contains(&listed.name));
    // What has ended by itself is still listed, until somebody looks.
    let now = rp.host.now();
    let gone: Vec<_> = ended
        .into_iter()
        .filter(|listed| now.since(listed.created) > WRITTEN_BY_NOW)
        .map(|listed| listed.name)
        .collect();
    if !gone.is_empty() {
        let (issuer, subject) = (record.principal.issuer.clone(), record.principal.subject.clone());
        rp.host.spawn(Box::pin(async move {
            let _ = sessions.index.forget(Owner::User(&issuer, &subject), &gone).await;
        }));
    }
    Ok(existing.into_iter().map(|listed| (listed.name, listed.created)).collect())
}

async fn listed(rp: &RelyingParty, record: &Record) -> Result<Vec<Listed>, Rejection> {
    let principal = &record.principal;
    let owner = Owner::User(&principal.issuer, &principal.subject);
    let listed = rp.browser()?.sessions.index.list(owner).await;
    listed.map_err(|error| Dependency::Redis(error.text()).into())
}
