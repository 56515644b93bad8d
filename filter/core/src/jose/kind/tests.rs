//! Every kind of token is tried as every other kind, in the forms of several providers, and under every rule that the
//! documentation shows.

use crate::testing::test;
use serde_json::json;
use std::sync::LazyLock;
use vec1::{Vec1, vec1};

use super::*;

const HEADERS: [Option<&str>; 14] = [
    None,
    Some("JWT"),
    Some("jwt"),
    Some("application/JWT"),
    Some("at+jwt"),
    Some("AT+JWT"),
    Some("application/at+jwt"),
    Some("Application/At+Jwt"),
    Some("logout+jwt"),
    Some("application/logout+jwt"),
    Some(""),
    Some("dpop+jwt"),
    Some("secevent+jwt"),
    Some("application/application/jwt"),
];
const TYPES: [Option<&str>; 7] =
    [None, Some("ID"), Some("Bearer"), Some("Logout"), Some("Refresh"), Some("bearer"), Some("")];
static DEFAULT: LazyLock<Vec1<AccessTokenMark>> = LazyLock::new(AccessTokenMark::defaults);

type Pair = (Option<&'static str>, Option<&'static str>);

fn accepted(kind: &impl TokenKind) -> Vec<Pair> {
    accepted_with(kind, &json!({}))
}

/// The pairs of `typ` values with which these claims are accepted as that kind.
fn accepted_with(kind: &impl TokenKind, claims: &Value) -> Vec<Pair> {
    let all = HEADERS.into_iter().flat_map(|header| TYPES.into_iter().map(move |typ| (header, typ)));
    let is_one = |(header, typ): &Pair| {
        let mut claims = claims.clone();
        if let Some(typ) = typ {
            claims["typ"] = json!(typ);
        }
        is(kind, *header, &claims)
    };
    all.filter(is_one).collect()
}

/// Payloads of the four kinds, and mixtures of them.
fn payloads() -> Vec<(&'static str, Value)> {
    let event = |value: Value| json!({LOGOUT_EVENT: value});
    vec![
        ("id", json!({})),
        ("id", json!({"iss": "i", "sub": "s", "aud": "a", "nonce": "n"})),
        ("id", json!({"iss": "i", "sub": "s", "aud": "a", "events": ["a party"]})),
        ("id", json!({"iss": "i", "sub": "s", "aud": "a", "events": {"http://example.com": {}}})),
        ("id", json!({"sub": "s", "action": "LOGOUT"})),
        ("logout", json!({"iss": "i", "sub": "s", "aud": "a", "jti": "j", "events": event(json!({}))})),
        ("logout", json!({"iss": "i", "sub": "s", "aud": "a", "nonce": "n", "events": event(json!({}))})),
        ("logout", json!({"iss": "i", "aud": "a", "events": event(json!(null))})),
        ("logout", json!({"events": event(json!({}))})),
        ("logout", json!({"events": event(json!({})), "action": "LOGOUT"})),
        ("admin", json!({"id": "x", "expiration": 1, "resource": "a", "action": "LOGOUT"})),
        ("admin", json!({"action": 1})),
        ("neither", json!({"events": 1, "resource": "a", "action": "LOGOUT"})),
    ]
}

fn pairs(headers: &[Option<&'static str>], types: &[Option<&'static str>]) -> Vec<Pair> {
    headers.iter().flat_map(|header| types.iter().map(move |typ| (*header, *typ))).collect()
}

fn is(kind: &impl TokenKind, header: Option<&str>, claims: &Value) -> bool {
    kind.accepts(header, claims.as_object().unwrap()).unwrap()
}

/// A rule that requires these claims. With `null` any value will do.
fn rule(present: &Value, absent: &[&str]) -> AccessTokenMark {
    let claim = |name: &str| vec![name.to_owned()];
    let present = present.as_object().unwrap().iter().map(|(name, value)| RequiredClaim {
        claim: claim(name),
        values: value.as_str().map(str::to_owned).into_iter().collect(),
    });
    AccessTokenMark::Claims(ClaimRule {
        present: present.collect::<Vec<_>>().try_into().unwrap(),
        absent: absent.iter().map(|name| claim(name)).collect(),
    })
}

#[test]
fn an_id_token_is_a_plain_jwt_that_is_not_marked_as_something_else() {
    assert_eq!(accepted(&IdToken(&DEFAULT)), pairs(&HEADERS[0..4], &[None, Some("ID")]));
}

