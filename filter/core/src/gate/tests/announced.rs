//! What the provider announces: which messages count, whom they mean, and when they are done.

use std::time::Duration;

use serde_json::{Value, json};

use super::back_channel::{FORM, PATH, admin, log_in_again, logout, post, sleep};
use super::{OWN_FORM, forwarded};
use crate::jose::algorithm::Algorithm;
use crate::jose::testing::{TestKey, sign};
use crate::testing::provider::ISSUER;
use crate::testing::world::{World, header, replied};

const ADMIN: &str = "/oauth2/k_logout";

/// The status for a logout token with this header and these changes.
fn with_header(world: &World, header: Value, changes: Value) -> u16 {
    let token = world.provider.logout_token_with(TestKey::Rsa.key_id(), header, world.now(), changes);
    post(world, PATH, &[FORM], &format!("logout_token={token}")).status
}

#[test]
fn f304_a_logout_token_with_a_plain_type_or_none_ends_the_session() {
    for typ in [json!({}), json!({"typ": "JWT"}), json!({"typ": "jwt"}), json!({"typ": "application/jwt"})] {
        for mark in [json!({"typ": null}), json!({"typ": "Logout"})] {
            let world = World::signed_in();
            assert_eq!(with_header(&world, typ.clone(), mark.clone()), 200, "{typ} {mark}");
            assert!(!world.is_in(), "{typ} {mark}");
        }
    }
}

#[test]
fn f304_a_type_of_another_kind_ends_nothing_and_neither_does_a_plain_token_without_the_event() {
    let world = World::signed_in();
    for typ in ["at+jwt", "secevent+jwt", "dpop+jwt", "logout", "JOSE", ""] {
        assert_eq!(with_header(&world, json!({ "typ": typ }), json!({"typ": null})), 400, "{typ}");
    }
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for header in [json!({}), json!({"typ": "JWT"})] {
        for changes in [
            json!({"typ": "ID"}),
            json!({"typ": "Bearer"}),
            json!({"events": null}),
            json!({"events": {"http://example.com": {}}}),
            json!({"events": {event: null}}),
            json!({"events": event}),
            json!({"nonce": "n"}),
            json!({"jti": null}),
            json!({"aud": "other"}),
            json!({"iss": "https://other.example"}),
            json!({"exp": world.now() - 3600}),
        ] {
            assert_eq!(with_header(&world, header.clone(), changes.clone()), 400, "{header} {changes}");
        }
    }
    assert!(world.is_in());
    // It is not accepted as a token of another kind either.
    let token = world.provider.logout_token_with(TestKey::Rsa.key_id(), json!({}), world.now(), json!({}));
    assert_eq!(replied(world.present(&token)).status, 401);
    assert_eq!(post(&world, ADMIN, &[], &token).status, 400);
    let world = World::new();
    *world.provider.raw_id_token.borrow_mut() = Some(token);
    let request = world.begin_login("/");
    assert!(replied(world.finish_login(&request, "code")).status >= 400, "no session of a logout token");
}

/// The status for a Keycloak message with these additional members.
fn k_logout(world: &World, id: &str, members: Value) -> u16 {
    let now = world.now();
    let mut claims = json!({
        "id": id, "expiration": now + 30, "resource": "mlflow", "action": "LOGOUT", "notBefore": now,
    });
    claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let message = sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), json!({"typ": "JWT"}), claims);
    post(world, ADMIN, &[], &message).status
}

#[test]
fn f1002_a_list_of_sessions_that_cannot_be_read_never_means_everybody() {
    let world = World::signed_in();
    let old = json!({"iat": world.now() - 5});
    let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    for (index, wrong) in [
        json!("abc"),
        json!({}),
        json!(null),
        json!(1),
        json!(true),
        json!([1]),
        json!(["x", null]),
        json!(many),
    ]
    .into_iter()
    .enumerate()
    {
        for name in ["keycloakSessionIds", "adapterSessionIds"] {
            let id = format!("{name}-{index}");
            assert_eq!(k_logout(&world, &id, json!({ name: wrong.clone() })), 400, "{name}: {wrong:.50}");
            let both = json!({"keycloakSessionIds": [], "adapterSessionIds": [], name: wrong.clone()});
            assert_eq!(k_logout(&world, &format!("{id}-both"), both), 400, "{name}: {wrong:.50}");
        }
    }
    assert!(world.is_in());
    forwarded(world.bearer(old));
}

#[test]
fn f1002_null_in_a_logout_token_never_means_all_sessions_of_a_user() {
    let world = World::signed_in();
    for name in ["sid", "sub"] {
        let now = world.now();
        let mut claims = json!({
            "iss": ISSUER, "aud": "mlflow", "sub": "s-1", "sid": "other", "jti": name, "iat": now, "exp": now + 120,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        claims[name] = Value::Null;
        let header = json!({"typ": "logout+jwt"});
        let token = sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), header, claims);
        assert_eq!(post(&world, PATH, &[FORM], &format!("logout_token={token}")).status, 400, "{name}");
    }
    assert!(world.is_in());
}

