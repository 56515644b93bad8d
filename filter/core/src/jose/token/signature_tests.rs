//! Which signatures verify: keys, algorithms and signatures that do not belong together are refused (BT05, IT17, IT18,
//! JW07, JW12).

use crate::testing::test;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use super::tests::{es256, verify};
use super::*;
use crate::encoding::{base64, base64url};
use crate::host::{CryptoUnavailable, Host, SignatureCheck};
use crate::jose::algorithm::Algorithm::{Es256, Es384, Rs256, Rs512};
use crate::jose::kind::IdToken;
use crate::jose::testing::{TestKey, Verifier, jwk_set, jwk_set_of, sign, sign_text};

/// The gate verifies through `&dyn Host`, so this must compile.
#[expect(dead_code, reason = "it only has to compile")]
fn verify_with_a_host(
    token: &UntrustedToken<'_>,
    keys: &JwkSet,
    host: &dyn Host,
) -> Result<Claims, TokenError> {
    token.verify(&IdToken(&[]), keys, &[Es256], host).map(VerifiedToken::into_claims)
}

/// BT05.
#[test]
fn ecdsa_signatures_have_exactly_one_form() {
    let keys = jwk_set();
    let good = es256(r#"{"sub":"s"}"#);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = from_base64url(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let zero = &[0; 32][..];
    // The order of P-256 (SP 800-186 3.2.1.3).
    let order = from_base64url("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
    let one = [&[0; 31][..], &[1]].concat();

    for (why, bytes, expected) in [
        ("r = 0", [zero, s].concat(), TokenError::MalformedSignature),
        ("s = 0", [r, zero].concat(), TokenError::MalformedSignature),
        ("r = s = 0", [zero, zero].concat(), TokenError::MalformedSignature),
        ("r = n", [&order, s].concat(), TokenError::BadSignature),
        ("s = n", [r, &order].concat(), TokenError::BadSignature),
        ("r = n, s = n", [order.clone(), order.clone()].concat(), TokenError::BadSignature),
        ("r = s = 1", [one.clone(), one].concat(), TokenError::BadSignature),
        ("s, r", [s, r].concat(), TokenError::BadSignature),
        ("ASN.1", crate::jose::der::ecdsa_signature(r, s), TokenError::MalformedSignature),
        ("63 bytes", signature[..63].to_vec(), TokenError::MalformedSignature),
        ("65 bytes", [&signature[..], &[0]].concat(), TokenError::MalformedSignature),
        ("a zero in front", [&[0], &signature[..]].concat(), TokenError::MalformedSignature),
        ("the length of P-384", [zero, r, s].concat(), TokenError::MalformedSignature),
        ("32 bytes", r.to_vec(), TokenError::MalformedSignature),
        ("one byte", vec![1], TokenError::MalformedSignature),
        ("1 KB", vec![1; 1024], TokenError::MalformedSignature),
    ] {
        let text = format!("{signed}.{}", base64url(bytes));
        assert_eq!(verify(&text, &keys), Err(expected), "{why}");
    }
}

#[test]
fn an_rsa_signature_is_as_long_as_the_modulus() {
    let keys = jwk_set();
    let good = sign(Rs256, Some("rsa"), json!({}), json!({"sub": "s"}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = from_base64url(signature).unwrap();
    for (bytes, expected) in [
        (signature[1..].to_vec(), TokenError::MalformedSignature),
        ([&[0], &signature[..]].concat(), TokenError::MalformedSignature),
        ([&signature[..], &[0]].concat(), TokenError::MalformedSignature),
        (vec![0; 256], TokenError::BadSignature),
        (vec![0xff; 256], TokenError::BadSignature),
    ] {
        assert_eq!(verify(&format!("{signed}.{}", base64url(bytes)), &keys), Err(expected));
    }
}

/// IT18.
#[test]
fn a_mac_made_with_anything_public_is_refused() {
    let jwk = TestKey::Rsa.jwk("rsa");
    let spki = base64(TestKey::Rsa.spki_der());
    let lines: Vec<&str> =
        spki.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = |end: &str| {
        format!("-----BEGIN PUBLIC KEY-----{end}{}{end}-----END PUBLIC KEY-----{end}", lines.join(end))
    };
    let modulus = from_base64url(jwk["n"].as_str().unwrap()).unwrap();
    for (why, key) in [
        ("client secret", b"the client secret".to_vec()),
        ("PEM", pem("\n").into_bytes()),
        ("PEM without a last line end", pem("\n").trim_end().into()),
        ("PEM with CRLF", pem("\r\n").into_bytes()),
        ("PEM with trailing blanks", pem(" \n").into_bytes()),
        ("DER", TestKey::Rsa.spki_der()),
        ("JWK", jwk.to_string().into_bytes()),
        ("modulus", modulus),
        ("empty", Vec::new()),
    ] {
        for (alg, expected) in [
            ("HS256", TokenError::NoSignature),
            ("hs256", TokenError::NoSignature),
            ("RS256", TokenError::MalformedSignature),
        ] {
            let header = format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#);
            let signed = format!("{}.{}", base64url(header), base64url(r#"{"sub":"admin"}"#));
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(signed.as_bytes());
            let text = format!("{signed}.{}", base64url(mac.finalize().into_bytes()));
            assert_eq!(verify(&text, &jwk_set()), Err(expected), "{alg} with {why}");
        }
    }
}

/// IT17: the set has a key for the algorithm, but the configuration does not allow it.
#[test]
fn the_allow_list_decides_before_any_key_is_looked_at() {
    let keys = jwk_set();
    let text = sign(Es256, Some("p256"), json!({}), json!({}));
    let token = UntrustedToken::parse(&text).unwrap();
    for allowed in [&[][..], &[Rs256], &[Rs256, Rs512, Es384]] {
        let verdict = token.verify(&IdToken(&[]), &keys, allowed, &Verifier);
        assert_eq!(verdict.unwrap_err(), TokenError::AlgorithmNotAllowed);
    }
    let strange = sign(Es256, Some("nobody"), json!({}), json!({}));
    let verdict = UntrustedToken::parse(&strange).unwrap().verify(&IdToken(&[]), &keys, &[Rs256], &Verifier);
    assert_eq!(verdict.unwrap_err(), TokenError::AlgorithmNotAllowed, "no reason to fetch keys");
}

#[test]
fn a_key_is_never_used_for_another_algorithm_than_its_own() {
    let mut pinned = TestKey::Rsa.jwk("rsa");
    pinned["alg"] = json!("RS512");
    let keys = jwk_set_of(&[pinned, TestKey::P256.jwk("p256")]);
    for (text, expected) in [
        (sign(Rs256, Some("rsa"), json!({}), json!({})), Err(TokenError::KeyNotForAlgorithm)),
        (sign(Rs512, Some("rsa"), json!({}), json!({})), Ok(())),
        (sign(Rs512, Some("p256"), json!({}), json!({})), Err(TokenError::KeyNotForAlgorithm)),
        (sign(Rs512, Some("gone"), json!({}), json!({})), Err(TokenError::UnknownKey)),
        (sign(Rs256, None, json!({}), json!({})), Err(TokenError::UnknownKey)),
        (sign(Rs512, None, json!({}), json!({})), Ok(())),
    ] {
        assert_eq!(verify(&text, &keys).map(drop), expected, "{text}");
    }
}

/// RFC 8725 3.10: a token that contains its own key.
#[test]
fn keys_in_the_header_are_never_used() {
    let own = TestKey::OtherP256.jwk("p256");
    for (kid, expected) in [("p256", TokenError::BadSignature), ("mine", TokenError::UnknownKey)] {
        let header = json!({
            "alg": "ES256", "kid": kid, "jwk": own, "jku": "https://evil.example/jwks",
            "x5u": "https://evil.example/cert", "x5c": ["MIIB"],
        });
        let text = sign_text(TestKey::OtherP256, Es256, &header.to_string(), "{}");
        assert_eq!(verify(&text, &jwk_set()), Err(expected));
    }
}

/// JW12: two issuers that use the same `kid`.
#[test]
fn a_key_of_one_issuer_does_not_verify_a_token_of_another() {
    let ours = jwk_set_of(&[TestKey::P256.jwk("k")]);
    let theirs = jwk_set_of(&[TestKey::OtherP256.jwk("k")]);
    let payload = r#"{"iss":"https://ours.example"}"#;
    let forged = sign_text(TestKey::OtherP256, Es256, r#"{"alg":"ES256","kid":"k"}"#, payload);
    assert_eq!(verify(&forged, &ours), Err(TokenError::BadSignature));
    let signed_by_them = verify(&forged, &theirs).unwrap();
    assert_eq!(signed_by_them.require_issuer("https://theirs.example"), Err(TokenError::WrongIssuer));
}

/// JW07: a duplicate `kid` with different keys.
#[test]
fn each_key_of_a_shared_kid_is_tried() {
    let keys = jwk_set_of(&[TestKey::OtherP256.jwk("p256"), TestKey::P256.jwk("p256")]);
    assert!(verify(&es256("{}"), &keys).is_ok());
    let (signed, _) = es256("{}").rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(verify(&format!("{signed}.{}", base64url([7; 64])), &keys), Err(TokenError::BadSignature));
}

/// JW07: a check that the key parser leaves to the host.
#[test]
fn a_point_off_the_curve_verifies_nothing() {
    for (x, y) in [([1; 32], [1; 32]), ([0; 32], [0; 32]), ([0xff; 32], [0xff; 32])] {
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "p256", "x": base64url(x), "y": base64url(y)});
        assert_eq!(verify(&es256("{}"), &jwk_set_of(&[jwk])), Err(TokenError::BadSignature));
    }
}

#[test]
fn without_a_verdict_of_the_host_no_token_is_good_and_none_is_called_bad() {
    struct Silent;
    impl SignatureVerifier for Silent {
        fn verify_signature(&self, _: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
            Err(CryptoUnavailable("test"))
        }
    }
    let text = es256("{}");
    let verdict = UntrustedToken::parse(&text).unwrap().verify(&IdToken(&[]), &jwk_set(), &[Es256], &Silent);
    assert_eq!(verdict.unwrap_err(), TokenError::CryptoUnavailable);

    /// A host that has no verdict on one of the two keys.
    struct HalfSilent;
    impl SignatureVerifier for HalfSilent {
        fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
            if check.spki_der == TestKey::OtherP256.spki_der() {
                return Err(CryptoUnavailable("test"));
            }
            Verifier.verify_signature(check)
        }
    }
    let (known, silent) = (TestKey::P256.jwk("p256"), TestKey::OtherP256.jwk("p256"));
    let forged = format!("{}.{}", text.rsplit_once('.').unwrap().0, base64url([7; 64]));
    for keys in [[known.clone(), silent.clone()], [silent, known]].map(|keys| jwk_set_of(&keys)) {
        let check = |text| {
            let token = UntrustedToken::parse(text).unwrap();
            token.verify(&IdToken(&[]), &keys, &[Es256], &HalfSilent).map(drop)
        };
        assert_eq!(check(&text), Ok(()));
        assert_eq!(check(&forged), Err(TokenError::CryptoUnavailable));
    }
}