#[test]
fn an_access_token_says_so_in_its_header_or_by_keycloaks_mark() {
    let by_mark = pairs(&HEADERS[0..4], &[Some("Bearer")]);
    let by_header = pairs(&HEADERS[4..8], &[None, Some("Bearer")]);
    assert_eq!(accepted(&AccessToken(&DEFAULT)), [&by_mark[..], &by_header].concat());
    assert_eq!(accepted(&AccessToken(&[AccessTokenMark::Rfc9068])), by_header);
    assert_eq!(
        accepted(&AccessToken(&[AccessTokenMark::Keycloak])),
        pairs(&HEADERS[0..8], &[Some("Bearer")]),
        "also where Keycloak's setting writes the header of RFC 9068"
    );
    assert_eq!(accepted(&AccessToken(&[])), []);
}

#[test]
fn f304_a_logout_token_says_so_in_its_header_or_by_its_event() {
    for (kind, claims) in payloads() {
        let by_header = pairs(&HEADERS[8..10], &[None, Some("Logout")]);
        let by_event =
            if kind == "logout" { pairs(&HEADERS[0..4], &[None, Some("Logout")]) } else { Vec::new() };
        assert_eq!(accepted_with(&LogoutToken, &claims), [by_event, by_header].concat(), "{claims}");
    }
}

#[test]
fn an_administrative_message_has_an_action_names_nobody_and_has_no_mark_of_another_kind() {
    for (kind, claims) in payloads() {
        let expected = if kind == "admin" { pairs(&HEADERS[0..4], &[None]) } else { Vec::new() };
        assert_eq!(accepted_with(&AdminAction, &claims), expected, "{claims}");
    }
}

#[test]
fn an_id_token_is_neither_a_logout_token_nor_an_administrative_message() {
    for (kind, claims) in payloads() {
        let expected = if kind == "id" { pairs(&HEADERS[0..4], &[None, Some("ID")]) } else { Vec::new() };
        assert_eq!(accepted_with(&IdToken(&DEFAULT), &claims), expected, "{claims}");
    }
}

/// Tries every combination of header, mark and claims, with the default access token marks and with a rule.
#[test]
fn no_token_is_of_two_kinds() {
    let by_claims = [rule(&json!({"aud": null}), &[]), rule(&json!({"action": null}), &[])];
    for marks in [&DEFAULT[..], &by_claims] {
        for (_, claims) in payloads() {
            let all = [
                accepted_with(&IdToken(marks), &claims),
                accepted_with(&AccessToken(marks), &claims),
                accepted_with(&LogoutToken, &claims),
                accepted_with(&AdminAction, &claims),
            ]
            .concat();
            for (index, pair) in all.iter().enumerate() {
                assert!(!all[index + 1..].contains(pair), "{pair:?} {claims}");
            }
        }
    }
}

#[test]
fn f302_a_rule_is_followed_as_a_whole() {
    let marks = [rule(&json!({"token_use": "access", "scp": null}), &["hint"])];
    let follows = |claims: Value| is(&AccessToken(&marks), Some("JWT"), &claims);
    assert!(follows(json!({"token_use": "access", "scp": "a b"})));
    assert!(follows(json!({"token_use": ["access"], "scp": ["a"], "hint": null})));
    for other in [
        json!({"token_use": "access"}),
        json!({"token_use": "access", "scp": null}),
        json!({"token_use": "access", "scp": ""}),
        json!({"token_use": "access", "scp": []}),
        json!({"token_use": "Access", "scp": "a"}),
        json!({"token_use": "access ", "scp": "a"}),
        json!({"token_use": true, "scp": "a"}),
        json!({"token_use": {"access": 1}, "scp": "a"}),
        json!({"scp": "a"}),
        json!({"token_use": "access", "scp": "a", "hint": ""}),
        json!({}),
    ] {
        assert!(!follows(other.clone()), "{other}");
    }
    let nested = [AccessTokenMark::Claims(ClaimRule {
        present: vec1![RequiredClaim {
            claim: vec!["a.b".into(), "c".into()],
            values: vec!["true".into(), "7".into()],
        }],
        absent: vec![vec!["a.b".into(), "d".into()]],
    })];
    for (claims, expected) in [
        (json!({"a.b": {"c": true}}), true),
        (json!({"a.b": {"c": 7}}), true),
        (json!({"a.b": {"c": "7"}}), true),
        (json!({"a.b": {"c": 8}}), false),
        (json!({"a.b": {"c": true, "d": 1}}), false),
        (json!({"a.b": "c"}), false),
        (json!({"a": {"b": {"c": true}}}), false),
    ] {
        assert_eq!(is(&AccessToken(&nested), None, &claims), expected, "{claims}");
    }
}

