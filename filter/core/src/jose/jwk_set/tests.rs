//! Which keys of a JWK set are used (JW07, RX02, RX05), and for which tokens.

use crate::testing::test;
use serde_json::{Value, json};

use super::*;
use crate::encoding::{base64url, from_base64url};
use crate::jose::algorithm::Algorithm::{Es256, Es384, Rs256, Rs512};
use crate::jose::testing::{TestKey, jwk_set, jwk_set_of};

fn parse(set: Value) -> Result<JwkSet, JwkSetError> {
    JwkSet::parse(set.to_string().as_bytes())
}

/// A key with some members replaced. A null value removes the member.
fn changed(key: TestKey, changes: Value) -> Value {
    let mut jwk = key.jwk(key.key_id());
    let members = jwk.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    jwk
}

/// Why a key is skipped when it is alone in its set.
fn reason(jwk: &Value) -> Option<SkipReason> {
    Jwk::parse(jwk).err()
}

/// Which keys of a set are not used.
fn skipped(set: &JwkSet) -> Vec<(usize, SkipReason)> {
    set.skipped().iter().map(|skipped| (skipped.index, skipped.reason)).collect()
}

/// An RSA key whose modulus has exactly this many bits. Its private key does not exist.
fn rsa_of(bits: usize) -> Value {
    let mut modulus = vec![0xff_u8; bits.div_ceil(8)];
    modulus[0] >>= (8 - bits % 8) % 8;
    json!({"kty": "RSA", "kid": "k", "n": base64url(modulus), "e": "AQAB"})
}

#[test]
fn keys_become_the_spki_that_their_own_crates_write() {
    for key in
        [TestKey::Rsa, TestKey::OtherRsa, TestKey::P256, TestKey::OtherP256, TestKey::P384, TestKey::P521]
    {
        let parsed = Jwk::parse(&key.jwk("k")).unwrap();
        assert_eq!(parsed.spki_der(), key.spki_der(), "{key:?}");
        assert_eq!(parsed.key_id(), Some("k"));
    }
}

#[test]
fn a_key_serves_the_algorithms_of_its_type_and_curve() {
    for (key, expected) in [
        (TestKey::Rsa, &["RS256", "RS384", "RS512"][..]),
        (TestKey::P256, &["ES256"]),
        (TestKey::P384, &["ES384"]),
        (TestKey::P521, &["ES512"]),
    ] {
        let parsed = Jwk::parse(&key.jwk("k")).unwrap();
        let served: Vec<_> = Algorithm::ALL
            .into_iter()
            .filter(|algorithm| parsed.serves(*algorithm))
            .map(Algorithm::name)
            .collect();
        assert_eq!(served, expected, "{key:?}");
    }
    let pinned = Jwk::parse(&changed(TestKey::Rsa, json!({"alg": "RS512"}))).unwrap();
    assert!(pinned.serves(Rs512));
    assert!(!pinned.serves(Rs256));
}

