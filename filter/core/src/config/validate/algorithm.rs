//! Names of signature algorithms, and why the dangerous ones are refused.

use crate::config::error::{Place, Reported, quote};
use crate::jose::algorithm::Algorithm;

/// The algorithm with this registered name (RFC 7518 3.1).
pub(super) fn algorithm(name: String, place: &Place<'_>) -> Result<Algorithm, Reported> {
    Algorithm::from_name(&name).ok_or_else(|| place.refuse(refusal(&name)))
}

fn refusal(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let supported = Algorithm::ALL.map(Algorithm::name).join(", ");
    if upper == "NONE" {
        // RFC 8725 3.2.
        "must not be none: anybody could create an unsigned token".to_owned()
    } else if upper.starts_with("HS") {
        // RFC 8725 2.1: a key that can check a MAC can also create it.
        format!(
            "must not be an HS algorithm: the key that verifies such a token can also create one; use one of \
             {supported}"
        )
    } else if let Some(meant) = Algorithm::from_name(&upper) {
        format!("is unknown: names are case-sensitive, write {}", meant.name())
    } else {
        format!("is unknown: expected one of {supported}, found {}", quote(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::testing::test;

    fn read(name: &str) -> Result<Algorithm, String> {
        checked(|place| algorithm(name.to_owned(), place))
    }

    #[test]
    fn every_supported_algorithm_goes_by_its_registered_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(read(algorithm.name()), Ok(algorithm));
        }
    }

    #[test]
    fn dangerous_and_unknown_algorithms_are_refused_with_the_reason() {
        for (name, reason) in [
            ("none", "anybody could create an unsigned token"),
            ("NONE", "anybody could create an unsigned token"),
            ("nOnE", "anybody could create an unsigned token"),
            ("HS256", "the key that verifies such a token can also create one"),
            ("hs512", "the key that verifies such a token can also create one"),
            ("rs256", "names are case-sensitive, write RS256"),
            ("PS256", "expected one of RS256, RS384, RS512, ES256, ES384, ES512, found \"PS256\""),
            ("EdDSA", "expected one of"),
            ("RS256 ", "expected one of"),
            ("*", "expected one of"),
        ] {
            assert!(read(name).unwrap_err().contains(reason), "{name}");
        }
    }
}
