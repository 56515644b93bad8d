//! Sign-out: the session here first, then the provider's (RP-Initiated Logout 1.0).

use std::rc::Rc;
use std::time::Duration;

use crate::encoding::base64url;
use crate::error::{Dependency, Refused, Rejection};
use crate::http::pages::Page;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::oidc::relying_party::RelyingParty;
use crate::session::ticket::Ticket;
use crate::sync::finish;

/// Where the provider sends browsers after it ended its session.
pub const SIGNED_OUT_PATH: &str = "/oauth2/signed-out";
/// A hint longer than this would not fit into providers' and browsers' request lines; the provider then asks.
const MAX_HINT_LEN: usize = 6 * 1024;
/// How long a logout under way is remembered.
const STATE_LIFETIME: Duration = Duration::from_secs(600);
/// How often, and how long apart, the deletion of a session is tried again after Redis did not confirm it.
const RETRIES: u32 = 10;

/// Ends the session, when it is the person who asks for it.
///
/// # Errors
/// [`Rejection::CrossSite`] when another site's page asks; [`Rejection::Unavailable`] when Redis did not confirm the
/// deletion: then the person is told so, and not that they are signed out.
pub async fn end(rp: &Rc<RelyingParty>, request: &Request) -> Result<Reply, Refused> {
    match asked_by(request, &rp.config.public_url.origin) {
        AskedBy::Person => {}
        AskedBy::Link => return Ok(confirmation(rp, request)),
        AskedBy::OtherSite => return Err(Rejection::CrossSite.into()),
    }
    // On the root context: a tab that is closed right after the click does not undo it.
    let id_token = match rp.ticket(request) {
        Ok(ticket) => finish(&*rp.host, end_session(rp.clone(), ticket))
            .await
            .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)))
            .map_err(|rejection| Refused {
                rejection,
                cookies: Vec::new(),
                retry_path: request.raw_path().to_owned(),
            })?,
        Err(_) => None,
    };
    let forget = rp.cookies.delete(rp.cookies.session());
    let reply = match end_session_location(rp, id_token.as_deref())? {
        Some((location, state)) => Reply::see_other(location).with_cookies([rp.cookies.set(
            &rp.cookies.logout(),
            &state,
            STATE_LIFETIME,
        )]),
        None => Reply::see_other(SIGNED_OUT_PATH.to_owned()),
    };
    Ok(reply.with_cookies([forget]))
}

/// Deletes the session and gives back its ID token: the provider wants to know whose session ends.
async fn end_session(rp: Rc<RelyingParty>, ticket: Ticket) -> Result<Option<String>, Rejection> {
    let browser = rp.browser()?;
    let id_token = match browser.sessions.load(&ticket).await {
        Ok(record) => Some(record.id_token.clone()),
        Err(_) => None,
    };
    match browser.sessions.delete(&ticket).await {
        Ok(()) => Ok(id_token),
        Err(rejection) => {
            delete_later(&rp, ticket);
            Err(rejection)
        }
    }
}

/// The page after sign-out, with a way back in. `state` tells whether this browser comes from a sign-out of its own;
/// nothing but the wording depends on it.
pub fn signed_out(rp: &RelyingParty, request: &Request) -> Reply {
    let name = rp.cookies.logout();
    let sent = rp.cookies.ours(request).find(|(candidate, _)| *candidate == name).map(|(_, value)| value);
    let returned = request.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value);
    let both_ended = sent.zip(returned.as_deref()).is_some_and(|(sent, returned)| sent == returned);
    let page = Page::new(200, request.id()).title("You are signed out").sign_in("/");
    let page = page.text(if both_ended {
        "Your session here and the one at the identity provider have ended."
    } else {
        "There is no session of yours here. The identity provider may still know you."
    });
    Reply::page(200, &page, None).with_cookies([rp.cookies.delete(&name), rp.attempts.reset()])
}

enum AskedBy {
    Person,
    Link,
    OtherSite,
}

/// A sign-out that another site triggers is a nuisance, not a breach; still only a click on our own origin does it at
/// once, a link from elsewhere asks first, and images or scripts get nothing.
fn asked_by(request: &Request, origin: &str) -> AskedBy {
    let posted = request.method() == "POST";
    match (request.header("sec-fetch-site"), request.header("sec-fetch-dest")) {
        (Some("same-origin" | "none"), _) => AskedBy::Person,
        (Some(_), Some("document")) if !posted => AskedBy::Link,
        (Some(_), _) => AskedBy::OtherSite,
        (None, _) if posted => match request.header("origin") {
            Some(sent) if sent == origin => AskedBy::Person,
            None if !request.has_header("origin") => AskedBy::Person,
            _ => AskedBy::OtherSite,
        },
        (None, _) => AskedBy::Link,
    }
}

fn confirmation(rp: &RelyingParty, request: &Request) -> Reply {
    let page = Page::new(200, request.id())
        .title("Sign out?")
        .text("This ends your session here and at the identity provider.")
        .sign_out(true);
    Reply::page(200, &page, rp.form_origin().as_deref())
}

/// RP-Initiated Logout 2: the hint is the ID token that we were given at login.
fn end_session_location(
    rp: &RelyingParty,
    id_token: Option<&str>,
) -> Result<Option<(String, String)>, Rejection> {
    let Some(mut url) = rp.provider.now().and_then(|known| known.metadata.end_session_endpoint.clone())
    else {
        return Ok(None);
    };
    let mut bytes = [0; 16];
    rp.host.random(&mut bytes)?;
    let state = base64url(bytes);
    let return_to = format!("{}{SIGNED_OUT_PATH}", rp.config.public_url.origin);
    {
        let mut query = url.query_pairs_mut();
        match id_token.filter(|token| token.len() <= MAX_HINT_LEN) {
            Some(id_token) => query.append_pair("id_token_hint", id_token),
            None => query.append_pair("client_id", &rp.config.client.id),
        };
        query.append_pair("post_logout_redirect_uri", &return_to).append_pair("state", &state);
    }
    Ok(Some((url.into(), state)))
}

/// The person was told that sign-out is not complete; it is completed as soon as Redis is back.
fn delete_later(rp: &Rc<RelyingParty>, ticket: Ticket) {
    let job = rp.clone();
    rp.host.spawn(Box::pin(async move {
        for attempt in 0..RETRIES {
            job.host.sleep(Duration::from_millis(250).saturating_mul(1 << attempt.min(6))).await;
            let Ok(browser) = job.browser() else { return };
            if browser.sessions.delete(&ticket).await.is_ok() {
                return;
            }
        }
    }));
}