/// JW07.
#[test]
fn keys_that_are_not_for_signatures_are_skipped() {
    use SkipReason::{
        BadParameter, NotForSignatures, Private, Symmetric, UnsupportedAlgorithm, UnsupportedKeyType,
    };
    for (changes, expected) in [
        (json!({}), None),
        (json!({"use": null}), None),
        (json!({"use": "sig", "key_ops": ["verify"]}), None),
        (json!({"key_ops": ["sign", "verify"]}), None),
        (json!({"alg": "RS256"}), None),
        (json!({"kid": null}), None),
        (json!({"kid": "k".repeat(256)}), None),
        (json!({"x5c": ["MIIB"], "x5t": "t", "unknown": {"a": [1]}}), None),
        (json!({"use": "enc"}), Some(NotForSignatures)),
        (json!({"use": "SIG"}), Some(NotForSignatures)),
        (json!({"use": ["sig"]}), Some(BadParameter("use"))),
        (json!({"key_ops": []}), Some(NotForSignatures)),
        (json!({"key_ops": ["encrypt", "wrapKey"]}), Some(NotForSignatures)),
        (json!({"key_ops": "verify"}), Some(BadParameter("key_ops"))),
        (json!({"key_ops": [1]}), Some(BadParameter("key_ops"))),
        (json!({"alg": "RSA-OAEP"}), Some(UnsupportedAlgorithm)),
        (json!({"alg": "PS256"}), Some(UnsupportedAlgorithm)),
        (json!({"alg": "HS256"}), Some(UnsupportedAlgorithm)),
        (json!({"alg": "ES256"}), Some(UnsupportedAlgorithm)),
        (json!({"alg": "rs256"}), Some(UnsupportedAlgorithm)),
        (json!({"alg": ["RS256"]}), Some(BadParameter("alg"))),
        (json!({"kid": 1}), Some(BadParameter("kid"))),
        (json!({"kid": "k".repeat(257)}), Some(BadParameter("kid"))),
        (json!({"kty": null}), Some(BadParameter("kty"))),
        (json!({"kty": 1}), Some(BadParameter("kty"))),
        (json!({"kty": "rsa"}), Some(UnsupportedKeyType)),
        (json!({"kty": "OKP"}), Some(UnsupportedKeyType)),
        (json!({"kty": "oct", "k": "AAAA"}), Some(Symmetric)),
        (json!({"kty": "oct"}), Some(Symmetric)),
        (json!({"k": "AAAA"}), Some(Private)),
        (json!({"d": "AAAA"}), Some(Private)),
        (json!({"qi": "AAAA"}), Some(Private)),
        (json!({"oth": []}), Some(Private)),
    ] {
        assert_eq!(reason(&changed(TestKey::Rsa, changes.clone())), expected, "{changes}");
    }
    for entry in [json!(null), json!("key"), json!([]), json!(1)] {
        assert_eq!(reason(&entry), Some(SkipReason::NotAnObject), "{entry}");
    }
}

/// JW07, RX05.
#[test]
fn rsa_keys_must_be_long_enough_and_not_too_costly() {
    use SkipReason::RsaModulusSize;
    for (bits, expected) in [
        (512, Some(RsaModulusSize)),
        (1024, Some(RsaModulusSize)),
        (2040, Some(RsaModulusSize)),
        (2047, Some(RsaModulusSize)),
        (2048, None),
        (2049, None),
        (4096, None),
        (8192, None),
        (8193, Some(RsaModulusSize)),
        (16384, Some(RsaModulusSize)),
    ] {
        assert_eq!(reason(&rsa_of(bits)), expected, "{bits} bits");
    }
}

/// JW07.
#[test]
fn an_rsa_modulus_is_odd_and_has_no_more_than_one_leading_zero() {
    let written = TestKey::Rsa.jwk("k");
    let modulus = from_base64url(written["n"].as_str().unwrap()).unwrap();
    let with = |n: &[u8]| changed(TestKey::Rsa, json!({"n": base64url(n)}));

    let one_zero = [&[0], modulus.as_slice()].concat();
    assert_eq!(Jwk::parse(&with(&one_zero)).unwrap().spki_der(), TestKey::Rsa.spki_der());
    let two_zeros = [&[0, 0], modulus.as_slice()].concat();
    assert_eq!(reason(&with(&two_zeros)), Some(SkipReason::BadParameter("n")));
    // 2040 bits that look like 2048.
    assert_eq!(reason(&with(&[&[0], &modulus[1..]].concat())), Some(SkipReason::RsaModulusSize));

    let mut even = modulus;
    *even.last_mut().unwrap() &= 0xfe;
    assert_eq!(reason(&with(&even)), Some(SkipReason::RsaModulusEven));

    for n in [json!(null), json!(""), json!("="), json!("AQAB="), json!("A+/A"), json!(65537)] {
        let refused = reason(&changed(TestKey::Rsa, json!({"n": n.clone()})));
        assert!(matches!(refused, Some(SkipReason::BadParameter("n") | SkipReason::RsaModulusSize)), "{n}");
    }
}

