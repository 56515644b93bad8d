//! The form and kind of a token: what is refused before its signature is checked, or although it is good (BT02 to BT04,
//! IT19, IT25, RX01 to RX03).

use crate::testing::test;
use serde_json::json;

use super::*;
use crate::encoding::base64url;
use crate::jose::algorithm::Algorithm::Es256;
use crate::jose::kind::{AccessToken, IdToken, LogoutToken};
use crate::jose::mark::AccessTokenMark;
use crate::jose::testing::{TestKey, Verifier, jwk_set, sign, sign_text};
use crate::json::JsonError;

const ES256_HEADER: &str = r#"{"alg":"ES256","kid":"p256"}"#;

/// Why `parse` refuses this text.
fn parse_error(text: &str) -> TokenError {
    UntrustedToken::parse(text).expect_err(text.get(..60).unwrap_or(text))
}

/// The result of verifying a token as an ID token.
pub(super) fn verify(text: &str, keys: &JwkSet) -> Result<Claims, TokenError> {
    UntrustedToken::parse(text)?
        .verify(&IdToken(&[]), keys, &Algorithm::ALL, &Verifier)
        .map(VerifiedToken::into_claims)
}

/// A token with this header and a signature that no key made.
fn unsigned(header: &str) -> String {
    format!("{}.{}.{}", base64url(header), base64url("{}"), base64url("signature"))
}

pub(super) fn es256(payload: impl AsRef<[u8]>) -> String {
    sign_text(TestKey::P256, Es256, ES256_HEADER, payload)
}

#[test]
fn a_token_signed_by_the_issuers_key_verifies_with_every_algorithm() {
    let keys = jwk_set();
    for algorithm in Algorithm::ALL {
        let text = sign(
            algorithm,
            Some(TestKey::of(algorithm).key_id()),
            json!({"typ": "JWT"}),
            json!({"sub": "s"}),
        );
        let token = UntrustedToken::parse(&text).unwrap();
        let verified = token.verify(&IdToken(&[]), &keys, &[algorithm], &Verifier).unwrap();
        assert_eq!(verified.claims().sub(), Ok(Some("s")), "{algorithm:?}");
        assert_eq!(verified.algorithm(), algorithm);
    }
}

