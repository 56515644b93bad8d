//! Sign-out: the session here first, then the provider's (RP-Initiated Logout 1.0). Afterwards there is a page with a
//! way back in, or one of the configured addresses.

use std::rc::Rc;
use std::time::Duration;

use crate::encoding::base64url;
use crate::error::{Dependency, Refused, Rejection};
use crate::http::csrf::{AskedBy, asked_by};
use crate::http::endpoint::Endpoint;
use crate::http::pages::Page;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::metrics::{self, Logout};
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::token_revocation;
use crate::record_name::RecordName;
use crate::session::record::{Grant, MAX_HINT_LEN};
use crate::session::ticket::Ticket;
use crate::sync::finish;

/// How long the cookie of a logout in progress is valid.
const STATE_LIFETIME: Duration = Duration::from_secs(600);
/// How often the deletion of a session is retried if Redis did not confirm it.
const RETRIES: u32 = 10;

/// Ends the session if the user asked for it.
///
/// A sign-out triggered by somebody else is a nuisance and not a breach. Still, only the user's own action ends a
/// session at once. A navigation from elsewhere, or without a click, gets a confirmation page.
///
/// # Errors
/// [`Rejection::CrossSite`] if a page made the request without the user: a page of another site or of the application.
/// [`Rejection::Unavailable`] if Redis did not confirm the deletion: then the user is told that the sign-out is
/// incomplete.
pub async fn end(login: &Rc<BrowserLogin>, request: &Request) -> Result<Reply, Refused> {
    match asked_by(request, &login.config.public_url.origin) {
        AskedBy::Person => {}
        AskedBy::Navigation => return Ok(confirmation(login, request)),
        AskedBy::Page => return Err(Rejection::CrossSite.into()),
    }
    // Runs on the root context, so that closing the tab right after the click does not cancel it.
    let grant = match login.ticket(request) {
        Ok(ticket) => finish(&*login.host, end_session(login.clone(), ticket))
            .await
            .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)))
            .map_err(|rejection| Refused {
                rejection: incomplete(rejection),
                cookies: Vec::new(),
                retry_path: request.raw_path().to_owned(),
            })?,
        Err(_) => None,
    };
    leave(login, request, grant.as_ref()).await
}

/// Tells the user that they are not signed out, instead of which dependency failed.
pub fn incomplete(rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::Unavailable(dependency) => Rejection::SignOutIncomplete(dependency),
        other => other,
    }
}

/// Continues after the session here has ended: ends the provider's session.
///
/// # Errors
/// No randomness is available.
pub async fn leave(
    login: &Rc<BrowserLogin>,
    request: &Request,
    grant: Option<&Grant>,
) -> Result<Reply, Refused> {
    let forget = login.cookies.delete(login.cookies.session());
    revoke(login, grant);
    let id_token = grant.map(|grant| grant.id_token.expose());
    let reply = match end_session_location(login, id_token, return_url(login, request)).await? {
        Some((location, state)) => Reply::see_other(location).with_cookies([login.cookies.set(
            &login.cookies.logout(),
            &state,
            STATE_LIFETIME,
        )]),
        None => {
            let target = return_url(login, request).map_or(Endpoint::SignedOut.path(), |(_, url)| url);
            Reply::see_other(target.to_owned())
        }
    };
    Ok(reply.with_cookies([forget]))
}

/// Deletes the session and returns its grant, which the provider needs to identify its own session.
async fn end_session(login: Rc<BrowserLogin>, ticket: Ticket) -> Result<Option<Grant>, Rejection> {
    login.host.count(metrics::logout(Logout::Person));
    match login.sessions.delete(&ticket).await {
        Ok(entry) => Ok(entry.map(|entry| entry.record.grant.clone())),
        Err(failed) => {
            if let Some(name) = failed.name {
                remove_later(&login, name);
            }
            Err(failed.rejection)
        }
    }
}