/// JW07, RX05.
#[test]
fn an_rsa_exponent_is_odd_above_one_and_short() {
    use SkipReason::{BadParameter, RsaExponent};
    for (exponent, expected) in [
        (&[1, 0, 1][..], None),
        (&[3], None),
        (&[0, 3], None),
        (&[0x7f, 0xff, 0xff, 0xff], None),
        (&[1, 0xff, 0xff, 0xff, 0xff], None),
        (&[], Some(RsaExponent)),
        (&[0], Some(RsaExponent)),
        (&[1], Some(RsaExponent)),
        (&[2], Some(RsaExponent)),
        (&[1, 0, 0], Some(RsaExponent)),
        (&[2, 0, 0, 0, 1], Some(RsaExponent)),
        (&[0xff; 256], Some(RsaExponent)),
        (&[0, 0, 3], Some(BadParameter("e"))),
    ] {
        let jwk = changed(TestKey::Rsa, json!({"e": base64url(exponent)}));
        assert_eq!(reason(&jwk), expected, "{exponent:x?}");
    }
    assert_eq!(reason(&changed(TestKey::Rsa, json!({"e": null}))), Some(BadParameter("e")));
    assert_eq!(reason(&changed(TestKey::Rsa, json!({"e": 65537}))), Some(BadParameter("e")));
}

/// JW07.
#[test]
fn ec_coordinates_have_the_full_length_of_the_field() {
    use SkipReason::{BadParameter, CoordinateLength, UnsupportedCurve};
    let short = base64url([1; 31]);
    let long = base64url([&[0][..], &[1; 32]].concat());
    for (changes, expected) in [
        (json!({}), None),
        (json!({"x": short}), Some(CoordinateLength)),
        (json!({"y": short}), Some(CoordinateLength)),
        (json!({"x": long}), Some(CoordinateLength)),
        (json!({"x": "", "y": ""}), Some(CoordinateLength)),
        (json!({"crv": "P-384"}), Some(CoordinateLength)),
        (json!({"crv": "P-521"}), Some(CoordinateLength)),
        (json!({"crv": "secp256k1"}), Some(UnsupportedCurve)),
        (json!({"crv": "p-256"}), Some(UnsupportedCurve)),
        (json!({"crv": null}), Some(BadParameter("crv"))),
        (json!({"x": null}), Some(BadParameter("x"))),
        (json!({"y": 1}), Some(BadParameter("y"))),
        (json!({"y": "*"}), Some(BadParameter("y"))),
    ] {
        assert_eq!(reason(&changed(TestKey::P256, changes.clone())), expected, "{changes}");
    }
    // Leading zeros of a coordinate are kept: the host gets the full length.
    let zeros = base64url([&[0; 4][..], &[7; 28]].concat());
    let padded = Jwk::parse(&changed(TestKey::P256, json!({"x": zeros}))).unwrap();
    assert_eq!(padded.spki_der().len(), TestKey::P256.spki_der().len());
}

/// JW07.
#[test]
fn one_bad_key_never_spoils_the_set() {
    let mut keys: Vec<Value> = (0..9).map(|n| TestKey::Rsa.jwk(&format!("k{n}"))).collect();
    keys.insert(4, changed(TestKey::P256, json!({"x": "AA"})));
    let set = parse(json!({ "keys": keys })).unwrap();
    assert_eq!(set.len(), 9);
    assert_eq!(skipped(&set), [(4, SkipReason::CoordinateLength)]);
    assert_eq!(set.skipped()[0].to_string(), "key 4 (kid \"p256\"): EC coordinate of the wrong length");
}

