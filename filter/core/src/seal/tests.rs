//! Which values can be opened, and which cannot.

use crate::testing::test;

use super::*;
use crate::testing::TestHost;

fn ring(keys: &[&[u8; 32]], tenant: &[u8]) -> KeyRing {
    let keys = keys.iter().map(|key| Secret::new(**key)).collect::<Vec<_>>();
    KeyRing::new(keys.try_into().unwrap(), tenant)
}

const KEY: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const NEXT: &[u8; 32] = b"ZYXWVUTSRQPONMLKJIHGFEDCBA543210";

#[test]
fn ck05_whatever_is_changed_on_a_sealed_value_it_does_not_open() {
    let ring = ring(&[KEY], b"tenant");
    let sealed = ring.seal(&*TestHost::new(), Purpose::Login, b"", &[b"name"], b"plaintext").unwrap();
    let open = |sealed: &[u8]| ring.open(Purpose::Login, b"", &[b"name"], sealed);
    assert_eq!(open(&sealed).unwrap().as_slice(), b"plaintext");
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(open(&changed).unwrap_err(), Unopenable, "bit {bit} of byte {at}");
        }
        assert_eq!(open(&sealed[..at]).unwrap_err(), Unopenable, "cut at {at}");
        assert_eq!(open(&sealed[at + 1..]).unwrap_err(), Unopenable, "without its first {at} bytes");
    }
    assert_eq!(open(&[&sealed[..], &[0]].concat()).unwrap_err(), Unopenable);
}

/// Tenant, bound value, context.
type Fields<'a> = (&'a [u8], &'a [u8], &'a [&'a [u8]]);

#[test]
fn ck06_what_belongs_to_one_field_can_not_be_moved_to_the_next() {
    let host = TestHost::new();
    let seal = |tenant: &[u8], bound: &[u8], context: &[&[u8]]| {
        ring(&[KEY], tenant).seal(&*host, Purpose::Session, bound, context, b"plaintext").unwrap()
    };
    let opens = |tenant: &[u8], bound: &[u8], context: &[&[u8]], sealed: &[u8]| {
        ring(&[KEY], tenant).open(Purpose::Session, bound, context, sealed).is_ok()
    };
    let sealed = seal(b"host:1", b"secret", &[b"name", b"3518"]);
    assert!(opens(b"host:1", b"secret", &[b"name", b"3518"], &sealed));
    // The same bytes, divided into other fields.
    let divided: [Fields<'_>; 11] = [
        (b"host:13", b"secret", &[b"name", b"518"]),
        (b"host:", b"secret", &[b"1name", b"3518"]),
        (b"host:1", b"secret", &[b"name3", b"518"]),
        (b"host:1", b"secret", &[b"nam", b"e3518"]),
        (b"host:1", b"secret", &[b"name3518"]),
        (b"host:1", b"secret", &[b"name", b"3518", b""]),
        (b"host:1", b"secret", &[b"", b"name", b"3518"]),
        (b"host:1", b"secret", &[b"3518", b"name"]),
        (b"host:1", b"secretname", &[b"", b"3518"]),
        (b"host:1", b"", &[b"name", b"3518"]),
        (b"", b"secret", &[b"host:1name", b"3518"]),
    ];
    for (tenant, bound, context) in divided {
        assert!(!opens(tenant, bound, context, &sealed), "{tenant:?} {bound:?} {context:?}");
    }
}

#[test]
fn ck07_a_value_opens_for_its_own_purpose_under_its_own_key_only() {
    let host = TestHost::new();
    let sealed = ring(&[KEY], b"t").seal(&*host, Purpose::Login, b"", &[], b"plaintext").unwrap();
    assert!(ring(&[KEY], b"t").open(Purpose::Session, b"", &[], &sealed).is_err(), "another purpose");
    assert!(ring(&[NEXT], b"t").open(Purpose::Login, b"", &[], &sealed).is_err(), "another key");
    assert!(ring(&[NEXT, KEY], b"t").open(Purpose::Login, b"", &[], &sealed).is_ok(), "the key of before");

    // The key id is not secret. Overwriting it with another key's changes nothing.
    let other = ring(&[NEXT], b"t").seal(&*host, Purpose::Login, b"", &[], b"plaintext").unwrap();
    let mut renamed = sealed.clone();
    renamed[1..=KEY_ID_LEN].copy_from_slice(&other[1..=KEY_ID_LEN]);
    assert!(ring(&[NEXT, KEY], b"t").open(Purpose::Login, b"", &[], &renamed).is_err());
}

#[test]
fn ck16_nothing_is_packed_before_it_is_sealed() {
    let ring = ring(&[KEY], b"t");
    for length in [0, 1, 1000, 60_000] {
        let sealed = ring.seal(&*TestHost::new(), Purpose::Session, b"", &[], &vec![b'a'; length]).unwrap();
        // Version, key id, nonce and tag have fixed lengths. A value's length reveals only the length of its content,
        // and opening it decompresses nothing.
        assert_eq!(sealed.len(), 1 + KEY_ID_LEN + NONCE_LEN + length + 16, "{length}");
    }
}
