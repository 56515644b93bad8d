//! Keycloak's administrative callbacks: what it announces in no other way. "Logout all" of a realm comes to
//! `<adminUrl>/k_logout`, "Push" of a not-before to `<adminUrl>/k_push_not_before`; with `adminUrl` set to
//! `<public_url>/oauth2`.
//!
//! The body is a bare signed JWT `{id, expiration, resource, action, notBefore}`, without `iss` and `aud`. It is
//! believed only when one of the realm's keys signed it, it names our client and the action of the path, it has not
//! expired, and was not seen before.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Malformed, Rejection};
use crate::host::Level;
use crate::http::body::Body;
use crate::http::reply::Reply;
use crate::jose::algorithm::Algorithm;
use crate::jose::claims::require;
use crate::jose::error::TokenError;
use crate::jose::kind::AdminAction;
use crate::json::{self, ClaimProblem};
use crate::metrics::{self, Logout};
use crate::oidc::backchannel::{self, failed};
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::logout_notification;
use crate::oidc::verify::verify;
use crate::principal::Sid;
use crate::revocation::memory::Revocation;
use crate::secret::SecretText;
use crate::session::replay::Message;
use crate::time::Timestamp;

/// Longest accepted lifetime. Keycloak's messages live for seconds.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Most sessions that one message may name.
const MAX_SESSIONS: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// The kind of message that a path accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackKind {
    /// [`Endpoint::AdminLogout`](crate::http::endpoint::Endpoint::AdminLogout)
    Logout,
    /// [`Endpoint::AdminNotBefore`](crate::http::endpoint::Endpoint::AdminNotBefore)
    PushNotBefore,
}

/// Processes the message.
///
/// # Errors
/// [`Rejection::InvalidLogoutToken`]: 400, and no session ends. [`Rejection::LogoutFailed`] if the revocation could not
/// be published to other Envoys. This Envoy applies it and keeps retrying.
pub async fn receive(login: &Rc<BrowserLogin>, action: CallbackKind, body: Body) -> Result<Reply, Rejection> {
    carry_out(login, action, body).await.map_err(failed)
}

async fn carry_out(login: &Rc<BrowserLogin>, action: CallbackKind, body: Body) -> Result<Reply, Rejection> {
    let body = body.read(&*login.host).await?;
    let token = std::str::from_utf8(&body).map_err(|_| Malformed::Body)?.trim_ascii();
    logout_notification::receive(login, SecretText::new(token), move |login, token| {
        Box::pin(async move { end(&login, action, token.expose()).await })
    })
    .await
}

async fn end(login: &BrowserLogin, action: CallbackKind, token: &str) -> Result<Reply, Rejection> {
    // Keycloak signs these messages with RS256, whatever algorithm the client's tokens use.
    let mut algorithms = login.settings.id_token_algorithms.clone();
    algorithms.push(Algorithm::Rs256);
    let verified = verify(&login.client, token, &AdminAction, &algorithms)
        .await
        .map_err(|error| error.into_rejection(Rejection::InvalidLogoutToken))?;
    let members = verified.claims().members();
    let scope = scope(login, action, members).map_err(Rejection::InvalidLogoutToken)?;
    let id = text(members, "id").and_then(non_empty).map_err(Rejection::InvalidLogoutToken)?;
    let message = Message::new(id, backchannel::MEMORY);
    let sessions = &login.sessions;
    if sessions.is_done(&message).await {
        login.host.log(Level::Info, "administrative message was already processed: no session ended");
        return Ok(Reply::done());
    }
    let issuer = login.config.issuer.url.as_str();
    let (revocations, by, what) = match scope {
        Scope::Sessions(sids) if sids.is_empty() => {
            login.host.log(Level::Info, "logout message names no session of this gate: no session ended");
            return Ok(Reply::done());
        }
        Scope::Sessions(sids) => {
            let revocations: Vec<_> =
                sids.iter().map(|sid| Revocation::provider_session(issuer, sid)).collect();
            let what = format!("logged out {} session(s)", revocations.len());
            (revocations, Logout::BackChannel, what)
        }
        Scope::Everyone { before } => {
            let (by, what) = match action {
                CallbackKind::Logout => {
                    (Logout::Everyone, "logged out all users: their earlier sessions and tokens end")
                }
                CallbackKind::PushNotBefore => {
                    (Logout::NotBefore, "set a not-before time: earlier sessions and tokens end")
                }
            };
            (vec![Revocation::everyone(issuer, before)], by, what.to_owned())
        }
    };
    let told = sessions.log.append(revocations).await;
    login.host.count(metrics::logout(by));
    login.host.log(Level::Warn, &format!("the provider {what}"));
    told?;
    sessions.done(&message).await;
    Ok(Reply::done())
}