/// JW07, RX01, RX02.
#[test]
fn a_set_that_cannot_be_read_is_an_error() {
    use JsonError::{DuplicateMember, NotAnObject, Syntax, TooDeep, TooLong};
    let deep = format!(r#"{{"keys":{}"#, "[".repeat(100_000));
    let huge = " ".repeat(5 << 20);
    for (text, expected) in [
        ("", JwkSetError::Json(Syntax)),
        ("<html>", JwkSetError::Json(Syntax)),
        ("[]", JwkSetError::Json(NotAnObject)),
        ("{}", JwkSetError::NoKeys),
        (r#"{"keys":{}}"#, JwkSetError::NoKeys),
        (r#"{"keys":null}"#, JwkSetError::NoKeys),
        (r#"{"keys":"rsa"}"#, JwkSetError::NoKeys),
        (r#"{"keys":[],"keys":[]}"#, JwkSetError::Json(DuplicateMember)),
        (r#"{"keys":[{"kid":"a","kid":"b"}]}"#, JwkSetError::Json(DuplicateMember)),
        (deep.as_str(), JwkSetError::Json(TooDeep)),
        (huge.as_str(), JwkSetError::Json(TooLong)),
    ] {
        assert_eq!(JwkSet::parse(text.as_bytes()), Err(expected), "{}", &text[..text.len().min(40)]);
    }
    assert!(parse(json!({"keys": []})).unwrap().is_empty());
}

/// JW07, RX05.
#[test]
fn only_the_first_hundred_keys_are_looked_at() {
    let small = json!({"kty": "oct"});
    let mut keys = vec![small; MAX_KEYS - 1];
    keys.push(TestKey::Rsa.jwk("last"));
    keys.extend(vec![TestKey::P256.jwk("beyond"); 100]);
    let set = parse(json!({ "keys": keys })).unwrap();
    assert_eq!(set.len(), 1);
    assert!(set.candidates(Some("last"), Rs256).is_ok());
    assert_eq!(set.candidates(Some("beyond"), Es256), Err(TokenError::UnknownKey));
    assert_eq!(set.skipped().len(), MAX_KEYS);
    assert_eq!(skipped(&set).last(), Some(&(MAX_KEYS, SkipReason::TooMany)));
}

/// JW07.
#[test]
fn keys_that_share_a_kid_are_all_candidates_up_to_a_limit() {
    let keys = [TestKey::Rsa.jwk("k"), TestKey::OtherRsa.jwk("k"), TestKey::P256.jwk("k")];
    let set = jwk_set_of(&keys);
    assert_eq!(set.candidates(Some("k"), Rs256).map(|keys| keys.len()), Ok(2));
    assert_eq!(set.candidates(Some("k"), Es256).map(|keys| keys.len()), Ok(1));
    assert_eq!(set.candidates(Some("k"), Es384), Err(TokenError::KeyNotForAlgorithm));

    let many: Vec<Value> = (0..20)
        .map(|n| {
            let mut k = rsa_of(2048 + n);
            k["kid"] = json!("k");
            k
        })
        .collect();
    let set = jwk_set_of(&many);
    assert_eq!(set.candidates(Some("k"), Rs256).map(|keys| keys.len()), Ok(MAX_CANDIDATES));
}

#[test]
fn the_same_key_twice_is_kept_once() {
    let set = parse(json!({"keys": [TestKey::Rsa.jwk("k"), TestKey::Rsa.jwk("k")]})).unwrap();
    assert_eq!(set.len(), 1);
    assert_eq!(skipped(&set), [(1, SkipReason::Duplicate)]);
}

#[test]
fn a_kid_is_matched_exactly_or_the_key_is_unknown() {
    let set = jwk_set();
    assert!(set.candidates(Some("rsa"), Rs256).is_ok());
    for unknown in ["RSA", "rsa ", "", "r", "rsa2", "../rsa", "rsa\0"] {
        assert_eq!(set.candidates(Some(unknown), Rs256), Err(TokenError::UnknownKey), "{unknown:?}");
    }
    assert_eq!(set.candidates(Some("rsa"), Es256), Err(TokenError::KeyNotForAlgorithm));
}

#[test]
fn without_a_kid_the_only_key_that_fits_is_used() {
    let set = jwk_set();
    assert_eq!(set.candidates(None, Rs256).map(|keys| keys.len()), Ok(1));
    assert_eq!(JwkSet::default().candidates(None, Rs256), Err(TokenError::UnknownKey));
    let two = jwk_set_of(&[TestKey::Rsa.jwk("a"), TestKey::OtherRsa.jwk("b")]);
    assert_eq!(two.candidates(None, Rs256), Err(TokenError::AmbiguousKey));
}

#[test]
fn a_key_without_kid_is_found_only_by_a_token_without_kid() {
    let nameless = jwk_set_of(&[changed(TestKey::Rsa, json!({"kid": null}))]);
    assert!(nameless.candidates(None, Rs256).is_ok());
    assert_eq!(nameless.candidates(Some("rsa"), Rs256), Err(TokenError::UnknownKey));
    assert_eq!(nameless.candidates(Some(""), Rs256), Err(TokenError::UnknownKey));
}
