//! ID token validation (OIDC Core 3.1.3.7 at login, 12.2 at refresh), in its order and with its numbers.

use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::error::{LoginError, Rejection};
use crate::jose::claims::{Audiences, Claims, require};
use crate::jose::error::TokenError;
use crate::jose::hash::left_half_hash;
use crate::jose::kind::IdToken;
use crate::jose::validity::{Clock, Validity};
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::flow::Flow;
use crate::oidc::token_endpoint::Tokens;
use crate::oidc::verify::verify;
use crate::secret::SecretText;
use crate::session::record::Record;
use crate::time::Timestamp;

/// How long before the login an ID token may have been issued. Providers back-date `iat` and `nbf` by minutes for
/// clients whose clocks are slow.
const MAX_BACKDATING: Duration = Duration::from_secs(3600);

/// A validated ID token.
pub struct Validated {
    /// Its claims.
    pub claims: Claims,
    /// `iat`.
    pub issued: Timestamp,
    /// `exp`.
    pub expires: Timestamp,
}

/// Validates the ID token of a code exchange. `asked` is when the exchange began.
///
/// # Errors
/// [`LoginError::IdToken`] with the first rule that it breaks; [`Rejection::Unavailable`] if the keys are unavailable.
pub async fn validate(
    login: &BrowserLogin,
    id_token: &SecretText,
    tokens: &Tokens,
    flow: &Flow,
    asked: Timestamp,
) -> Result<Validated, Rejection> {
    match validate_now(login, id_token, tokens, flow).await {
        // The provider may have rotated its keys a moment ago. Only keys fetched after the exchange began can tell
        // whether the token is forged, and such a fetch is allowed again within seconds.
        Err(Rejection::Login(LoginError::IdToken(TokenError::UnknownKey)))
            if !has_newer_keys(login, asked) =>
        {
            if let Some(known) = login.client.provider.now() {
                login.client.provider.newer_in_time(&known).await;
            }
            if !has_newer_keys(login, asked) {
                return Err(login.client.provider.missing().into());
            }
            validate_now(login, id_token, tokens, flow).await
        }
        outcome => outcome,
    }
}

fn has_newer_keys(login: &BrowserLogin, asked: Timestamp) -> bool {
    login.client.provider.now().is_some_and(|known| known.fetched > asked)
}

async fn validate_now(
    login: &BrowserLogin,
    id_token: &SecretText,
    tokens: &Tokens,
    flow: &Flow,
) -> Result<Validated, Rejection> {
    verified(login, id_token, tokens, |claims, validity| {
        // (9) exp; nbf and iat not in the future.
        validity.require_now(clock(login, tokens))?;
        let issued = require("iat", validity.issued)?;
        // (10) iat is not too far in the past. The nonce is what binds the token to this login.
        if issued.saturating_add(MAX_BACKDATING).saturating_add(login.config.clock_leeway) < flow.created {
            return Err(TokenError::IssuedBeforeLogin);
        }
        // (11) nonce: we always send one, so it is required.
        let nonce = claims.nonce()?.ok_or(TokenError::WrongNonce)?;
        require_nonce(nonce, &flow.nonce)?;
        Ok(issued)
    })
    .await
}