#[test]
fn any_changed_character_breaks_the_token() {
    let keys = jwk_set();
    let text = es256(r#"{"sub":"s"}"#);
    assert!(verify(&text, &keys).is_ok());
    for index in 0..text.len() {
        for other in ["A", "B"] {
            let mut changed = text.clone();
            changed.replace_range(index..=index, other);
            assert_eq!(verify(&changed, &keys).is_ok(), changed == text, "at {index}: {changed}");
        }
        assert!(verify(&text[..index], &keys).is_err(), "cut at {index}");
    }
}

/// BT02.
#[test]
fn only_the_registered_names_of_asymmetric_algorithms_are_known() {
    for alg in [
        "none",
        "None",
        "NONE",
        "nOnE",
        " none",
        "",
        "RS256\\u0000",
        "rs256",
        "RS256 ",
        "HS256",
        "HS384",
        "HS512",
        "EdDSA",
        "Ed25519",
        "ES256K",
        "RS1",
        "PS256",
        "RSA-OAEP",
        "dir",
    ] {
        let header = format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#);
        // F406: with these algorithms anyone could have made the token.
        let is_nobodys = alg.eq_ignore_ascii_case("none") || alg.starts_with("HS");
        let expected = if is_nobodys { TokenError::NoSignature } else { TokenError::UnsupportedAlgorithm };
        assert_eq!(parse_error(&unsigned(&header)), expected, "{alg:?}");
        let signed = sign_text(TestKey::P256, Es256, &header, "{}");
        assert_eq!(parse_error(&signed), expected, "{alg:?}");
    }
    let parameter = |problem: ClaimProblem, name| TokenError::HeaderParameter(problem.of(name));
    for (header, expected) in [
        (r#"{"kid":"rsa"}"#, parameter(ClaimProblem::Missing, "alg")),
        (r#"{"Alg":"RS256"}"#, parameter(ClaimProblem::Missing, "alg")),
        (r#"{"alg":256}"#, parameter(ClaimProblem::WrongType, "alg")),
        (r#"{"alg":null}"#, parameter(ClaimProblem::Missing, "alg")),
        (r#"{"alg":["RS256"]}"#, parameter(ClaimProblem::WrongType, "alg")),
        (r#"{"alg":"RS256","kid":1}"#, parameter(ClaimProblem::WrongType, "kid")),
        (r#"{"alg":"RS256","typ":["JWT"]}"#, parameter(ClaimProblem::WrongType, "typ")),
    ] {
        assert_eq!(parse_error(&unsigned(header)), expected, "{header}");
    }
}

/// BT02: `none` with an empty signature, and without the last dot.
#[test]
fn an_unsigned_token_is_refused_whatever_its_header_says() {
    for alg in ["none", "RS256"] {
        let header = base64url(format!(r#"{{"alg":"{alg}"}}"#));
        let payload = base64url(r#"{"sub":"admin"}"#);
        assert_eq!(parse_error(&format!("{header}.{payload}.")), TokenError::EmptySignature);
        assert_eq!(parse_error(&format!("{header}.{payload}")), TokenError::NotCompact);
    }
}

/// BT03.
#[test]
fn critical_extensions_and_unencoded_payloads_are_refused() {
    for (member, expected) in [
        (r#""crit":["x"]"#, TokenError::CriticalHeader),
        (r#""crit":[]"#, TokenError::CriticalHeader),
        (r#""crit":["exp"]"#, TokenError::CriticalHeader),
        (r#""crit":["b64"],"b64":true"#, TokenError::CriticalHeader),
        (r#""crit":"b64""#, TokenError::CriticalHeader),
        (r#""crit":null"#, TokenError::CriticalHeader),
        (r#""b64":false"#, TokenError::UnencodedPayload),
        (r#""b64":true"#, TokenError::UnencodedPayload),
        (r#""b64":"false""#, TokenError::UnencodedPayload),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"p256",{member}}}"#);
        assert_eq!(parse_error(&sign_text(TestKey::P256, Es256, &header, "{}")), expected, "{member}");
    }
}

/// BT04.
#[test]
fn what_is_not_three_strict_segments_is_refused() {
    let good = es256(r#"{"sub":"s"}"#);
    let [header, payload, signature] = segments(&good).unwrap();
    for (text, expected) in [
        (String::new(), TokenError::NotCompact),
        (header.to_owned(), TokenError::NotCompact),
        (format!("{header}.{payload}"), TokenError::NotCompact),
        (format!("{good}.{signature}"), TokenError::NotCompact),
        (format!("{good}."), TokenError::NotCompact),
        (format!(".{good}"), TokenError::NotCompact),
        (format!("{header}.key.iv.{payload}.tag"), TokenError::Encrypted),
        ("....".to_owned(), TokenError::Encrypted),
        (".....".to_owned(), TokenError::NotCompact),
        (good.replace('.', "%2E"), TokenError::NotCompact),
        (format!("{{{good}}}"), TokenError::NotBase64Url),
        (format!("\"{good}\""), TokenError::NotBase64Url),
        (
            format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#),
            TokenError::NotCompact,
        ),
        ("..".to_owned(), TokenError::EmptyPayload),
        (format!("{header}..{signature}"), TokenError::EmptyPayload),
        (format!("{header}.{payload}."), TokenError::EmptySignature),
        (format!(".{payload}.{signature}"), TokenError::HeaderJson(JsonError::Syntax)),
        (format!(" {good}"), TokenError::NotBase64Url),
        (format!("{good}\n"), TokenError::NotBase64Url),
        (format!("{header}. {payload}.{signature}"), TokenError::NotBase64Url),
        (format!("{header}\r\n.{payload}.{signature}"), TokenError::NotBase64Url),
        (format!("{header}.{payload}=.{signature}"), TokenError::NotBase64Url),
        (format!("{header}.{payload}.{signature}=="), TokenError::NotBase64Url),
        (format!("{header}.{payload}.+{signature}"), TokenError::NotBase64Url),
        (format!("{header}.{payload}.{signature}/"), TokenError::NotBase64Url),
        (format!("A.{payload}.{signature}"), TokenError::NotBase64Url),
        (format!("{header}.A.{signature}"), TokenError::NotBase64Url),
        (format!("{header}.{payload}.A"), TokenError::NotBase64Url),
        // Two characters for one octet, with unused bits that are not zero.
        (format!("{header}.{payload}.AB"), TokenError::NotBase64Url),
        (format!("{header}.{payload}.{signature}é"), TokenError::NotBase64Url),
    ] {
        assert_eq!(parse_error(&text), expected, "{text}");
    }
}

/// IT25.
#[test]
fn duplicate_members_in_header_or_payload_are_refused() {
    for header in [
        r#"{"alg":"ES256","kid":"p256","alg":"none"}"#,
        r#"{"alg":"ES256","kid":"p256","kid":"other"}"#,
        r#"{"alg":"ES256","\u0061lg":"RS256","kid":"p256"}"#,
    ] {
        let text = sign_text(TestKey::P256, Es256, header, "{}");
        assert_eq!(parse_error(&text), TokenError::HeaderJson(JsonError::DuplicateMember), "{header}");
    }
    for payload in [
        r#"{"sub":"a","sub":"admin"}"#,
        r#"{"sub":"a","\u0073ub":"admin"}"#,
        r#"{"realm_access":{"roles":[],"roles":["admin"]}}"#,
    ] {
        let expected = TokenError::PayloadJson(JsonError::DuplicateMember);
        assert_eq!(verify(&es256(payload), &jwk_set()), Err(expected), "{payload}");
    }
}

/// IT25, RX03.
#[test]
fn a_payload_that_is_not_a_json_object_is_refused() {
    for (payload, expected) in [
        (&b"[]"[..], JsonError::NotAnObject),
        (br#"[{"sub":"admin"}]"#, JsonError::NotAnObject),
        (br#""sub""#, JsonError::NotAnObject),
        (b"1", JsonError::NotAnObject),
        (b"null", JsonError::NotAnObject),
        (b"foo", JsonError::Syntax),
        (br#"{"sub":"a"}{}"#, JsonError::Syntax),
        (br#"{"exp":1e999999}"#, JsonError::Syntax),
        (br#"{"exp":NaN}"#, JsonError::Syntax),
        (br#"{"sub":"\ud800"}"#, JsonError::Syntax),
        (b"{\"sub\":\"\xff\"}", JsonError::Syntax),
    ] {
        assert_eq!(
            verify(&es256(payload), &jwk_set()),
            Err(TokenError::PayloadJson(expected)),
            "{payload:?}"
        );
    }
}

/// RX01.
#[test]
fn length_is_limited_before_anything_is_decoded() {
    for length in [MAX_TOKEN_LEN + 1, 256 << 10, 1 << 20] {
        for filler in ["A", ".", "%", "["] {
            assert_eq!(
                parse_error(&filler.repeat(length)),
                TokenError::TooLong(length),
                "{length} of {filler}"
            );
        }
    }
    let said = TokenError::TooLong(98_305).detail();
    assert_eq!(said, "token_too_long: 98305 bytes, the limit is 98304", "F601");
    assert_eq!(parse_error(&".".repeat(MAX_TOKEN_LEN)), TokenError::NotCompact);
    assert_eq!(parse_error(&"A".repeat(MAX_TOKEN_LEN)), TokenError::NotCompact);

    let long_kid = |length: usize| unsigned(&json!({"alg": "ES256", "kid": "k".repeat(length)}).to_string());
    assert!(UntrustedToken::parse(&long_kid(MAX_KEY_ID_LEN)).is_ok());
    let too_long = TokenError::HeaderParameter(ClaimProblem::TooLong.of("kid"));
    assert_eq!(parse_error(&long_kid(MAX_KEY_ID_LEN + 1)), too_long);

    let groups: Vec<String> = (0..500).map(|n| format!("/department/team-{n}")).collect();
    let large = es256(json!({"sub": "s", "groups": groups}).to_string());
    assert!(large.len() > 10_000);
    assert!(verify(&large, &jwk_set()).is_ok());
}

/// RX02.
#[test]
fn deep_nesting_is_refused_in_header_and_payload() {
    for depth in [17, 100, 1_000] {
        let deep =
            format!(r#"{{"alg":"ES256","kid":"p256","a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let text = sign_text(TestKey::P256, Es256, &deep, "{}");
        assert_eq!(parse_error(&text), TokenError::HeaderJson(JsonError::TooDeep));
        assert_eq!(verify(&es256(deep), &jwk_set()), Err(TokenError::PayloadJson(JsonError::TooDeep)));
    }
}

/// IT19, BT06, LO10: each kind is tried as each other kind, in Keycloak's form.
#[test]
fn a_token_of_one_kind_is_none_of_the_others() {
    fn is(kind: &impl TokenKind, text: &str) -> bool {
        let verdict = UntrustedToken::parse(text).unwrap().verify(kind, &jwk_set(), &[Es256], &Verifier);
        assert!(matches!(verdict, Ok(_) | Err(TokenError::WrongKind)), "{verdict:?}");
        verdict.is_ok()
    }
    let marks = AccessTokenMark::defaults();
    for (header, payload, expected) in [
        ("JWT", "ID", [true, false, false]),
        ("JWT", "Bearer", [false, true, false]),
        ("at+jwt", "Bearer", [false, true, false]),
        ("logout+jwt", "Logout", [false, false, true]),
        ("JWT", "Logout", [false, false, false]),
        ("JWT", "Refresh", [false, false, false]),
        ("JWT", "Offline", [false, false, false]),
        ("JWT", "RegistrationAccessToken", [false, false, false]),
        ("dpop+jwt", "ID", [false, false, false]),
    ] {
        let text = sign(Es256, Some("p256"), json!({"typ": header}), json!({"typ": payload}));
        let kinds = [is(&IdToken(&marks), &text), is(&AccessToken(&marks), &text), is(&LogoutToken, &text)];
        assert_eq!(kinds, expected, "{header}, {payload}");
    }
}

#[test]
fn a_payload_type_that_is_no_string_is_an_error() {
    for typ in [json!({}), json!(["ID"]), json!(1)] {
        let text = sign(Es256, Some("p256"), json!({}), json!({"typ": typ}));
        assert_eq!(verify(&text, &jwk_set()), Err(TokenError::Claim(ClaimProblem::WrongType.of("typ"))));
    }
}

#[test]
fn printing_a_token_shows_nothing_of_it() {
    let text = es256(json!({"sub": "alice"}).to_string());
    let token = UntrustedToken::parse(&text).unwrap();
    assert_eq!(format!("{token:?}"), "UntrustedToken { algorithm: Es256, .. }");
    let verified = token.verify(&IdToken(&[]), &jwk_set(), &[Es256], &Verifier).unwrap();
    assert_eq!(format!("{verified:?}"), "VerifiedToken { algorithm: Es256, .. }");
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let missing = ClaimProblem::Missing.of("exp");
    let all = [
        TokenError::TooLong(1),
        TokenError::Encrypted,
        TokenError::NotCompact,
        TokenError::NotBase64Url,
        TokenError::EmptyPayload,
        TokenError::EmptySignature,
        TokenError::HeaderJson(JsonError::Syntax),
        TokenError::HeaderParameter(missing.clone()),
        TokenError::CriticalHeader,
        TokenError::UnencodedPayload,
        TokenError::UnsupportedAlgorithm,
        TokenError::AlgorithmNotAllowed,
        TokenError::UnknownKey,
        TokenError::AmbiguousKey,
        TokenError::KeyNotForAlgorithm,
        TokenError::MalformedSignature,
        TokenError::BadSignature,
        TokenError::CryptoUnavailable,
        TokenError::PayloadJson(JsonError::Syntax),
        TokenError::WrongKind,
        TokenError::Claim(missing),
        TokenError::WrongIssuer,
        TokenError::WrongAudience,
        TokenError::Expired,
        TokenError::NotYetValid,
        TokenError::IssuedInFuture,
        TokenError::LivesTooLong,
    ];
    let mut labels: Vec<&str> = all.iter().map(TokenError::label).collect();
    let is_snake_case =
        |label: &&str| label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    assert!(labels.iter().all(is_snake_case), "{labels:?}");
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), all.len());
}
