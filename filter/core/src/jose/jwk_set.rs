//! The keys of one issuer (RFC 7517 5). Unusable keys are skipped. The others are found by `kid` and algorithm.

use serde_json::Value;

use super::algorithm::Algorithm;
use super::error::TokenError;
use super::jwk::{Jwk, SkipReason};
use crate::json::{self, JsonError};
use crate::quote::quote;

/// Longest JWK set, in bytes.
pub const MAX_JWK_SET_LEN: usize = 512 * 1024;
/// How many keys of a set are read. The rest is ignored.
pub const MAX_KEYS: usize = 100;
/// How many skipped keys are reported if no key can be used.
const MAX_REASONS: usize = 10;
/// Longest `kid` in the log, in characters.
const MAX_LOGGED_KEY_ID: usize = 64;
/// How many keys are tried for one token.
pub const MAX_CANDIDATES: usize = 4;

/// The keys of one issuer that can check signatures. Each issuer has its own set, so a key never verifies another
/// issuer's token, even under the same `kid` (RFC 8725 3.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    skipped: Vec<SkippedKey>,
}

/// A key of the set that is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {index}{key_id}: {reason}")]
pub struct SkippedKey {
    /// Its index in `keys`, from 0.
    pub index: usize,
    /// Its `kid` for the log, as ` (kid "…")`. Empty if it has none.
    pub key_id: String,
    /// Why it is not used.
    pub reason: SkipReason,
}

/// Why the whole set is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkSetError {
    /// Not strict JSON, not an object, or longer than [`MAX_JWK_SET_LEN`]. One key with duplicate members or deep
    /// nesting is enough, because RFC 7517 4 leaves open how to read it.
    #[error("JWK set: {0}")]
    Json(JsonError),
    /// `keys` is absent or not an array.
    #[error("JWK set: `keys` is not an array")]
    NoKeys,
}

impl JwkSet {
    /// Parses a JWK set. The set may contain no usable key; then no token can be verified.
    ///
    /// # Errors
    /// [`JwkSetError`]. An unusable key is not an error; see [`JwkSet::skipped`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JwkSetError> {
        let members = json::parse_object(bytes, MAX_JWK_SET_LEN).map_err(JwkSetError::Json)?;
        let entries = members.get("keys").and_then(Value::as_array).ok_or(JwkSetError::NoKeys)?;
        let mut set = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            if index >= MAX_KEYS {
                set.skip(index, entry, SkipReason::TooMany);
                break;
            }
            match Jwk::parse(entry) {
                Ok(key) if set.keys.contains(&key) => set.skip(index, entry, SkipReason::Duplicate),
                Ok(key) => set.keys.push(key),
                Err(reason) => set.skip(index, entry, reason),
            }
        }
        Ok(set)
    }

    fn skip(&mut self, index: usize, entry: &Value, reason: SkipReason) {
        let key_id = entry.get("kid").and_then(Value::as_str);
        let key_id = key_id.map(|key_id| format!(" (kid {})", quote(key_id, MAX_LOGGED_KEY_ID)));
        self.skipped.push(SkippedKey { index, key_id: key_id.unwrap_or_default(), reason });
    }

    /// Whether any key can check one of these algorithms.
    pub fn serves_any(&self, algorithms: &[Algorithm]) -> bool {
        self.keys.iter().any(|key| algorithms.iter().any(|algorithm| key.serves(*algorithm)))
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that are not used, with their reasons, for the log.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// The reasons of the first ten skipped keys, for the error about a set without a usable key.
    pub fn reasons(&self) -> String {
        if self.skipped.is_empty() {
            return "the key set is empty".to_owned();
        }
        let shown: Vec<String> = self.skipped.iter().take(MAX_REASONS).map(ToString::to_string).collect();
        let more = self.skipped.len().saturating_sub(MAX_REASONS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{more}", shown.join("; "))
    }

    /// The keys that may have signed a token with this header: at least one, and at most [`MAX_CANDIDATES`].
    ///
    /// If the token has a `kid`, these are the keys with exactly this `kid`. If it has none, it is the only key of the
    /// set that can check the algorithm. A key without `kid` is found only in the second way.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`], [`TokenError::AmbiguousKey`], [`TokenError::KeyNotForAlgorithm`].
    pub(super) fn candidates(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<&Jwk>, TokenError> {
        let Some(key_id) = key_id else {
            let mut fit = self.keys.iter().filter(|key| key.serves(algorithm));
            return match (fit.next(), fit.next()) {
                (None, _) => Err(TokenError::UnknownKey),
                (Some(only), None) => Ok(vec![only]),
                (Some(_), Some(_)) => Err(TokenError::AmbiguousKey),
            };
        };
        let mut named = self.keys.iter().filter(|key| key.key_id() == Some(key_id)).peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let fit: Vec<&Jwk> = named.filter(|key| key.serves(algorithm)).take(MAX_CANDIDATES).collect();
        if fit.is_empty() { Err(TokenError::KeyNotForAlgorithm) } else { Ok(fit) }
    }
}

#[cfg(test)]
mod tests;
