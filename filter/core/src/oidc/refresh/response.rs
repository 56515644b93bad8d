//! The token response of a refresh, and what it makes of a session's record.

use serde_json::Value;

use crate::error::{Dependency, LoginError, Rejection, Trouble};
use crate::jose::claims::Claims;
use crate::jose::error::TokenError;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::token_endpoint::Tokens;
use crate::oidc::{id_token, userinfo};
use crate::principal::Principal;
use crate::session::record::{Grant, Record};
use crate::time::Timestamp;

/// The session's next record, from the tokens of a refresh.
///
/// # Errors
/// The tokens do not belong to this login, or that cannot be decided now.
pub async fn validate(
    login: &BrowserLogin,
    record: &Record,
    tokens: &Tokens,
    asked: Timestamp,
) -> Result<Record, Rejection> {
    read(login, record, tokens, asked).await.map_err(|rejection| undecided(login, rejection, asked))
}

async fn read(
    login: &BrowserLogin,
    record: &Record,
    tokens: &Tokens,
    asked: Timestamp,
) -> Result<Record, Rejection> {
    let validated = match &tokens.id_token {
        Some(id_token) => Some(id_token::validate_refreshed(login, id_token, tokens, record).await?),
        None => None,
    };
    let issued = validated.as_ref().map(|validated| validated.issued);
    let expires = validated.as_ref().map(|validated| validated.expires);
    let asks_userinfo = login.settings.userinfo;
    let claims = match (validated, asks_userinfo) {
        (Some(validated), false) => Some(validated.claims),
        (Some(validated), true) => Some(userinfo::merge(&login.client, tokens, validated.claims).await?),
        (None, true) => Some(userinfo::merge(&login.client, tokens, known_claims(&record.principal)).await?),
        // The response has no claims: the groups stay as they are.
        (None, false) => None,
    };
    let mut principal = match claims {
        Some(claims) => Principal::from_id_token(&login.config, &claims).map_err(LoginError::IdToken)?,
        None => record.principal.clone(),
    };
    if principal.sid.is_none() {
        principal.sid.clone_from(&record.principal.sid);
    }
    let grant = Grant {
        id_token: tokens.id_token.as_ref().map_or_else(|| record.grant.id_token.clone(), Grant::hint),
        issued: issued.unwrap_or(record.grant.issued),
        // RF06: if there is no new refresh token, the old one stays valid. Otherwise the old one is never used again.
        refresh_token: tokens.refresh_token.clone().or_else(|| record.grant.refresh_token.clone()),
        refresh_until: match (&tokens.refresh_token, tokens.refresh_expires_in) {
            (None, None) => record.grant.refresh_until,
            (_, left) => left.map(|left| asked.saturating_add(left)),
        },
        access_until: tokens.access_until(expires, asked),
        obtained: asked,
        ..record.grant.clone()
    };
    Ok(Record { principal, grant, last_used: login.host.now(), ..record.clone() })
}

/// The old record with the new refresh token, marked stale so that the session is refreshed before its next use. Our
/// clock may be wrong, so no timestamp moves in a way that could shorten the session on another Envoy.
pub fn unchecked(record: &Record, tokens: Tokens, asked: Timestamp) -> Record {
    let refresh_until = tokens.refresh_expires_in.map(|left| asked.saturating_add(left));
    let obtained = asked.min(record.grant.obtained);
    let grant = Grant {
        refresh_until: record.grant.refresh_until.map(|known| refresh_until.unwrap_or(known).max(known)),
        refresh_token: tokens.refresh_token.or_else(|| record.grant.refresh_token.clone()),
        access_until: obtained,
        obtained,
        ..record.grant.clone()
    };
    Record { grant, ..record.clone() }
}

/// Turns errors that say nothing about the tokens into unavailability: an unknown key while our keys are older than the
/// response, a wrong clock, a failing UserInfo endpoint.
fn undecided(login: &BrowserLogin, rejection: Rejection, asked: Timestamp) -> Rejection {
    let keys_are_older = login.client.provider.now().is_none_or(|known| known.fetched <= asked);
    match rejection {
        Rejection::Login(LoginError::IdToken(TokenError::UnknownKey)) if keys_are_older => {
            login.client.provider.missing().into()
        }
        Rejection::Login(LoginError::IdToken(TokenError::ClocksDisagree)) => Dependency::Clock.into(),
        Rejection::Login(LoginError::UserInfo(what)) => Dependency::Provider(Trouble::lasting(what)).into(),
        other => other,
    }
}

/// The claims that are known without a new ID token. UserInfo adds the rest.
fn known_claims(principal: &Principal) -> Claims {
    let sid = principal.sid.iter().map(|sid| ("sid".to_owned(), Value::from(sid.as_str())));
    let subject = ("sub".to_owned(), Value::from(principal.subject.as_str()));
    Claims::new(sid.chain([subject]).collect())
}
