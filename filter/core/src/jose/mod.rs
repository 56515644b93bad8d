//! JSON Object Signing: untrusted → verified token, JWK set, algorithms.
//!
//! A token passes through these steps: [`token::UntrustedToken::parse`] → [`token::UntrustedToken::verify`] with a
//! [`jwk_set::JwkSet`] and an allow-list → [`token::VerifiedToken`] of one [`kind`] → [`claims::Claims`]. The host does
//! the arithmetic of signatures ([`signature::SignatureVerifier`]). All other checks are done here.
//!
//! Cheap checks come first: length (96 KiB), segments, base64url, header, allowed algorithm, key, signature, JSON,
//! kind, claims. Libraries differ in duplicate members, `crit`, `b64`, base64url padding and the order of checks. Each
//! of these differences has been a vulnerability somewhere, so the parser is the gate's own, small and strict.

pub(crate) mod algorithm;
pub(crate) mod claims;
mod der;
pub(crate) mod error;
pub(crate) mod hash;
pub(crate) mod jwk;
pub mod jwk_set;
pub(crate) mod kind;
pub(crate) mod mark;
pub mod probe;
pub(crate) mod signature;
#[cfg(test)]
pub mod testing;
pub(crate) mod token;
pub(crate) mod validity;
