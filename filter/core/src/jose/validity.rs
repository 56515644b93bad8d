//! Whether a token is valid now: `exp`, `nbf`, `iat` (RFC 7519 4.1), with leeway for clocks that differ.

use std::time::Duration;

use super::claims::{Claims, require};
use super::error::TokenError;
use crate::time::Timestamp;

/// The current time and the leeway for checks of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The time of the gate's wall clock.
    pub now: Timestamp,
    /// How much the issuer's clock may differ from the gate's.
    pub leeway: Duration,
}

/// The times between which a token is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `exp`, without leeway.
    pub expires: Timestamp,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// `iat`.
    pub issued: Option<Timestamp>,
}

impl Validity {
    /// Reads the claims. `exp` is required, because a token without an end is not accepted.
    ///
    /// # Errors
    /// [`TokenError::Claim`] if `exp` is missing, or one of them has the wrong type or is out of range.
    pub fn of(claims: &Claims) -> Result<Self, TokenError> {
        Ok(Self { expires: require("exp", claims.exp()?)?, not_before: claims.nbf()?, issued: claims.iat()? })
    }

    /// Whether the token is valid now.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::NotYetValid`], [`TokenError::IssuedInFuture`].
    pub fn require_now(&self, clock: Clock) -> Result<(), TokenError> {
        // RFC 7519 4.1.4: on or after `exp` it must not be accepted.
        if self.expires.saturating_add(clock.leeway) <= clock.now {
            return Err(TokenError::Expired);
        }
        let soon = clock.now.saturating_add(clock.leeway);
        // RFC 7519 4.1.5: before `nbf` it must not be accepted.
        if self.not_before.is_some_and(|not_before| not_before > soon) {
            return Err(TokenError::NotYetValid);
        }
        if self.issued.is_some_and(|issued| issued > soon) {
            return Err(TokenError::IssuedInFuture);
        }
        Ok(())
    }

    /// Whether the token lives no longer than `max`, from `iat` to `exp`. With a limit, `iat` is required.
    ///
    /// # Errors
    /// [`TokenError::LivesTooLong`]; [`TokenError::Claim`] when `iat` is missing.
    pub fn require_lifetime(&self, max: Duration) -> Result<(), TokenError> {
        let issued = require("iat", self.issued)?;
        if self.expires.duration_since(issued) > max { Err(TokenError::LivesTooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::test;
    use serde_json::{Value, json};

    use super::*;
    use crate::jose::testing::claims;
    use crate::json::ClaimProblem;

    const NOW: u64 = 1_767_225_600;
    const LEEWAY: u64 = 30;

    fn check(members: Value) -> Result<(), TokenError> {
        let clock = Clock { now: Timestamp::from_secs(NOW), leeway: Duration::from_secs(LEEWAY) };
        Validity::of(&claims(members))?.require_now(clock)
    }

    /// IT28: inside the leeway accepted, one second beyond refused.
    #[test]
    fn a_token_is_good_within_its_times_and_the_leeway() {
        let exp = NOW + 300;
        for (members, expected) in [
            (json!({"exp": NOW + 1}), Ok(())),
            (json!({"exp": NOW}), Ok(())),
            (json!({"exp": NOW - LEEWAY + 1}), Ok(())),
            (json!({"exp": NOW - LEEWAY}), Err(TokenError::Expired)),
            (json!({"exp": NOW - LEEWAY - 1}), Err(TokenError::Expired)),
            (json!({"exp": 0}), Err(TokenError::Expired)),
            (json!({"exp": 1.5}), Err(TokenError::Expired)),
            (json!({"exp": 253_402_300_799_u64}), Ok(())),
            (json!({"exp": exp, "nbf": NOW}), Ok(())),
            (json!({"exp": exp, "nbf": NOW + LEEWAY}), Ok(())),
            (json!({"exp": exp, "nbf": NOW + LEEWAY + 1}), Err(TokenError::NotYetValid)),
            (json!({"exp": exp, "iat": NOW - 604_800}), Ok(())),
            (json!({"exp": exp, "iat": NOW + LEEWAY}), Ok(())),
            (json!({"exp": exp, "iat": NOW + LEEWAY + 1}), Err(TokenError::IssuedInFuture)),
            (json!({"exp": exp, "iat": NOW + 3600}), Err(TokenError::IssuedInFuture)),
            (json!({}), Err(ClaimProblem::Missing.of("exp").into())),
            (json!({"exp": "9999999999"}), Err(ClaimProblem::WrongType.of("exp").into())),
            (json!({"exp": -1}), Err(ClaimProblem::OutOfRange.of("exp").into())),
            (json!({"exp": exp, "nbf": "x"}), Err(ClaimProblem::WrongType.of("nbf").into())),
            (json!({"exp": exp, "iat": {}}), Err(ClaimProblem::WrongType.of("iat").into())),
        ] {
            assert_eq!(check(members.clone()), expected, "{members}");
        }
    }

    #[test]
    fn a_clock_at_its_ends_does_not_wrap() {
        let validity = Validity::of(&claims(json!({"exp": NOW}))).unwrap();
        let at = |now| validity.require_now(Clock { now, leeway: Duration::MAX });
        assert_eq!(at(Timestamp::from_millis(0)), Ok(()));
        assert_eq!(at(Timestamp::from_millis(u64::MAX)), Err(TokenError::Expired));
    }

    #[test]
    fn a_lifetime_is_counted_from_issue_to_expiry() {
        let hour = Duration::from_secs(3600);
        for (members, expected) in [
            (json!({"iat": NOW, "exp": NOW + 3600}), Ok(())),
            (json!({"iat": NOW, "exp": NOW + 3601}), Err(TokenError::LivesTooLong)),
            (json!({"iat": NOW, "exp": NOW - 1}), Ok(())),
            (json!({"exp": NOW + 1}), Err(ClaimProblem::Missing.of("iat").into())),
        ] {
            let validity = Validity::of(&claims(members.clone())).unwrap();
            assert_eq!(validity.require_lifetime(hour), expected, "{members}");
        }
    }
}