#[test]
fn f302_what_marks_another_kind_counts_against_every_rule() {
    let marks = [rule(&json!({"scope": null}), &[])];
    let good = json!({"scope": "openid", "typ": "Bearer", "token_use": "access"});
    assert!(is(&AccessToken(&marks), Some("at+jwt"), &good) && is(&AccessToken(&marks), None, &good));
    for (name, value) in [
        ("nonce", json!("n")),
        ("nonce", json!("")),
        ("at_hash", json!("h")),
        ("c_hash", json!(7)),
        ("s_hash", json!({})),
        ("events", json!({})),
        ("typ", json!("ID")),
        ("typ", json!("Refresh")),
        ("token_use", json!("id")),
        ("token_use", json!(["access"])),
        ("token_type", json!("refresh")),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        assert!(!is(&AccessToken(&marks), None, &claims), "{name}: {value}");
    }
    // If the rule itself lists the value, the value is accepted.
    let own = [rule(&json!({"typ": "JWT-AT"}), &[])];
    assert!(is(&AccessToken(&own), None, &json!({"typ": "JWT-AT"})));
    assert!(!is(&AccessToken(&own), None, &json!({"typ": "JWT-AT", "token_use": "id"})));
}

/// Tokens that are not access tokens, as providers write them: name, header, claims.
#[cfg(not(target_arch = "wasm32"))]
fn others() -> Vec<(&'static str, Option<&'static str>, Value)> {
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let id = json!({"iss": "i", "sub": "s", "aud": "mlflow", "exp": 2, "iat": 1});
    let with = |more: Value| {
        let mut claims = id.clone();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    vec![
        ("the least of an ID token", None, id.clone()),
        (
            "Keycloak, ID",
            Some("JWT"),
            with(json!({"typ": "ID", "azp": "mlflow", "nonce": "n", "sid": "x", "at_hash": "h"})),
        ),
        (
            "Keycloak, ID after a refresh",
            Some("JWT"),
            with(json!({"typ": "ID", "azp": "mlflow", "sid": "x", "at_hash": "h"})),
        ),
        ("Keycloak, refresh", Some("JWT"), with(json!({"typ": "Refresh", "scope": "openid", "sid": "x"}))),
        ("Keycloak, offline", Some("JWT"), with(json!({"typ": "Offline", "scope": "openid", "sid": "x"}))),
        (
            "Keycloak, logout",
            Some("logout+jwt"),
            with(json!({"typ": "Logout", "jti": "j", "events": {event: {}}})),
        ),
        ("Keycloak, registration", Some("JWT"), with(json!({"typ": "RegistrationAccessToken"}))),
        (
            "Keycloak, administrative",
            Some("JWT"),
            json!({"id": "x", "resource": "mlflow", "action": "LOGOUT"}),
        ),
        (
            "Entra ID, ID",
            Some("JWT"),
            with(
                json!({"nonce": "n", "oid": "o", "tid": "t", "rh": "r", "uti": "u", "ver": "2.0", "roles": ["a"]}),
            ),
        ),
        (
            "Entra ID, ID after a refresh",
            Some("JWT"),
            with(
                json!({"oid": "o", "tid": "t", "rh": "r", "uti": "u", "ver": "2.0", "groups": ["g"], "roles": ["a"]}),
            ),
        ),
        (
            "Okta, ID",
            None,
            with(
                json!({"ver": 1, "jti": "ID.x", "amr": ["pwd"], "idp": "00o", "auth_time": 1, "at_hash": "h"}),
            ),
        ),
        (
            "Okta, ID after a refresh",
            None,
            with(json!({"ver": 1, "jti": "ID.x", "amr": ["pwd"], "idp": "00o", "auth_time": 1})),
        ),
        (
            "Auth0, ID",
            Some("JWT"),
            with(json!({"nickname": "n", "picture": "p", "sid": "x", "updated_at": "u"})),
        ),
        (
            "Cognito, ID",
            None,
            with(
                json!({"token_use": "id", "cognito:groups": ["g"], "event_id": "e", "at_hash": "h", "auth_time": 1}),
            ),
        ),
        (
            "Cognito, ID after a refresh",
            None,
            with(json!({"token_use": "id", "cognito:groups": ["g"], "event_id": "e", "auth_time": 1})),
        ),
        (
            "Google, ID",
            Some("JWT"),
            with(json!({"azp": "mlflow", "at_hash": "h", "hd": "example.com", "email": "a@b.c"})),
        ),
        (
            "Zitadel, ID",
            None,
            with(json!({"amr": ["pwd"], "azp": "mlflow", "client_id": "mlflow", "auth_time": 1})),
        ),
        (
            "of a code and token flow",
            Some("JWT"),
            with(json!({"nonce": "n", "at_hash": "h", "c_hash": "c", "s_hash": "s"})),
        ),
        ("logout, plain header", Some("JWT"), with(json!({"jti": "j", "events": {event: {}}, "sid": "x"}))),
        ("logout, no header", None, with(json!({"jti": "j", "events": {event: {}}, "sid": "x"}))),
        ("a refresh token with a type", Some("JWT"), with(json!({"token_type": "refresh", "jti": "j"}))),
        ("DPoP proof", Some("dpop+jwt"), json!({"jti": "j", "htm": "GET", "htu": "u", "iat": 1})),
        ("security event", Some("secevent+jwt"), with(json!({"jti": "j", "events": {}}))),
        (
            "introspection answer",
            Some("token-introspection+jwt"),
            with(json!({"token_introspection": {"active": true, "scope": "a"}})),
        ),
        (
            "authorization response",
            Some("JWT"),
            json!({"iss": "i", "aud": "mlflow", "exp": 2, "code": "c", "state": "s"}),
        ),
    ]
}

/// The `access_token_marks` of every YAML block in the documentation, as the gate reads them.
#[cfg(not(target_arch = "wasm32"))]
fn documented() -> Vec<Vec<AccessTokenMark>> {
    let documents = [
        include_str!("../../../../../docs/configuration.md"),
        include_str!("../../../../../docs/troubleshooting.md"),
    ];
    let blocks = documents.iter().flat_map(|text| text.split("```yaml\n").skip(1));
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let marks = blocks.filter(|block| block.contains("access_token_marks:")).map(|block| {
        let written: Value = serde_saphyr::from_str(block).unwrap();
        let config = json!({
            "public_url": "https://api.example", "client": {"id": "mlflow"}, "bearer": {"audiences": ["mlflow"]},
            "policy": {"users": ["a"]},
            "issuer": {
                "url": "https://idp.example", "cluster": "idp",
                "access_token_marks": written["issuer"]["access_token_marks"],
            },
        });
        crate::config::load(config.to_string().as_bytes(), &|_| None).unwrap().issuer.access_token_marks.into_vec()
    });
    marks.collect()
}

#[test]
#[cfg(not(target_arch = "wasm32"))]
fn f302_no_other_kind_passes_as_an_access_token_under_any_rule_that_the_documents_show() {
    let documented = documented();
    let rules = documented.iter().flatten().filter(|mark| matches!(mark, AccessTokenMark::Claims(_))).count();
    assert!(rules >= 5, "{documented:?}");
    for marks in documented.iter().map(Vec::as_slice).chain([&DEFAULT[..]]) {
        for (name, header, claims) in others() {
            assert!(!is(&AccessToken(marks), header, &claims), "{name} under {marks:?}");
            // A claim that states the kind takes precedence over a match of the rule.
            let told = ["nonce", "at_hash", "events", "typ", "token_use", "token_type"];
            if told.iter().any(|told| claims.get(told).is_some()) {
                let mut claims = claims;
                for more in ["scp", "scope", "cid", "azpacr", "kubernetes.io", "permissions"] {
                    claims[more] = json!("x");
                }
                assert!(
                    !is(&AccessToken(marks), header, &claims),
                    "{name} with more claims, under {marks:?}"
                );
            }
        }
    }
}

#[test]
#[cfg(not(target_arch = "wasm32"))]
fn f302_the_access_tokens_of_each_provider_pass_under_its_rule_and_are_nothing_else() {
    let documented = documented();
    let base = json!({"iss": "i", "sub": "s", "aud": "api", "exp": 2, "iat": 1});
    for (name, more) in [
        (
            "Entra ID, of a person",
            json!({"azp": "app", "azpacr": "1", "scp": "read", "ver": "2.0", "oid": "o"}),
        ),
        (
            "Entra ID, of an application",
            json!({"azp": "app", "azpacr": "1", "roles": ["a"], "ver": "2.0", "oid": "o"}),
        ),
        ("Okta", json!({"cid": "0oa", "scp": ["read"], "ver": 1, "uid": "u"})),
        ("Auth0", json!({"azp": "app", "scope": "read", "permissions": []})),
        ("Cognito", json!({"token_use": "access", "scope": "read", "client_id": "app", "jti": "j"})),
        ("Kubernetes", json!({"kubernetes.io": {"namespace": "default"}, "nbf": 1})),
    ] {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = Some("JWT");
        let passes = |marks: &&Vec<AccessTokenMark>| is(&AccessToken(marks), header, &claims);
        let marks = documented.iter().find(passes).unwrap_or_else(|| panic!("{name} passes nowhere"));
        assert!(!is(&AccessToken(&DEFAULT), header, &claims), "{name}: not by default");
        assert!(!is(&IdToken(marks), header, &claims) && !is(&LogoutToken, header, &claims), "{name}");
    }
}