/// Validates the ID token of a refresh: it must belong to the same login as the previous one (OIDC Core 12.2).
///
/// # Errors
/// As [`validate`].
pub async fn validate_refreshed(
    login: &BrowserLogin,
    id_token: &SecretText,
    tokens: &Tokens,
    record: &Record,
) -> Result<Validated, Rejection> {
    verified(login, id_token, tokens, |claims, validity| {
        let issued = require("iat", validity.issued)?;
        // iss must be the configured issuer, as always. sub must be the same:
        if claims.require_subject()? != record.principal.subject.as_str() {
            return Err(TokenError::OtherLogin);
        }
        // iat must not be before that of the previous ID token.
        if issued.saturating_add(login.config.clock_leeway) < record.grant.issued {
            return Err(TokenError::OtherLogin);
        }
        // auth_time, if present, must be that of the login. azp must be the same, or absent as before.
        let auth_time = claims.auth_time();
        let same_login =
            auth_time.is_none() || record.grant.auth_time.is_none() || auth_time == record.grant.auth_time;
        if !same_login || authorized_party(claims) != record.grant.azp.as_deref() {
            return Err(TokenError::OtherLogin);
        }
        // nonce should be absent. If present, it must be that of the login.
        claims.nonce()?.map_or(Ok(()), |nonce| require_nonce(nonce, &record.grant.nonce))?;
        // The token is newer than the previous one and its lifetime is consistent. If it is not valid now, a clock is
        // wrong.
        let lives = issued < validity.expires && validity.not_before.is_none_or(|moment| moment <= issued);
        let is_newer = issued > record.grant.issued;
        let wrong_clock = |error| if lives && is_newer { TokenError::ClocksDisagree } else { error };
        validity.require_now(clock(login, tokens)).map_err(wrong_clock)?;
        Ok(issued)
    })
    .await
}

async fn verified(
    login: &BrowserLogin,
    id_token: &SecretText,
    tokens: &Tokens,
    // Returns `iat`.
    check_login: impl FnOnce(&Claims, &Validity) -> Result<Timestamp, TokenError>,
) -> Result<Validated, Rejection> {
    // (6) signature with the provider's keys; (7) algorithm as configured. We do not support encryption (1) and MAC
    // algorithms (8).
    let algorithms = &login.settings.id_token_algorithms;
    let kind = IdToken(&login.config.issuer.access_token_marks);
    let verdict = verify(&login.client, id_token.expose(), &kind, algorithms).await;
    let token = verdict.map_err(|error| error.into_rejection(|error| LoginError::IdToken(error).into()))?;
    let claims = token.claims();
    let validity = check(login, claims, &login.settings.trusted_audiences).map_err(LoginError::IdToken)?;
    let issued = check_login(claims, &validity).map_err(LoginError::IdToken)?;
    // (3.1.3.8) at_hash, if present, must match the access token of the same response.
    if let Some(at_hash) = claims.at_hash().map_err(|error| LoginError::IdToken(error.into()))? {
        let expected = left_half_hash(token.algorithm(), tokens.access_token.expose());
        if !bool::from(expected.as_bytes().ct_eq(at_hash.as_bytes())) {
            return Err(LoginError::IdToken(TokenError::WrongAccessTokenHash).into());
        }
    }
    Ok(Validated { issued, expires: validity.expires, claims: token.into_claims() })
}

/// The checks at login and at refresh that do not depend on the time.
fn check(login: &BrowserLogin, claims: &Claims, trusted: &[String]) -> Result<Validity, TokenError> {
    let client_id = login.config.client.id.as_str();
    // (2) iss must be exactly the issuer.
    claims.require_issuer(&login.config.issuer.url)?;
    // (3) aud must contain our client_id. Other audiences must be trusted by the operator.
    let audiences = claims.require_audience_of(client_id, trusted)?;
    // (4) azp must be present if there are several audiences; (5) if present, it must be our client_id.
    let azp = match audiences {
        Audiences::Us => authorized_party(claims),
        Audiences::UsAndTrusted => Some(require("azp", claims.azp()?)?),
    };
    if azp.is_some_and(|azp| azp != client_id) {
        return Err(TokenError::WrongAuthorizedParty);
    }
    claims.require_subject()?;
    Validity::of(claims)
}

/// `azp`. If we are the only audience, it adds nothing, so a value that is empty or not a string counts as absent.
pub fn authorized_party(claims: &Claims) -> Option<&str> {
    claims.azp().unwrap_or_default().filter(|azp| !azp.is_empty())
}

fn clock(login: &BrowserLogin, tokens: &Tokens) -> Clock {
    Clock { now: tokens.received, leeway: login.config.clock_leeway }
}

fn require_nonce(sent: &str, expected: &SecretText) -> Result<(), TokenError> {
    if *expected == *sent { Ok(()) } else { Err(TokenError::WrongNonce) }
}
