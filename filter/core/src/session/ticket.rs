//! The ticket: what the session cookie holds. 16 bytes name the record, 32 bytes are half of the key that opens it.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::encoding::{base64url, from_base64url};
use crate::host::{Host, RandomUnavailable};

const ID_LEN: usize = 16;
const SECRET_LEN: usize = 32;
/// SHA-256.
const DIGEST_LEN: usize = 32;
/// base64url of 48 bytes.
const TEXT_LEN: usize = 64;

/// A session's id and secret. New at every login (ASVS 7.2.4).
#[derive(Clone)]
pub struct Ticket {
    id: [u8; ID_LEN],
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

impl Ticket {
    /// A new ticket from the host's randomness.
    ///
    /// # Errors
    /// No randomness: there is no such thing as a default ticket.
    pub fn generate(host: &dyn Host) -> Result<Self, RandomUnavailable> {
        let mut ticket = Self { id: [0; ID_LEN], secret: Zeroizing::new([0; SECRET_LEN]) };
        host.random(&mut ticket.id)?;
        host.random(ticket.secret.as_mut())?;
        Ok(ticket)
    }

    /// From a cookie value; length and alphabet are checked before anything else happens with it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let bytes = Zeroizing::new(from_base64url(text).ok()?);
        let (id, secret) = bytes.split_first_chunk::<ID_LEN>()?;
        Some(Self { id: *id, secret: Zeroizing::new(secret.try_into().ok()?) })
    }

    /// The cookie value.
    pub fn to_cookie(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([&self.id[..], &self.secret[..]].concat());
        Zeroizing::new(base64url(&bytes))
    }

    /// The record's name in the store; it does not tell the id.
    pub fn record_name(&self) -> RecordName {
        let digest = Sha256::new().chain_update(b"oidc-gate/session-id/1").chain_update(self.id).finalize();
        RecordName(base64url(digest))
    }

    /// The half of the record's key that only the cookie has.
    pub fn secret(&self) -> &[u8] {
        self.secret.as_ref()
    }

    /// Names the whole ticket in a worker's memory, so that a right id with a wrong secret hits nothing.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"oidc-gate/ticket/1")
            .chain_update(self.id)
            .chain_update(self.secret.as_ref())
            .finalize()
            .into()
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a record is called in the store: a hash of the ticket's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordName(String);

impl RecordName {
    /// 43 base64url characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// From what an index holds, or a form of ours sent back.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digest = from_base64url(text).ok()?;
        (digest.len() == DIGEST_LEN).then(|| Self(base64url(digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_ticket_survives_its_cookie() {
        let ticket = Ticket::generate(&*TestHost::new()).unwrap();
        let again = Ticket::parse(&ticket.to_cookie()).unwrap();
        assert_eq!(again.record_name(), ticket.record_name());
        assert_eq!(again.secret(), ticket.secret());
        assert_eq!(again.fingerprint(), ticket.fingerprint());
        assert_eq!(ticket.to_cookie().len(), TEXT_LEN);
        let name = ticket.record_name();
        assert_eq!(RecordName::parse(name.as_bytes()), Some(name.clone()));
        for other in [&name.as_bytes()[1..], b"", &[name.as_bytes(), b"A"].concat(), b"../../../etc/passwd"] {
            assert_eq!(RecordName::parse(other), None);
        }
    }

    #[test]
    fn ss02_nothing_but_64_characters_of_base64url_reaches_the_store() {
        let long = "A".repeat(1 << 20);
        for text in [
            "",
            "*",
            "?",
            "\r\nSET x",
            "../",
            "%0d%0a",
            "%s%n",
            "é",
            &"A".repeat(63),
            &"A".repeat(65),
            &format!("{}*", "A".repeat(63)),
            &format!("{}=", "A".repeat(63)),
            &format!("{}+", "A".repeat(63)),
            &long,
        ] {
            assert!(Ticket::parse(text).is_none(), "{text:.70}");
        }
    }

    #[test]
    fn rx15_without_randomness_there_is_no_ticket() {
        let host = TestHost::new();
        host.break_randomness();
        assert!(Ticket::generate(&*host).is_err());
    }
}
