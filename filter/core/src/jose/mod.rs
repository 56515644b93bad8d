//! JSON Object Signing: untrusted → verified token, JWK set, algorithms.
//!
//! The way of a token: [`token::UntrustedToken::parse`] → [`token::UntrustedToken::verify`] with a
//! [`jwk_set::JwkSet`] and an allow-list → [`token::VerifiedToken`] of one [`kind`] → [`claims::Claims`]. The
//! arithmetic of signatures is the host's ([`signature::SignatureVerifier`]); everything around it is here.

pub mod algorithm;
pub mod claims;
mod der;
pub mod error;
pub mod hash;
pub mod jwk;
pub mod jwk_set;
pub mod kind;
pub mod probe;
pub mod signature;
#[cfg(test)]
pub mod testing;
pub mod token;
pub mod validity;