/// What a message ends.
enum Scope {
    /// These sessions at the provider.
    Sessions(Vec<Sid>),
    /// Everything that was issued before this time.
    Everyone { before: Timestamp },
}

fn scope(
    login: &BrowserLogin,
    action: CallbackKind,
    members: &Map<String, Value>,
) -> Result<Scope, TokenError> {
    if text(members, "resource")? != login.config.client.id {
        return Err(TokenError::WrongAudience);
    }
    let expected = match action {
        CallbackKind::Logout => "LOGOUT",
        CallbackKind::PushNotBefore => "PUSH_NOT_BEFORE",
    };
    if text(members, "action")? != expected {
        return Err(TokenError::NoLogoutEvent);
    }
    let now = login.host.now();
    let leeway = login.config.clock_leeway;
    let expires = require("expiration", json::numeric_date(members, "expiration")?)?;
    if expires.saturating_add(leeway) <= now {
        return Err(TokenError::Expired);
    }
    if expires.duration_since(now) > MAX_LIFETIME.saturating_add(leeway) {
        return Err(TokenError::LivesTooLong);
    }
    let not_before =
        json::numeric_date(members, "notBefore")?.filter(|moment| *moment > Timestamp::default());
    match action {
        CallbackKind::PushNotBefore => {
            let moment = require("notBefore", not_before)?;
            if moment > now.saturating_add(leeway) {
                return Err(TokenError::IssuedInFuture);
            }
            Ok(Scope::Everyone { before: moment })
        }
        CallbackKind::Logout => Ok(match named_sessions(members)? {
            Some(sids) => Scope::Sessions(sids),
            // `notBefore` and `iat` count whole seconds, so the revocation includes the current second.
            None => {
                // The provider's clock counts, as for `iat`; ours may be behind.
                let moment = not_before.unwrap_or(now).min(now.saturating_add(leeway));
                Scope::Everyone { before: Timestamp::from_secs(moment.as_secs()).saturating_add(SECOND) }
            }
        }),
    }
}

/// The sessions that a "Logout" names. `None` if it names none and means all users. Keycloak omits both lists for
/// "Logout all" and otherwise sends both. A list that cannot be read must never mean all users.
fn named_sessions(members: &Map<String, Value>) -> Result<Option<Vec<Sid>>, TokenError> {
    let sids = list(members, "keycloakSessionIds")?;
    // Ids that one of Keycloak's own adapters assigned. This gate assigns none, so none of them is ours.
    let of_an_adapter = list(members, "adapterSessionIds")?;
    Ok(sids.or(of_an_adapter.map(|_| Vec::new())))
}

/// A list of session ids. Null is an error; it does not count as absent.
fn list(members: &Map<String, Value>, name: &'static str) -> Result<Option<Vec<Sid>>, TokenError> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let wrong_type = || TokenError::from(ClaimProblem::WrongType.of(name));
    let entries = value.as_array().ok_or_else(wrong_type)?;
    if entries.len() > MAX_SESSIONS {
        return Err(ClaimProblem::TooMany.of(name).into());
    }
    let texts = entries.iter().map(|entry| entry.as_str().map(Sid::from).ok_or_else(wrong_type));
    texts.collect::<Result<_, _>>().map(Some)
}

fn non_empty(id: &str) -> Result<&str, TokenError> {
    if id.is_empty() { Err(ClaimProblem::Malformed.of("id").into()) } else { Ok(id) }
}

fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, TokenError> {
    Ok(require(name, json::string(members, name)?)?)
}
