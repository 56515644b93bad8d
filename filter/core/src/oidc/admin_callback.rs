//! Keycloak's administrative callbacks: what it announces in no other way. "Logout all" of a realm comes to
//! `<adminUrl>/k_logout`, "Push" of a not-before to `<adminUrl>/k_push_not_before`; with `adminUrl` set to
//! `<public_url>/oauth2`.
//!
//! The body is a bare signed JWT `{id, expiration, resource, action, notBefore}`, without `iss` and `aud`. It is believed
//! only when one of the realm's keys signed it, it names our client and the action of the path, it has not expired, and
//! was not seen before.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Dependency, Malformed, Rejection};
use crate::host::Level;
use crate::http::body::Body;
use crate::http::reply::Reply;
use crate::jose::algorithm::Algorithm;
use crate::jose::claims::require;
use crate::jose::error::TokenError;
use crate::jose::kind::AdminAction;
use crate::json::{self, ClaimProblem};
use crate::metrics::{self, Logout};
use crate::oidc::announcement;
use crate::oidc::backchannel::{failed, is_replay};
use crate::oidc::relying_party::RelyingParty;
use crate::oidc::verify::{VerifyError, verify};
use crate::session::endings::Ending;
use crate::time::Timestamp;

/// Everybody, or some sessions, were logged out.
pub const LOGOUT_PATH: &str = "/oauth2/k_logout";
/// What was issued before a moment is void.
pub const NOT_BEFORE_PATH: &str = "/oauth2/k_push_not_before";
/// Such a message lives for seconds.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Sessions that one message may name.
const MAX_SESSIONS: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// Which message a path expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// [`LOGOUT_PATH`]
    Logout,
    /// [`NOT_BEFORE_PATH`]
    PushNotBefore,
}

/// Does what the message says.
///
/// # Errors
/// [`Rejection::InvalidLogoutToken`]: 400, and nothing ends. [`Rejection::LogoutFailed`] when other Envoys could not be
/// told: this one knows, and goes on trying.
pub async fn receive(rp: &Rc<RelyingParty>, action: Action, body: Body) -> Result<Reply, Rejection> {
    carry_out(rp, action, body).await.map_err(failed)
}

async fn carry_out(rp: &Rc<RelyingParty>, action: Action, body: Body) -> Result<Reply, Rejection> {
    let body = body.read(&*rp.host).await?;
    let token = std::str::from_utf8(&body).map_err(|_| Malformed::Body)?.trim_ascii().to_owned();
    announcement::receive(rp, token, move |rp, token| Box::pin(async move { end(&rp, action, &token).await }))
        .await
}

async fn end(rp: &RelyingParty, action: Action, token: &str) -> Result<Reply, Rejection> {
    let browser = rp.browser()?;
    // Keycloak signs them with RS256, whatever the client's tokens are signed with.
    let mut algorithms = browser.login.id_token_algorithms.clone();
    algorithms.push(Algorithm::Rs256);
    let verified = verify(&rp.provider, &*rp.host, token, &AdminAction, &algorithms).await.map_err(
        |error| match error {
            VerifyError::Token(error) => Rejection::InvalidLogoutToken(error),
            VerifyError::Unavailable(rejection) => rejection,
        },
    )?;
    let members = verified.claims().members();
    let endings = endings(rp, action, members).map_err(Rejection::InvalidLogoutToken)?;
    let id = text(members, "id").and_then(non_empty).map_err(Rejection::InvalidLogoutToken)?;
    if is_replay(&browser.sessions, "jti", id).await? {
        return Ok(Reply::done());
    }
    let (by, what) = match action {
        Action::Logout => (Logout::Everyone, "logged everybody out"),
        Action::PushNotBefore => (Logout::NotBefore, "declared void what it issued before a moment"),
    };
    let told = browser.sessions.log.append(endings).await;
    rp.host.count(metrics::logout(by));
    rp.host.log(Level::Warn, &format!("the provider {what}"));
    told.map_err(|error| Dependency::Redis(error.text()))?;
    Ok(Reply::done())
}

fn endings(
    rp: &RelyingParty,
    action: Action,
    members: &Map<String, Value>,
) -> Result<Vec<Ending>, TokenError> {
    // Tokens of other kinds have these; this has not (RFC 8725 3.12).
    if ["iss", "sub", "aud", "events"].iter().any(|name| members.contains_key(*name)) {
        return Err(TokenError::WrongKind);
    }
    if text(members, "resource")? != rp.config.client.id {
        return Err(TokenError::WrongAudience);
    }
    let expected = match action {
        Action::Logout => "LOGOUT",
        Action::PushNotBefore => "PUSH_NOT_BEFORE",
    };
    if text(members, "action")? != expected {
        return Err(TokenError::NoLogoutEvent);
    }
    let now = rp.host.now();
    let leeway = rp.config.clock_leeway;
    let expires = require("expiration", json::numeric_date(members, "expiration")?)?;
    if expires.plus(leeway) <= now {
        return Err(TokenError::Expired);
    }
    if expires.since(now) > MAX_LIFETIME.saturating_add(leeway) {
        return Err(TokenError::LivesTooLong);
    }
    let issuer = rp.config.issuer.url.as_str();
    let not_before =
        json::numeric_date(members, "notBefore")?.filter(|moment| *moment > Timestamp::default());
    match action {
        Action::PushNotBefore => {
            let moment = require("notBefore", not_before)?;
            if moment > now.plus(leeway) {
                return Err(TokenError::IssuedInFuture);
            }
            Ok(vec![Ending::everyone(issuer, moment)])
        }
        Action::Logout => match members.get("keycloakSessionIds").and_then(Value::as_array) {
            Some(ids) if !ids.is_empty() => {
                if ids.len() > MAX_SESSIONS {
                    return Err(ClaimProblem::TooLong.of("keycloakSessionIds").into());
                }
                let wrong = TokenError::from(ClaimProblem::WrongType.of("keycloakSessionIds"));
                ids.iter()
                    .map(|id| {
                        id.as_str()
                            .map(|sid| Ending::provider_session(issuer, sid))
                            .ok_or_else(|| wrong.clone())
                    })
                    .collect()
            }
            // Whole seconds: what was issued in this very one is not meant to live either.
            _ => {
                // It is the provider's clock that counts, like in `iat`; ours may be behind.
                let moment = not_before.unwrap_or(now).min(now.plus(leeway));
                let before = Timestamp::from_secs(moment.as_secs()).plus(SECOND);
                Ok(vec![Ending::everyone(issuer, before)])
            }
        },
    }
}

fn non_empty(id: &str) -> Result<&str, TokenError> {
    if id.is_empty() { Err(ClaimProblem::Malformed.of("id").into()) } else { Ok(id) }
}

fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, TokenError> {
    Ok(require(name, json::string(members, name)?)?)
}
