//! The ticket: the value of the session cookie. 16 bytes name the record, 32 random bytes are half of the key that
//! opens it, and a signature follows, so that a ticket that the gate did not issue is refused before Redis is asked.
//!
//! The signature is part of the secret. A ticket with a changed byte opens nothing, even if the key of its signature is
//! no longer in the key ring.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::caller::Caller;
use crate::encoding::{base64url, from_base64url};
use crate::host::{Host, RandomUnavailable};
use crate::record_name::RecordName;
use crate::seal::{KeyRing, SIGNATURE_LEN, Signed};

const ID_LEN: usize = 16;
const RANDOM_LEN: usize = 32;
/// Length of a ticket from before tickets were signed, in bytes.
const UNSIGNED_LEN: usize = ID_LEN + RANDOM_LEN;
const LEN: usize = UNSIGNED_LEN + SIGNATURE_LEN;
/// Longest accepted cookie value: base64url of [`LEN`] bytes.
const MAX_TEXT_LEN: usize = 112;

/// A ticket from a cookie before its signature is checked.
pub struct UntrustedTicket {
    bytes: Zeroizing<Vec<u8>>,
}

/// A session's id and secret. New at every login (ASVS 7.2.4).
#[derive(Clone)]
pub struct Ticket {
    id: [u8; ID_LEN],
    /// The random bytes and the signature. A changed ticket cannot decrypt the record.
    secret: Zeroizing<Vec<u8>>,
    origin: Origin,
}

/// What is known about the origin of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We issued it.
    Ours,
    /// It has no signature, or one by a key that we no longer have: only the store can tell. Holds the sender.
    Unknown(Caller),
}

impl UntrustedTicket {
    /// Parses a cookie value; length and alphabet are checked first.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT_LEN {
            return None;
        }
        let bytes = Zeroizing::new(from_base64url(text).ok()?);
        matches!(bytes.len(), UNSIGNED_LEN | LEN).then_some(Self { bytes })
    }

    /// The name of its record in the store.
    pub fn record_name(&self) -> RecordName {
        RecordName::of(self.bytes.get(..ID_LEN).unwrap_or_default())
    }

    /// The ticket, unless it has an invalid signature under one of our keys.
    pub fn verify(self, keys: &KeyRing, caller: Caller) -> Option<Ticket> {
        let (id, secret) = self.bytes.split_first_chunk::<ID_LEN>()?;
        let signed = self.bytes.split_at_checked(UNSIGNED_LEN)?;
        let origin = match signed {
            (_, []) => Origin::Unknown(caller),
            (ticket, signature) => match keys.check(ticket, signature.try_into().ok()?) {
                Signed::Ours => Origin::Ours,
                Signed::UnknownKey => Origin::Unknown(caller),
                Signed::Forged => return None,
            },
        };
        Some(Ticket { id: *id, secret: Zeroizing::new(secret.to_vec()), origin })
    }
}

impl Ticket {
    /// A new random ticket, signed with the newest key.
    ///
    /// # Errors
    /// No randomness is available: there is no default ticket.
    pub fn generate(host: &dyn Host, keys: &KeyRing) -> Result<Self, RandomUnavailable> {
        let mut bytes = Zeroizing::new([0; UNSIGNED_LEN]);
        host.random(bytes.as_mut())?;
        let signature = keys.sign(bytes.as_ref()).map_err(|_| RandomUnavailable)?;
        let (id, random) = bytes.split_first_chunk::<ID_LEN>().ok_or(RandomUnavailable)?;
        Ok(Self { id: *id, secret: Zeroizing::new([random, &signature].concat()), origin: Origin::Ours })
    }

    /// The cookie value.
    pub fn to_cookie(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([&self.id[..], &self.secret].concat());
        Zeroizing::new(base64url(&bytes))
    }

    /// The record's name in the store; it does not reveal the id.
    pub fn record_name(&self) -> RecordName {
        RecordName::of(&self.id)
    }

    /// The half of the record's key that only the cookie holds.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// What is known about its origin.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Identifies the whole ticket in a worker's memory, so that a known id with a wrong secret matches nothing.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"oidc-gate/ticket/1")
            .chain_update(self.id)
            .chain_update(self.secret.as_slice())
            .finalize()
            .into()
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::testing::TestHost;
    use crate::testing::test;

