//! Bearer tokens, and the keys that verify them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{forwarded, mlflow};
use crate::jose::algorithm::Algorithm;
use crate::jose::testing::{TestKey, sign};
use crate::testing::provider::ISSUER;
use crate::testing::world::{NAVIGATION, World, header, replied};

#[test]
fn bearer_tokens_are_checked_whole() {
    let world = World::new();
    let now = world.now();
    let send = |changes: Value| {
        let token = world.provider.access_token(now, changes);
        world.send("GET", "/api", &[("authorization", &format!("Bearer {token}"))])
    };
    forwarded(send(json!({})));
    forwarded(send(json!({"aud": ["other", "mlflow"]})));
    for (what, changes) in [
        ("BT06 ID token", json!({"typ": "ID"})),
        ("BT06 refresh token", json!({"typ": "Refresh"})),
        ("BT07 aud", json!({"aud": "account"})),
        ("BT07 aud list", json!({"aud": ["other"]})),
        ("BT07 aud prefix", json!({"aud": "mlflow1"})),
        ("BT07 aud object", json!({"aud": {"mlflow": 1}})),
        ("BT07 aud empty", json!({"aud": []})),
        ("iss", json!({"iss": "https://idp.example/realms/other"})),
        ("BT08 exp", json!({"exp": now - 61})),
        ("BT08 nbf", json!({"nbf": now + 120})),
        ("BT08 iat", json!({"iat": now + 120})),
        ("BT13 cnf", json!({"cnf": {"jkt": "x"}})),
        ("sub", json!({"sub": ""})),
        ("BT16 groups", json!({"groups": {"mlflow_users": true}})),
    ] {
        let reply = replied(send(changes));
        assert_eq!(reply.status, 401, "{what}");
        assert!(header(&reply, "www-authenticate").unwrap().contains("error=\"invalid_token\""), "{what}");
    }
    for groups in [json!([]), json!(["/other"]), json!(["/x/mlflow_users"]), json!(["mlflow_users "])] {
        let reply = replied(send(json!({"groups": groups})));
        assert_eq!(reply.status, 403, "BT16 BT17 {groups}");
        assert!(reply.body.contains("PERMISSION_DENIED"));
    }
}

#[test]
fn bt12_a_bad_bearer_never_falls_back_to_the_cookie() {
    let world = World::signed_in();
    for value in ["Bearer bad", "Basic dTpw", "Bearer x, Bearer y"] {
        let headers = [NAVIGATION, &[("authorization", value)]].concat();
        assert_eq!(replied(world.browse("GET", "/", &headers)).status, 401, "{value}");
    }
}

#[test]
fn bt15_a_verdict_belongs_to_the_whole_token_and_ends_with_it() {
    let world = World::new();
    let token = world.provider.access_token(world.now(), json!({}));
    forwarded(world.present(&token));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let other = world.provider.access_token(world.now(), json!({"sub": "s-2"}));
    let grafted = format!("{signed}.{}", other.rsplit_once('.').unwrap().1);
    assert_eq!(replied(world.present(&grafted)).status, 401);
    forwarded(world.present(&token));
    world.host.advance(Duration::from_secs(361));
    assert_eq!(replied(world.present(&token)).status, 401);
}

#[test]
fn jw09_a_key_that_is_new_is_fetched_once() {
    let world = World::with(mlflow());
    forwarded(world.send("GET", "/health", &[]));
    let send = |kid: &str| {
        let token = sign(
            Algorithm::Rs256,
            Some(kid),
            json!({"typ": "at+jwt"}),
            json!({
                "iss": ISSUER, "sub": "s-1", "aud": "mlflow", "exp": world.now() + 300, "groups": ["/mlflow_users"],
            }),
        );
        world.present(&token)
    };
    forwarded(send("rsa"));
    assert_eq!(world.provider.jwks_requests.get(), 1);
    *world.provider.keys.borrow_mut() = json!({"keys": [TestKey::Rsa.jwk("rotated")]});
    forwarded(send("rotated"));
    assert_eq!(world.provider.jwks_requests.get(), 2);
    for _ in 0..20 {
        assert_eq!(replied(send("unknown")).status, 401);
    }
    assert_eq!(world.provider.jwks_requests.get(), 2, "LO15: garbage does not make us fetch");
    assert_eq!(replied(send("rsa")).status, 401, "JW08: a key that is gone verifies nothing");
}

/// Found by the simulator (seed 12180): a token that may be valid must not be refused only because the provider is
/// slow.
#[test]
fn jw13_a_token_whose_key_cannot_be_asked_for_is_503_and_not_refused() {
    let world = World::new();
    let send = |kid: &str| {
        let claims = json!({
            "iss": ISSUER, "sub": "s-1", "aud": "mlflow", "exp": world.now() + 300, "groups": ["/mlflow_users"],
        });
        let token = sign(Algorithm::Rs256, Some(kid), json!({"typ": "at+jwt"}), claims);
        world.present(&token)
    };
    forwarded(send("rsa"));
    world.provider.down.set(true);
    *world.provider.keys.borrow_mut() = json!({"keys": [TestKey::Rsa.jwk("rotated")]});
    let reply = replied(send("rotated"));
    assert_eq!((reply.status, header(&reply, "retry-after").is_some()), (503, true));
    forwarded(send("rsa"));
    world.provider.down.set(false);
    world.host.advance(Duration::from_secs(40));
    forwarded(send("rotated"));
}

#[test]
fn jw05_the_last_good_keys_serve_while_the_provider_is_down() {
    let world = World::new();
    let send = || world.bearer(json!({}));
    forwarded(send());
    world.provider.down.set(true);
    world.host.advance(Duration::from_secs(3600));
    forwarded(send());
    world.host.advance(Duration::from_secs(86_400));
    assert_eq!(replied(send()).status, 503, "too stale");
}
