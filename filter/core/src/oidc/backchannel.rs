//! Back-channel logout: the provider sends a logout token when sessions have ended (OpenID Connect Back-Channel Logout
//! 1.0).
//!
//! The revocations are written first, and the `jti` is stored after that. So a second delivery repeats the work of a
//! first one that failed, and revokes nothing after a first one that succeeded.
//!
//! Keycloak waits for the answer for five seconds, while a person signs out. So the answer depends on no call to the
//! provider, except a fetch of its keys if they are not known.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Malformed, Rejection};
use crate::host::Level;
use crate::http::body::Body;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::jose::claims::{Claims, MAX_IDENTIFIER_CHARS, require};
use crate::jose::error::TokenError;
use crate::jose::kind::{LOGOUT_EVENT, LogoutToken};
use crate::jose::validity::{Clock, Validity};
use crate::json::ClaimProblem;
use crate::metrics::{self, Logout};
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::logout_notification;
use crate::oidc::verify::verify;
use crate::principal::{Sid, Subject};
use crate::quote::quote;
use crate::record_name::RecordName;
use crate::revocation::memory::Revocation;
use crate::secret::SecretText;
use crate::session::index::SessionOwner;
use crate::session::replay::Message;
use crate::session::store::Store;
use crate::time::Timestamp;

/// Providers send a logout token right after they issue it. An older one is refused (2.6: `iat`).
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// How long a processed logout token is remembered.
pub const MEMORY: Duration = MAX_AGE.saturating_mul(2);
/// Allowance for the provider's clock, which counts whole seconds.
const SAME_MOMENT: Duration = Duration::from_secs(2);

/// The content of a validated logout token.
struct Announced {
    subject: Option<Subject>,
    sid: Option<Sid>,
    jti: String,
    issued: Timestamp,
}

/// Ends the sessions that a logout token names.
///
/// # Errors
/// [`Rejection::InvalidLogoutToken`], or the body is not a valid form: 400, and no session ends.
/// [`Rejection::LogoutFailed`] if the logout could not be published to other Envoys. This Envoy applies it and keeps
/// retrying.
pub async fn logout(login: &Rc<BrowserLogin>, request: &Request, body: Body) -> Result<Reply, Rejection> {
    end_announced(login, request, body).await.map_err(failed)
}

/// 2.8: a failed logout is answered with 400, like an invalid token.
pub fn failed(rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::Unavailable(dependency) => Rejection::LogoutFailed(dependency),
        other => other,
    }
}

async fn end_announced(login: &Rc<BrowserLogin>, request: &Request, body: Body) -> Result<Reply, Rejection> {
    let body = body.read(&*login.host).await?;
    let token = logout_token(request, &body)?;
    logout_notification::receive(login, token, |login, token| {
        Box::pin(async move { end(&login, token.expose()).await })
    })
    .await
}

async fn end(login: &BrowserLogin, token: &str) -> Result<Reply, Rejection> {
    let logout = validate(login, token).await?;
    let sessions = &login.sessions;
    let message = Message::new(&logout.jti, MEMORY);
    // 2.6: a replayed token ends nothing, because a session that began since then is not meant.
    if sessions.is_done(&message).await {
        login.host.log(Level::Info, "logout token was already processed: no session ended");
        return Ok(Reply::done());
    }
    let issuer = login.config.issuer.url.as_str();
    let (owner, revocation) = match (&logout.sid, &logout.subject) {
        (Some(sid), _) => {
            (SessionOwner::ProviderSession(issuer, sid), Revocation::provider_session(issuer, sid))
        }
        (None, Some(subject)) => {
            (SessionOwner::User(issuer, subject), Revocation::user(issuer, subject, logout.issued))
        }
        (None, None) => return Err(Rejection::InvalidLogoutToken(TokenError::NobodyNamed)),
    };
    // Publish the revocations first; the records are deleted afterwards.
    let mut revocations = vec![revocation];
    let mut names = Vec::new();
    let mut listed_all = Ok(());
    if logout.sid.is_none() {
        // `iat` counts whole seconds, so sessions of the same second are ended by name. Later sessions are not meant.
        let until = logout.issued.saturating_add(SAME_MOMENT);
        match sessions.index.list(owner).await {
            Ok(listed) => {
                names = listed.into_iter().filter(|one| one.created <= until).map(|one| one.name).collect();
            }
            Err(error) => listed_all = Err(error),
        }
        revocations.extend(names.iter().map(Revocation::session));
    }
    let told = sessions.log.append(revocations).await;
    login.host.count(metrics::logout(Logout::BackChannel));
    login.host.log(
        Level::Info,
        &format!(
            "signed out by the provider: sub={}",
            quote(logout.subject.as_ref().map_or("-", Subject::as_str), MAX_IDENTIFIER_CHARS)
        ),
    );
    let (store, sid) = (sessions.clone(), logout.sid);
    let issuer = issuer.to_owned();
    login.host.spawn(Box::pin(async move {
        if let Some(sid) = sid {
            names = listed(&store, SessionOwner::ProviderSession(&issuer, &sid)).await;
        }
        // Only tidies up: the sessions are revoked already.
        let _ = store.remove(&names).await;
    }));
    told.and(listed_all)?;
    sessions.done(&message).await;
    Ok(Reply::done())
}