#[test]
fn f1002_a_list_that_names_no_session_of_ours_ends_nobody() {
    let world = World::signed_in();
    for (index, nobody) in [
        json!({"keycloakSessionIds": []}),
        json!({"adapterSessionIds": []}),
        json!({"adapterSessionIds": ["sid-1"]}),
        json!({"adapterSessionIds": ["sid-1"], "keycloakSessionIds": []}),
        json!({"adapterSessionIds": [], "keycloakSessionIds": ["sid-2"]}),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(k_logout(&world, &index.to_string(), nobody.clone()), 200, "{nobody}");
        assert!(world.is_in(), "{nobody}");
        forwarded(world.bearer(json!({"iat": world.now() - 5})));
    }
    let ours = json!({"adapterSessionIds": ["x"], "keycloakSessionIds": ["sid-1"]});
    assert_eq!(k_logout(&world, "ours", ours), 200);
    assert!(!world.is_in());
    forwarded(world.bearer(json!({"iat": world.now() - 5, "sid": "sid-3"})));
}

/// The first delivery fails because Redis is unavailable. The provider, or a proxy, delivers the token again.
#[test]
fn f1003_a_logout_whose_first_delivery_failed_is_carried_out_by_the_second() {
    let world = World::signed_in();
    let other = world.other_envoy();
    let token = json!({"sid": "sid-1"});
    forwarded(world.bearer(token.clone()));
    sleep(&other, 1);
    let message = world.provider.logout_token(world.now(), json!({}));
    let form = format!("logout_token={message}");
    // Redis would accept a note that the message was processed, but not its revocations.
    world.redis.refuse(b"XADD");
    let first = post(&other, PATH, &[FORM], &form);
    assert_eq!((first.status, header(&first, "retry-after")), (400, Some("5")));
    // That Envoy stops before it can retry.
    drop(other);
    world.redis.refuse_nothing();
    assert!(world.is_in(), "this one has heard of nothing");
    assert_eq!(post(&world, PATH, &[FORM], &form).status, 200);
    assert!(!world.is_in());
    assert_eq!(replied(world.bearer(token)).status, 401);
}

#[test]
fn f1003_a_message_of_keycloaks_whose_first_delivery_failed_is_carried_out_by_the_second() {
    let world = World::signed_in();
    let other = world.other_envoy();
    let message = world.provider.admin_action(world.now(), "LOGOUT", json!({}));
    world.redis.refuse(b"XADD");
    assert_eq!(post(&other, ADMIN, &[], &message).status, 400);
    drop(other);
    world.redis.refuse_nothing();
    assert_eq!(post(&world, ADMIN, &[], &message).status, 200);
    assert!(!world.is_in());
    // A replay of a processed message does not end newer sessions.
    world.host.advance(Duration::from_secs(1));
    log_in_again(&world);
    assert_eq!(post(&world, ADMIN, &[], &message).status, 200);
    assert!(world.is_in());
}

/// Without `sid`, sessions of the same second are ended by name. If Redis cannot list them, the logout fails.
#[test]
fn f1003_a_logout_whose_sessions_could_not_be_listed_is_not_done() {
    let world = World::signed_in();
    let by_user = world.provider.logout_token(world.now(), json!({"sid": null}));
    let form = format!("logout_token={by_user}");
    world.redis.refuse(b"ZREVRANGE");
    assert_eq!(post(&world, PATH, &[FORM], &form).status, 400);
    world.redis.refuse_nothing();
    assert_eq!(post(&world, PATH, &[FORM], &form).status, 200);
    assert!(!world.is_in());
}

/// `iat` counts whole seconds, so it does not tell which came first.
#[test]
fn f1004_a_token_of_the_very_second_of_a_logout_of_its_user_ends_on_every_envoy() {
    let world = World::signed_in();
    world.host.advance(Duration::from_secs(2));
    let other = world.other_envoy();
    let same = json!({"iat": world.now()});
    forwarded(world.bearer(same.clone()));
    assert_eq!(logout(&world, json!({"sid": null})).status, 200);
    sleep(&other, 1);
    for envoy in [&world, &other] {
        let ended = |changes: &Value| {
            let token = world.provider.access_token(world.now(), changes.clone());
            let decision = envoy.present(&token);
            matches!(decision, crate::gate::Decision::Reply { .. })
        };
        assert!(ended(&same) && ended(&json!({"iat": world.now() - 1})));
        assert!(ended(&json!({"iat": null})), "one that does not say may have been issued before anything");
        assert!(!ended(&json!({"iat": world.now() + 1})) && !ended(&json!({"sub": "s-2"})));
    }
}

/// Sessions of that second are ended by name. So a new session lives, and the login does not loop.
#[test]
fn f1004_a_login_in_the_very_second_of_a_logout_of_its_user_lives() {
    let world = World::signed_in();
    world.host.advance(Duration::from_secs(2));
    assert_eq!(logout(&world, json!({"sid": null})).status, 200);
    assert!(!world.is_in());
    log_in_again(&world);
    let other = world.other_envoy().with_cookies_of(&world);
    sleep(&other, 1);
    assert!(world.is_in() && other.is_in());
}

#[test]
fn f1004_tokens_of_the_second_in_which_somebody_signs_out_everywhere_end() {
    let world = World::signed_in();
    assert_eq!(
        replied(world.browse("POST", "/oauth2/account/sign-out?everywhere=true", OWN_FORM)).status,
        303
    );
    assert_eq!(replied(world.bearer(json!({"iat": world.now()}))).status, 401);
    forwarded(world.bearer(json!({"iat": world.now() + 1})));
}

#[test]
fn f1002_logout_all_still_means_everybody() {
    let world = World::signed_in();
    assert_eq!(admin(&world, ADMIN, "LOGOUT", json!({})).status, 200);
    assert!(!world.is_in());
}
