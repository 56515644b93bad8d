//! A signed token (JWS compact serialization, RFC 7515 7.1), from untrusted text to verified claims.

use std::fmt;
use std::marker::PhantomData;

use super::algorithm::Algorithm;
use super::claims::Claims;
use super::error::{MAX_TOKEN_LEN, TokenError};
use super::jwk::{Jwk, MAX_KEY_ID_LEN};
use super::jwk_set::JwkSet;
use super::kind::TokenKind;
use super::signature::{SignatureVerifier, for_host};
use crate::encoding::from_base64url;
use crate::host::SignatureCheck;
use crate::json::{self, ClaimProblem};

/// A well-formed token. Nothing else about it has been checked.
pub struct UntrustedToken<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    header_type: Option<String>,
    /// The first two segments as received: the signing input (RFC 7515 5.2 (8)).
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// A token of kind `K`, signed by one of the issuer's keys. Its audience and its times are not checked yet.
pub struct VerifiedToken<K> {
    claims: Claims,
    algorithm: Algorithm,
    kind: PhantomData<K>,
}

impl<'a> UntrustedToken<'a> {
    /// Parses the form of a token: three segments in base64url, the first of them a supported header. The header's
    /// `jwk`, `jku`, `x5u` and `x5c` are never used, because keys come only from the issuer's JWK set (RFC 8725 3.10).
    ///
    /// # Errors
    /// The [`TokenError`] variants up to [`TokenError::NoSignature`].
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        // Checked first, because everything else costs more.
        if text.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong(text.len()));
        }
        let [header, payload, signature] = segments(text)?;
        if payload.is_empty() {
            return Err(TokenError::EmptyPayload);
        }
        if signature.is_empty() {
            return Err(TokenError::EmptySignature);
        }
        let decode = |segment: &str| from_base64url(segment).map_err(|_| TokenError::NotBase64Url);
        let header = Header::parse(&decode(header)?)?;
        Ok(Self {
            algorithm: header.algorithm,
            key_id: header.key_id,
            header_type: header.media_type,
            // The dot before the signature is the last one.
            signed: text.rsplit_once('.').map_or(text, |(signed, _)| signed),
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// Checks the signature with the issuer's keys, then that the payload is a JSON object and the token is of kind
    /// `K`. Can be called again with newer keys.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`] if newer keys may help; [`TokenError::CryptoUnavailable`] if the host gave no
    /// verdict; otherwise the token is bad.
    pub fn verify<K: TokenKind>(
        &self,
        kind: &K,
        keys: &JwkSet,
        allowed: &[Algorithm],
        verifier: &(impl SignatureVerifier + ?Sized),
    ) -> Result<VerifiedToken<K>, TokenError> {
        let payload = self.verified_payload(keys, allowed, verifier)?;
        let members = json::parse_object(payload, MAX_TOKEN_LEN).map_err(TokenError::PayloadJson)?;
        if !kind.accepts(self.header_type.as_deref(), &members)? {
            return Err(TokenError::WrongKind);
        }
        Ok(VerifiedToken { claims: Claims::new(members), algorithm: self.algorithm, kind: PhantomData })
    }

    /// The payload, after a key of the set has verified the signature.
    pub(super) fn verified_payload(
        &self,
        keys: &JwkSet,
        allowed: &[Algorithm],
        verifier: &(impl SignatureVerifier + ?Sized),
    ) -> Result<&[u8], TokenError> {
        // RFC 8725 3.1: the configuration decides about the algorithm, not the token.
        if !allowed.contains(&self.algorithm) {
            return Err(TokenError::AlgorithmNotAllowed);
        }
        let mut refusal = TokenError::MalformedSignature;
        for key in keys.candidates(self.key_id.as_deref(), self.algorithm)? {
            match self.signed_by(key, verifier) {
                Ok(()) => return Ok(&self.payload),
                // Several keys share this `kid`. "No verdict" on one of them outweighs a bad verdict on another.
                Err(TokenError::CryptoUnavailable) => refusal = TokenError::CryptoUnavailable,
                Err(TokenError::BadSignature) if refusal == TokenError::MalformedSignature => {
                    refusal = TokenError::BadSignature;
                }
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    fn signed_by(&self, key: &Jwk, verifier: &(impl SignatureVerifier + ?Sized)) -> Result<(), TokenError> {
        let signature = for_host(key.key_type(), &self.signature).ok_or(TokenError::MalformedSignature)?;
        let check = SignatureCheck {
            algorithm: self.algorithm.host_signature(),
            spki_der: key.spki_der(),
            signed: self.signed.as_bytes(),
            signature: &signature,
        };
        match verifier.verify_signature(&check) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TokenError::BadSignature),
            Err(_) => Err(TokenError::CryptoUnavailable),
        }
    }
}

impl<K: TokenKind> VerifiedToken<K> {
    /// The token's claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The token's claims, by value.
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// The algorithm of the signature. `at_hash` depends on it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Debug for UntrustedToken<'_> {
    /// Prints nothing that could be replayed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntrustedToken").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for VerifiedToken<K> {
    /// Prints no personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The header parameters that we read (RFC 7515 4.1).
struct Header {
    algorithm: Algorithm,
    key_id: Option<String>,
    media_type: Option<String>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        let members = json::parse_object(bytes, MAX_TOKEN_LEN).map_err(TokenError::HeaderJson)?;
        // RFC 7515 4.1.11: a critical extension that is not understood must be refused. The gate implements no
        // extension, so it refuses every `crit`, whatever its value.
        if members.contains_key("crit") {
            return Err(TokenError::CriticalHeader);
        }
        // RFC 7797 3: `false` changes the signing input, and `true` must not be sent without `crit`.
        if members.contains_key("b64") {
            return Err(TokenError::UnencodedPayload);
        }
        let text = |name| json::string(&members, name).map_err(TokenError::HeaderParameter);
        let algorithm = text("alg")?.ok_or(TokenError::HeaderParameter(ClaimProblem::Missing.of("alg")))?;
        let algorithm = Algorithm::from_name(algorithm).ok_or_else(|| refused_algorithm(algorithm))?;
        let key_id = text("kid")?;
        if key_id.is_some_and(|key_id| key_id.len() > MAX_KEY_ID_LEN) {
            return Err(TokenError::HeaderParameter(ClaimProblem::TooLong.of("kid")));
        }
        Ok(Self { algorithm, key_id: key_id.map(str::to_owned), media_type: text("typ")?.map(str::to_owned) })
    }
}

/// RFC 7518 3.1, RFC 8725 3.2: `none` needs no key, and a key that can check an HMAC can also create it.
fn refused_algorithm(name: &str) -> TokenError {
    let is_symmetric = name.get(..2).is_some_and(|family| family.eq_ignore_ascii_case("HS"));
    if is_symmetric || name.eq_ignore_ascii_case("none") {
        TokenError::NoSignature
    } else {
        TokenError::UnsupportedAlgorithm
    }
}

fn segments(text: &str) -> Result<[&str; 3], TokenError> {
    // Only "three" and "five" (a JWE) matter, so a sixth part stands for "more than five".
    let parts: Vec<&str> = text.splitn(6, '.').collect();
    match parts.as_slice() {
        [header, payload, signature] => Ok([header, payload, signature]),
        [_, _, _, _, _] => Err(TokenError::Encrypted),
        _ => Err(TokenError::NotCompact),
    }
}

#[cfg(test)]
mod signature_tests;
#[cfg(test)]
mod tests;
