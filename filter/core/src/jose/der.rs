//! The part of DER (X.690) that is needed to pass keys and signatures to the host.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// rsaEncryption, 1.2.840.113549.1.1.1 (RFC 3279 2.3.1).
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// SubjectPublicKeyInfo of an RSA key. Both numbers are big-endian.
pub(super) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    // RFC 3279 2.3.1: the parameters are NULL and may not be left out.
    let algorithm = sequence(&[&element(OBJECT_IDENTIFIER, RSA_ENCRYPTION), &element(NULL, &[])]);
    let key = sequence(&[&unsigned_integer(modulus), &unsigned_integer(exponent)]);
    sequence(&[&algorithm, &bit_string(&key)])
}

/// SubjectPublicKeyInfo of a point on a named curve. Both coordinates have the full length of the field.
pub(super) fn ec_public_key(curve_oid: &[u8], x: &[u8], y: &[u8]) -> Vec<u8> {
    const UNCOMPRESSED: &[u8] = &[0x04];
    let algorithm =
        sequence(&[&element(OBJECT_IDENTIFIER, EC_PUBLIC_KEY), &element(OBJECT_IDENTIFIER, curve_oid)]);
    sequence(&[&algorithm, &bit_string(&[UNCOMPRESSED, x, y].concat())])
}

/// ECDSA-Sig-Value (RFC 3279 2.2.3). Both numbers are big-endian.
pub(super) fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    sequence(&[&unsigned_integer(r), &unsigned_integer(s)])
}

/// A big-endian number without its leading zero octets.
pub(super) fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let Some((0, rest)) = number.split_first() {
        number = rest;
    }
    number
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    const NO_UNUSED_BITS: &[u8] = &[0];
    element(BIT_STRING, &[NO_UNUSED_BITS, bytes].concat())
}

/// X.690 8.3: the shortest form. If the top bit is set, a leading zero octet keeps the number positive.
fn unsigned_integer(number: &[u8]) -> Vec<u8> {
    let number = without_leading_zeros(number);
    let sign: &[u8] = if number.first().is_none_or(|first| first & 0x80 != 0) { &[0] } else { &[] };
    element(INTEGER, &[sign, number].concat())
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    push_length(&mut out, contents.len());
    out.extend_from_slice(contents);
    out
}

/// X.690 8.1.3: one octet up to 127; otherwise the count of octets and then the number, in the shortest form (10.1).
fn push_length(out: &mut Vec<u8>, length: usize) {
    const LONG_FORM: u8 = 0x80;
    let octets = length.to_be_bytes();
    let octets = without_leading_zeros(&octets);
    match octets {
        [] => out.push(0),
        [short] if *short < LONG_FORM => out.push(*short),
        // A usize has at most eight octets.
        long => {
            out.push(LONG_FORM | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::test;

    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, expected) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[127]),
            (128, &[0x81, 128]),
            (255, &[0x81, 255]),
            (256, &[0x82, 1, 0]),
            (65_535, &[0x82, 255, 255]),
            (65_536, &[0x83, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            push_length(&mut out, length);
            assert_eq!(out, expected, "{length}");
        }
    }

    #[test]
    fn integers_are_minimal_and_never_negative() {
        for (number, expected) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0], &[2, 1, 0]),
            (&[0, 0, 0], &[2, 1, 0]),
            (&[1], &[2, 1, 1]),
            (&[0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 0, 0x80, 1], &[2, 3, 0, 0x80, 1]),
            (&[0, 1, 0], &[2, 2, 1, 0]),
        ] {
            assert_eq!(unsigned_integer(number), expected, "{number:x?}");
        }
    }

    #[test]
    fn an_ecdsa_signature_is_a_sequence_of_two_integers() {
        assert_eq!(ecdsa_signature(&[0, 1], &[0xff, 2]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0xff, 2]);
    }
}
