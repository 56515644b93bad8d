//! Checks that the keys of the gate are long enough and appear random.

use vec1::Vec1;

use super::entries::each;
use crate::config::error::Reported;
use crate::config::field::Field;
use crate::config::scalar::{List, SecretText};
use crate::secret::Secret;

/// 256 bits, if the bytes are random.
const MIN_LEN: usize = 32;

/// About one in ten thousand keys of 32 random hexadecimal digits has fewer distinct digits.
const MIN_DISTINCT: usize = 10;

/// Placeholders of examples and templates, in lower case, with `-` for every separator.
const PLACEHOLDERS: [&str; 12] = [
    "change-me",
    "changeme",
    "replace-me",
    "replaceme",
    "replace-with",
    "placeholder",
    "your-secret",
    "yoursecret",
    "example",
    "insecure",
    "password",
    "secret-key",
];

/// Why a key is refused. Contains no part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Weakness {
    #[error("must have at least {MIN_LEN} bytes; {HOW}")]
    Short,
    #[error("has too few different characters to be random; {HOW}")]
    FewDistinct,
    #[error("repeats itself; {HOW}")]
    Repetition,
    #[error("counts up or down; {HOW}")]
    Sequence,
    #[error("is a placeholder; {HOW}")]
    Placeholder,
}

const HOW: &str = "make one with: openssl rand -base64 32";

/// Checks a list of keys. `nothing` says what an empty list would mean.
pub(super) fn keys(field: Field<'_, List<SecretText>>, nothing: &str) -> Result<Vec1<Secret>, Reported> {
    field.required(|list, place| {
        let mut earlier: Vec<Secret> = Vec::new();
        let keys = each(list.0, place, |_, SecretText(key), at| {
            if earlier.contains(&key) {
                return Err(at.refuse("is the same key as an earlier one"));
            }
            check(&key).map_err(|weakness| at.refuse(weakness.to_string()))?;
            earlier.push(key.clone());
            Ok(key)
        })?;
        Vec1::try_from_vec(keys).map_err(|_| place.refuse(format!("is empty: {nothing}")))
    })
}

/// Refuses keys that no random generator would produce.
fn check(key: &Secret) -> Result<(), Weakness> {
    let bytes = key.expose();
    if is_placeholder(bytes) {
        Err(Weakness::Placeholder)
    } else if bytes.len() < MIN_LEN {
        Err(Weakness::Short)
    } else if distinct(bytes) < MIN_DISTINCT {
        Err(Weakness::FewDistinct)
    } else if repeats(bytes) {
        Err(Weakness::Repetition)
    } else if is_sequence(bytes) {
        Err(Weakness::Sequence)
    } else {
        Ok(())
    }
}

fn is_placeholder(bytes: &[u8]) -> bool {
    let folded: String = bytes
        .iter()
        .map(|byte| match byte {
            b'_' | b' ' | b'.' => '-',
            byte => char::from(byte.to_ascii_lowercase()),
        })
        .collect();
    PLACEHOLDERS.iter().any(|placeholder| folded.contains(placeholder))
}

fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in bytes {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count()
}

/// Whether a block of at most half the length repeats to the end.
fn repeats(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|period| bytes.iter().zip(bytes.iter().skip(period)).all(|(a, b)| a == b))
}

/// Whether more than half of all steps lead to the next, the previous or the same byte value.
fn is_sequence(bytes: &[u8]) -> bool {
    let steps = bytes.iter().zip(bytes.iter().skip(1)).filter(|(a, b)| a.abs_diff(**b) <= 1).count();
    steps > bytes.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn weakness(key: &str) -> Option<Weakness> {
        check(&Secret::new(key)).err()
    }

    #[test]
    fn keys_of_a_random_generator_are_good() {
        for key in [
            "mJ3vQ8zZ1uR5xkT0aWc7yLh4eNf9bGd2PsVoIqXrCtE=",
            "9f86d081884c7d659a2feaa0c55ad015",
            "a3f1c2e4b5968778695a4b3c2d1e0f12b4d6f8091a2c3e4f5061728394a5b6c7",
            "kT0aWc7yLh4eNf9bGd2PsVoIqXrCtE_3",
        ] {
            assert_eq!(weakness(key), None, "{key}");
        }
    }

    #[test]
    fn weak_keys_are_refused_with_the_reason() {
        for (key, expected) in [
            ("", Weakness::Short),
            ("mJ3vQ8zZ1uR5xkT0aWc7yLh4eNf9bGd", Weakness::Short),
            (&"a".repeat(64), Weakness::FewDistinct),
            (&"0123456".repeat(8), Weakness::FewDistinct),
            (&"0123456789abcdef".repeat(2), Weakness::Repetition),
            (&"qX7!pLmZ4wKs".repeat(4), Weakness::Repetition),
            ("abcdefghijklmnopqrstuvwxyz0123456789", Weakness::Sequence),
            ("change-me-please-to-something-long-and-random", Weakness::Placeholder),
            ("CHANGE_ME_0123456789_qwertzuiop_asdf", Weakness::Placeholder),
            ("changeme", Weakness::Placeholder),
            ("your_secret_key_at_least_32_characters", Weakness::Placeholder),
            ("replace with 32 random characters!!", Weakness::Placeholder),
            ("this-is-an-example-key-of-good-length", Weakness::Placeholder),
        ] {
            assert_eq!(weakness(key), Some(expected), "{key}");
        }
    }

    #[test]
    fn a_weakness_says_how_to_do_better() {
        let expected = "must have at least 32 bytes; make one with: openssl rand -base64 32";
        assert_eq!(Weakness::Short.to_string(), expected);
    }
}
