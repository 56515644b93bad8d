//! What the record of a session is called.

use sha2::{Digest, Sha256};

use crate::encoding::{base64url, from_base64url};

/// Length of a SHA-256 hash.
const DIGEST_LEN: usize = 32;

/// The name of a record in the store: a hash of the ticket's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordName(String);

impl RecordName {
    /// 43 base64url characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same characters as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name for a ticket's id.
    pub(crate) fn of(id: &[u8]) -> Self {
        Self(base64url(Sha256::new().chain_update(b"oidc-gate/session-id/1").chain_update(id).finalize()))
    }

    /// Parses a name from an index, or one that a form of the account page sent back.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digest = from_base64url(text).ok()?;
        (digest.len() == DIGEST_LEN).then(|| Self(base64url(digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn a_name_is_read_again_and_nothing_else_is_one() {
        let name = RecordName::of(b"0123456789abcdef");
        assert_eq!(RecordName::parse(name.as_bytes()), Some(name.clone()));
        for other in [&name.as_bytes()[1..], b"", &[name.as_bytes(), b"A"].concat(), b"../../../etc/passwd"] {
            assert_eq!(RecordName::parse(other), None);
        }
    }
}