    const KEY: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    const NEXT: &[u8; 32] = b"ZYXWVUTSRQPONMLKJIHGFEDCBA543210";

    fn ring(keys: &[&[u8; 32]], tenant: &[u8]) -> KeyRing {
        let keys = keys.iter().map(|key| Secret::new(**key)).collect::<Vec<_>>();
        KeyRing::new(keys.try_into().unwrap(), tenant)
    }

    pub(crate) fn keys() -> KeyRing {
        ring(&[KEY], b"tenant")
    }

    fn unknown() -> Origin {
        Origin::Unknown(Caller::default())
    }

    fn read(text: &str, keys: &KeyRing) -> Option<Origin> {
        UntrustedTicket::parse(text)?.verify(keys, Caller::default()).map(|ticket| ticket.origin())
    }

    #[test]
    fn a_ticket_survives_its_cookie() {
        let ticket = Ticket::generate(&*TestHost::new(), &keys()).unwrap();
        let again =
            UntrustedTicket::parse(&ticket.to_cookie()).unwrap().verify(&keys(), Caller::default()).unwrap();
        assert_eq!(again.record_name(), ticket.record_name());
        assert_eq!(again.secret(), ticket.secret());
        assert_eq!(again.fingerprint(), ticket.fingerprint());
        assert_eq!(ticket.to_cookie().len(), MAX_TEXT_LEN);
    }

    #[test]
    fn ss02_nothing_but_base64url_of_a_tickets_length_reaches_the_store() {
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
            &"A".repeat(111),
            &"A".repeat(113),
            &format!("{}*", "A".repeat(63)),
            &format!("{}=", "A".repeat(63)),
            &format!("{}+", "A".repeat(111)),
            &long,
        ] {
            assert!(UntrustedTicket::parse(text).is_none(), "{text:.70}");
        }
    }

    #[test]
    fn f901_a_ticket_that_was_changed_anywhere_is_not_ours() {
        let keys = keys();
        let cookie = Ticket::generate(&*TestHost::new(), &keys).unwrap().to_cookie();
        assert_eq!(read(&cookie, &keys), Some(Origin::Ours));
        let bytes = from_base64url(cookie.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // A different key name: only the store can tell, so it is asked, within a limit.
                let names_another_key = (UNSIGNED_LEN..UNSIGNED_LEN + 4).contains(&at);
                let expected = names_another_key.then(unknown);
                assert_eq!(read(&base64url(&changed), &keys), expected, "bit {bit} of byte {at}");
                // Even then it is a different ticket.
                let ticket =
                    UntrustedTicket::parse(&base64url(&changed)).unwrap().verify(&keys, Caller::default());
                let right =
                    UntrustedTicket::parse(&cookie).unwrap().verify(&keys, Caller::default()).unwrap();
                assert!(ticket.is_none_or(|ticket| ticket.secret() != right.secret()));
            }
        }
        assert_eq!(read(&cookie[..64], &keys), Some(unknown()), "as they were before");
    }

    #[test]
    fn f901_a_ticket_counts_under_its_own_key_and_tenant_only() {
        let cookie = Ticket::generate(&*TestHost::new(), &keys()).unwrap().to_cookie();
        for (other, expected) in [
            (ring(&[NEXT, KEY], b"tenant"), Some(Origin::Ours)),
            (ring(&[KEY, NEXT], b"tenant"), Some(Origin::Ours)),
            (ring(&[NEXT], b"tenant"), Some(unknown())),
            (ring(&[KEY], b"another"), None),
        ] {
            assert_eq!(read(&cookie, &other), expected);
        }
        let newest = Ticket::generate(&*TestHost::new(), &ring(&[NEXT, KEY], b"tenant")).unwrap();
        assert_eq!(
            read(&newest.to_cookie(), &ring(&[NEXT], b"tenant")),
            Some(Origin::Ours),
            "the newest signs"
        );
    }

    #[test]
    fn rx15_without_randomness_there_is_no_ticket() {
        let host = TestHost::new();
        host.break_randomness();
        assert!(Ticket::generate(&*host, &keys()).is_err());
    }
}
