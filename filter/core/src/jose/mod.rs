//! JSON Object Signing: untrusted → verified token, JWK set, algorithms.
//!
//! The way of a token: [`token::UntrustedToken::parse`] → [`token::UntrustedToken::verify`] with a
//! [`jwk_set::JwkSet`] and an allow-list → [`token::VerifiedToken`] of one [`kind`] → [`claims::Claims`]. The
//! arithmetic of signatures is the host's ([`signature::SignatureVerifier`]); everything around it is here.

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