/// The page after sign-out, with a link to sign in again. `state` tells whether this browser comes from its own
/// sign-out. Only the wording of the page and a configured redirect depend on it.
pub fn signed_out(login: &BrowserLogin, request: &Request) -> Reply {
    let name = login.cookies.logout();
    let sent = login.cookies.ours(request).find(|(candidate, _)| *candidate == name).map(|(_, value)| value);
    let returned = request.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value);
    let both_ended = sent.zip(returned.as_deref()).is_some_and(|(sent, returned)| sent == returned);
    let forget = [login.cookies.delete(&name), login.login_loop.reset()];
    if both_ended && let Some(url) = returned.as_deref().and_then(|state| chosen_url(login, state)) {
        return Reply::see_other(url.to_owned()).with_cookies(forget);
    }
    let page = Page::new(200, request.id()).title("You are signed out").sign_in("/");
    let page = page.text(if both_ended {
        "Your session here and the one at the identity provider have ended."
    } else {
        "You have no session here. You may still be signed in at the identity provider."
    });
    Reply::page(200, &page, None).with_cookies(forget)
}

/// The address in `rd` and its index: one of the configured addresses, compared as a whole, or none (LO16).
fn return_url<'a>(login: &'a BrowserLogin, request: &Request) -> Option<(usize, &'a str)> {
    let (_, wanted) = request.query_pairs().find(|(name, _)| name == "rd")?;
    let allowed = &login.settings.logout_return_urls;
    allowed.iter().enumerate().find(|(_, url)| **url == wanted).map(|(place, url)| (place, url.as_str()))
}

/// `state` holds the index of a configured address and no address itself.
fn chosen_url<'a>(login: &'a BrowserLogin, state: &str) -> Option<&'a str> {
    let (_, place) = state.split_once('.')?;
    login.settings.logout_return_urls.get(place.parse::<usize>().ok()?).map(String::as_str)
}

/// Revokes the refresh token. If the provider has no `end_session_endpoint`, this ends its session.
/// `end_session_endpoint` does not end offline grants, so those are revoked too.
fn revoke(login: &Rc<BrowserLogin>, grant: Option<&Grant>) {
    let Some(refresh_token) = grant.and_then(|grant| grant.refresh_token.clone()) else { return };
    let has_end_session =
        login.client.provider.now().is_some_and(|known| known.metadata.end_session_endpoint.is_ok());
    let is_offline = login.settings.scope.split(' ').any(|scope| scope == "offline_access");
    if is_offline || !has_end_session {
        token_revocation::revoke_later(&login.client, refresh_token);
    }
}

fn confirmation(login: &BrowserLogin, request: &Request) -> Reply {
    let page = Page::new(200, request.id())
        .title("Sign out?")
        .text("This ends your session here and at the identity provider.")
        .sign_out(true);
    Reply::page(200, &page, login.client.form_origin().as_deref())
}

/// RP-Initiated Logout 1.0 2: `id_token_hint` is the stored ID token.
async fn end_session_location(
    login: &BrowserLogin,
    id_token: Option<&str>,
    return_url: Option<(usize, &str)>,
) -> Result<Option<(String, String)>, Rejection> {
    // Right after a start, this worker may not know the provider yet, so wait for it.
    let known = login.client.provider.current().await.ok();
    let Some(mut url) = known.and_then(|known| known.metadata.end_session_endpoint.clone().ok()) else {
        return Ok(None);
    };
    let mut bytes = [0; 16];
    login.host.random(&mut bytes)?;
    let mut state = base64url(bytes);
    if let Some((place, _)) = return_url {
        state.push_str(&format!(".{place}"));
    }
    let return_to = format!("{}{}", login.config.public_url.origin, Endpoint::SignedOut.path());
    {
        let mut query = url.query_pairs_mut();
        match id_token.filter(|token| (1..=MAX_HINT_LEN).contains(&token.len())) {
            Some(id_token) => query.append_pair("id_token_hint", id_token),
            None => query.append_pair("client_id", &login.config.client.id),
        };
        query.append_pair("post_logout_redirect_uri", &return_to).append_pair("state", &state);
    }
    Ok(Some((url.into(), state)))
}

/// Retries the deletion in the background after the user was told that the sign-out is incomplete.
pub fn remove_later(login: &Rc<BrowserLogin>, name: RecordName) {
    let Some(removal) = login.removals.begin(name.clone()) else { return };
    let job = login.clone();
    login.host.spawn(Box::pin(async move {
        let _removal = removal;
        for attempt in 0..RETRIES {
            job.host.sleep(Duration::from_millis(250).saturating_mul(1 << attempt.min(6))).await;
            if job.sessions.remove(std::slice::from_ref(&name)).await.is_ok() {
                return;
            }
        }
    }));
}
