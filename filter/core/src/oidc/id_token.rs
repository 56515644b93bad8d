//! ID token validation (OIDC Core 3.1.3.7), in its order and with its numbers.

use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::error::{LoginError, Rejection};
use crate::jose::claims::{Claims, require};
use crate::jose::error::TokenError;
use crate::jose::hash::left_half_hash;
use crate::jose::kind::IdToken;
use crate::jose::validity::{Clock, Validity};
use crate::oidc::authorization::Flow;
use crate::oidc::relying_party::RelyingParty;
use crate::oidc::token_endpoint::Tokens;
use crate::oidc::verify::{VerifyError, verify};

/// Verifies the ID token of a code exchange and gives back its claims.
///
/// # Errors
/// [`LoginError::IdToken`] with the first rule that it breaks; [`Rejection::Unavailable`] when keys can't be had.
pub async fn validate(rp: &RelyingParty, tokens: &Tokens, flow: &Flow) -> Result<Claims, Rejection> {
    let browser = rp.browser()?;
    // (6) signature with the provider's keys; (7) algorithm as configured. Encryption (1) and HS keys (8) are not
    // for us.
    let token =
        verify::<IdToken>(&rp.provider, &*rp.host, &tokens.id_token, &browser.login.id_token_algorithms)
            .await
            .map_err(|error| match error {
                VerifyError::Token(error) => LoginError::IdToken(error).into(),
                VerifyError::Unavailable(rejection) => rejection,
            })?;
    let claims = token.claims();
    check(rp, claims, flow).map_err(LoginError::IdToken)?;
    // (3.1.3.8) at_hash, when present, belongs to the access token that came along.
    if let Some(at_hash) = claims.at_hash().map_err(|error| LoginError::IdToken(error.into()))? {
        let expected = left_half_hash(token.algorithm(), &tokens.access_token);
        if !bool::from(expected.as_bytes().ct_eq(at_hash.as_bytes())) {
            return Err(LoginError::IdToken(TokenError::WrongAccessTokenHash).into());
        }
    }
    Ok(token.into_claims())
}

fn check(rp: &RelyingParty, claims: &Claims, flow: &Flow) -> Result<(), TokenError> {
    let client_id = rp.config.client.id.as_str();
    // (2) iss exactly the issuer.
    claims.require_issuer(&rp.config.issuer.url)?;
    // (3) aud contains our client_id, and nobody whom we have no reason to trust: nobody else.
    claims.require_audience(&[client_id])?;
    if claims.aud()?.is_some_and(|audience| audience.iter().any(|entry| *entry != client_id)) {
        return Err(TokenError::ForeignAudience);
    }
    // (4), (5) azp, when present, is us.
    if claims.azp()?.is_some_and(|azp| azp != client_id) {
        return Err(TokenError::WrongAuthorizedParty);
    }
    claims.require_subject()?;
    // (9) exp; nbf and iat not in the future.
    let now = rp.host.now();
    let leeway = rp.config.clock_leeway;
    let validity = Validity::of(claims)?;
    validity.require_now(Clock { now, leeway })?;
    // (10) it was issued for this login, so not before it began.
    let issued = require("iat", validity.issued)?;
    // `iat` counts whole seconds.
    if issued.plus(leeway).plus(Duration::from_secs(1)) < flow.created {
        return Err(TokenError::IssuedBeforeLogin);
    }
    // (11) nonce: always sent, so always required.
    let nonce = claims.nonce()?.ok_or(TokenError::WrongNonce)?;
    if !bool::from(nonce.as_bytes().ct_eq(flow.nonce.as_bytes())) {
        return Err(TokenError::WrongNonce);
    }
    Ok(())
}
