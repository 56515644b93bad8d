//! `at_hash` and similar claims: half of the hash of one token, carried in another token (OIDC Core 3.1.3.6).

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::algorithm::Algorithm;
use crate::encoding::base64url;

/// The left half of the hash of `text`, in base64url. The hash function is that of the ID token's signature algorithm.
pub fn left_half_hash(algorithm: Algorithm, text: &str) -> String {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Es256 => left_half(&Sha256::digest(text)),
        Algorithm::Rs384 | Algorithm::Es384 => left_half(&Sha384::digest(text)),
        Algorithm::Rs512 | Algorithm::Es512 => left_half(&Sha512::digest(text)),
    }
}

fn left_half(hash: &[u8]) -> String {
    let (left, _) = hash.split_at(hash.len() / 2);
    base64url(left)
}

#[cfg(test)]
mod tests {
    use crate::testing::test;

    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_specification_example() {
        // OIDC Core Appendix A.4.
        let access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(left_half_hash(Algorithm::Rs256, access_token), "77QmUPtjPfzWtF2AnpK9RQ");
    }

    #[test]
    fn the_hash_follows_the_signature_algorithm() {
        // Left halves of SHA-256, SHA-384 and SHA-512 of "abc" (FIPS 180-4 examples).
        for (algorithms, expected) in [
            ([Algorithm::Rs256, Algorithm::Es256], "ungWv48Bz-pBQUDeXa4iIw"),
            ([Algorithm::Rs384, Algorithm::Es384], "ywB1P0WjXou1oD1pmsZQBycsMqsO3tFj"),
            ([Algorithm::Rs512, Algorithm::Es512], "3a81oZNherrMQXNJriBBMRLm-k6JqX6iCp7u5ktV05o"),
        ] {
            for algorithm in algorithms {
                assert_eq!(left_half_hash(algorithm, "abc"), expected, "{algorithm:?}");
            }
        }
    }
}