async fn listed(sessions: &Store, owner: SessionOwner<'_>) -> Vec<RecordName> {
    let listed = sessions.index.list(owner).await.unwrap_or_default();
    listed.into_iter().map(|listed| listed.name).collect()
}

/// 2.5: a form with one `logout_token`; other parameters are ignored.
fn logout_token(request: &Request, body: &[u8]) -> Result<SecretText, Malformed> {
    let content_type = request.header("content-type").and_then(|value| value.split(';').next());
    if !content_type
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    {
        return Err(Malformed::Body);
    }
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(SecretText::new(token)),
        _ => Err(Malformed::Parameters),
    }
}

/// The validation steps of 2.6, with their numbers.
async fn validate(login: &BrowserLogin, token: &str) -> Result<Announced, Rejection> {
    let algorithms = &login.settings.id_token_algorithms;
    // (1)-(3) not encrypted; signed like an ID token, never with `none`; (typ) a logout token by its header or its
    // event.
    let verified = verify(&login.client, token, &LogoutToken, algorithms)
        .await
        .map_err(|error| error.into_rejection(Rejection::InvalidLogoutToken))?;
    check(login, verified.claims(), &login.settings.trusted_audiences).map_err(Rejection::InvalidLogoutToken)
}

fn check(login: &BrowserLogin, claims: &Claims, trusted: &[String]) -> Result<Announced, TokenError> {
    let client_id = login.config.client.id.as_str();
    let now = login.host.now();
    let leeway = login.config.clock_leeway;
    // (4) iss, aud, iat, exp as for ID tokens: for us, and for no audience that the operator does not trust.
    claims.require_issuer(&login.config.issuer.url)?;
    claims.require_audience_of(client_id, trusted)?;
    let validity = Validity::of(claims)?;
    validity.require_now(Clock { now, leeway })?;
    let issued = require("iat", validity.issued)?;
    if issued.saturating_add(MAX_AGE).saturating_add(leeway) < now {
        return Err(TokenError::TooOld);
    }
    // (5) sub, sid, or both. Null is an error: it must not widen a logout from one session to all sessions of a user.
    if let Some(null) =
        ["sub", "sid"].into_iter().find(|name| claims.members().get(*name).is_some_and(Value::is_null))
    {
        return Err(ClaimProblem::WrongType.of(null).into());
    }
    let (subject, sid) = (claims.sub()?.map(Subject::from), claims.sid()?.map(Sid::from));
    if subject.is_none() && sid.is_none() {
        return Err(TokenError::NobodyNamed);
    }
    // (6) events has the member, and its value is an object. Other members may be present, as in Keycloak's tokens.
    let events = require("events", claims.events()?)?;
    if !events.get(LOGOUT_EVENT).is_some_and(Value::is_object) {
        return Err(TokenError::NoLogoutEvent);
    }
    // (7) no nonce of any type: it would be an ID token.
    if claims.members().contains_key("nonce") {
        return Err(TokenError::UnexpectedNonce);
    }
    // (8) jti: the caller checks for a replay.
    let jti = require("jti", claims.jti()?)?.to_owned();
    if jti.is_empty() {
        return Err(ClaimProblem::Malformed.of("jti").into());
    }
    Ok(Announced { subject, sid, jti, issued })
}
