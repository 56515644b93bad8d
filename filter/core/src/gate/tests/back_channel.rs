//! The provider ends sessions: logout tokens, Keycloak's administrative messages, and what they must not do.

use std::time::Duration;

use serde_json::{Value, json};

use super::forwarded;
use crate::host::CalloutError;
use crate::http::body::Body;
use crate::http::reply::Reply;
use crate::jose::testing::TestKey;
use crate::testing::world::{World, header, replied};

pub(super) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(super) const PATH: &str = "/oauth2/backchannel-logout";

pub(super) fn post(world: &World, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    replied(world.send_with("POST", path, headers, Body::of(body)))
}

pub(super) fn logout(world: &World, changes: Value) -> Reply {
    let token = world.provider.logout_token(world.now(), changes);
    post(world, PATH, &[FORM], &format!("logout_token={token}"))
}

pub(super) fn log_in_again(world: &World) {
    world.provider.id_token.borrow_mut()["iat"] = world.now().into();
    world.log_in("/");
}

pub(super) fn sleep(world: &World, seconds: u64) {
    world.sleep(Duration::from_secs(seconds));
}

#[test]
fn a_logout_token_ends_sessions_and_bearer_tokens_of_its_sid_at_once() {
    let world = World::signed_in();
    assert!(world.is_in());
    let reply = logout(&world, json!({}));
    assert_eq!((reply.status, header(&reply, "cache-control")), (200, Some("no-store")));
    assert!(!world.is_in());
    assert_eq!(replied(world.bearer(json!({"sid": "sid-1"}))).status, 401);
    forwarded(world.bearer(json!({"sid": "sid-2"})));
    forwarded(world.bearer(json!({})));
    world.sleep(Duration::from_millis(100));
    assert_eq!(world.sessions(), 0, "the record goes, too");
    world.provider.id_token.borrow_mut()["sid"] = "sid-9".into();
    world.log_in("/");
    assert!(world.is_in(), "a new login is not touched");
}

#[test]
fn lo13_without_sid_all_sessions_of_this_user_end_and_nobody_elses() {
    let world = World::signed_in();
    world.host.advance(Duration::from_secs(2));
    assert_eq!(logout(&world, json!({"sid": null, "sub": "s-2"})).status, 200);
    assert!(world.is_in(), "somebody else");
    assert_eq!(logout(&world, json!({"sid": null, "jti": "another"})).status, 200);
    assert!(!world.is_in());
    let old = json!({"iat": world.now() - 1});
    assert_eq!(replied(world.bearer(old)).status, 401, "tokens from before");
    log_in_again(&world);
    assert!(world.is_in(), "a login of the same second, after it");
    forwarded(world.bearer(json!({"iat": world.now() + 1})));
}

#[test]
fn lo01_to_lo10_what_is_no_logout_token_ends_nothing() {
    let world = World::signed_in();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for change in [
        json!({"aud": "other"}),
        json!({"aud": ["mlflow", "other"]}),
        json!({"aud": null}),
        json!({"iss": "https://other.example"}),
        json!({"iss": null}),
        json!({"events": null}),
        json!({"events": []}),
        json!({"events": event}),
        json!({"events": {"http://example.com": {}}}),
        json!({"events": {event: null}}),
        json!({"events": {event: true}}),
        json!({"nonce": "n"}),
        json!({"nonce": 1}),
        json!({"sub": null, "sid": null}),
        json!({"sid": 1}),
        json!({"sub": 1, "sid": null}),
        json!({"iat": null}),
        json!({"iat": "now"}),
        json!({"iat": world.now() - 3600, "exp": world.now() + 60}),
        json!({"iat": world.now() + 3600}),
        json!({"exp": null}),
        json!({"exp": world.now() - 3600}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 1}),
        json!({"typ": "ID"}),
        json!({"typ": "Bearer"}),
    ] {
        let reply = logout(&world, change.clone());
        assert_eq!((reply.status, header(&reply, "cache-control")), (400, Some("no-store")), "{change}");
        assert!(world.is_in(), "{change}");
    }
    let good = world.provider.logout_token(world.now(), json!({}));
    let parts: Vec<_> = good.split('.').collect();
    let none = crate::encoding::base64url(r#"{"alg":"none","typ":"logout+jwt"}"#);
    let hs = crate::encoding::base64url(r#"{"alg":"HS256","typ":"logout+jwt"}"#);
    let id_token = world.provider.signed(world.provider.id_token.borrow().clone());
    for token in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{hs}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(342)),
        format!("{good}x"),
        id_token,
        world.provider.access_token(world.now(), json!({})),
        String::new(),
        "x".repeat(60_000),
    ] {
        let reply = post(&world, PATH, &[FORM], &format!("logout_token={token}"));
        assert_eq!(reply.status, 400, "{token:.60}");
        assert!(world.is_in());
    }
    assert_eq!(replied(world.present(&good)).status, 401, "lo10: a logout token is no bearer token");
}

#[test]
fn lo11_the_form_has_one_logout_token_and_comes_by_post() {
    let world = World::signed_in();
    let token = world.provider.logout_token(world.now(), json!({}));
    let form = format!("logout_token={token}");
    let json_body = json!({"logout_token": token}).to_string();
    for (headers, body) in [
        (&[][..], form.as_str()),
        (&[("content-type", "application/json")], &json_body),
        (&[("content-type", "text/plain")], &form),
        (&[FORM], &format!("{form}&{form}")),
        (&[FORM], "a=b"),
        (&[FORM], ""),
        (&[FORM], &format!("{form}&a={}", "x".repeat(1 << 20))),
    ] {
        assert_eq!(post(&world, PATH, headers, body).status, 400, "{headers:?} {body:.40}");
        assert!(world.is_in());
    }
    let in_query = format!("{PATH}?{form}");
    assert_eq!(post(&world, &in_query, &[FORM], "a=b").status, 400);
    for method in ["GET", "PUT", "DELETE"] {
        let reply = replied(world.send(method, &in_query, &[FORM]));
        assert_eq!((reply.status, header(&reply, "allow")), (405, Some("POST")));
    }
    assert!(world.is_in());
    let utf8 = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");
    assert_eq!(post(&world, PATH, &[utf8], &format!("a=b&{form}")).status, 200);
    assert!(!world.is_in());
}

/// The provider has just rotated its keys, while tokens with made-up key ids use up the limit for key fetches.
#[test]
fn a_logout_token_whose_key_may_not_be_fetched_yet_counts_as_soon_as_it_may() {
    let world = World::signed_in();
    let by = |key_id: &str, changes: Value| {
        let token = world.provider.logout_token_signed_by(key_id, world.now(), changes);
        post(&world, PATH, &[FORM], &format!("logout_token={token}")).status
    };
    assert_eq!(by("made-up", json!({})), 400);
    *world.provider.keys.borrow_mut() = json!({"keys": [TestKey::Rsa.jwk("rotated")]});
    assert_eq!(by("rotated", json!({})), 400);
    assert!(world.is_in());
    sleep(&world, 12);
    assert!(!world.is_in());
    assert_eq!(
        world.provider.jwks_requests.get(),
        3,
        "at the start, for the made-up key, and when it was time"
    );
}

/// The same while the provider's keys are unavailable: it sends no logout token twice.
#[test]
fn a_logout_token_whose_key_cannot_be_asked_for_counts_as_soon_as_it_can() {
    let world = World::signed_in();
    *world.provider.keys.borrow_mut() = json!({"keys": [TestKey::Rsa.jwk("rotated")]});
    world.provider.down.set(true);
    let token = world.provider.logout_token_signed_by("rotated", world.now(), json!({}));
    assert_eq!(post(&world, PATH, &[FORM], &format!("logout_token={token}")).status, 400);
    world.provider.down.set(false);
    sleep(&world, 15);
    assert!(!world.is_in());
}

#[test]
fn lo15_messages_with_unknown_keys_that_are_kept_for_later_are_few() {
    let world = World::signed_in();
    for number in 0..200 {
        let token =
            world.provider.logout_token_signed_by(&format!("made-up-{number}"), world.now(), json!({}));
        assert_eq!(post(&world, PATH, &[FORM], &format!("logout_token={token}")).status, 400);
    }
    let kept = |world: &World| {
        world.host.log_lines().iter().filter(|line| line.contains("after the next key fetch")).count()
    };
    assert_eq!(kept(&world), 64);
    sleep(&world, 25);
    assert!(world.is_in());
    let token = world.provider.logout_token_signed_by("made-up", world.now(), json!({}));
    assert_eq!(post(&world, PATH, &[FORM], &format!("logout_token={token}")).status, 400);
    let token = world.provider.logout_token_signed_by("made-up-too", world.now(), json!({}));
    assert_eq!(post(&world, PATH, &[FORM], &format!("logout_token={token}")).status, 400);
    assert!(kept(&world) > 64, "there is room again");
}

/// Without `allow_on_headers_stop_iteration` the gate gets no body. The message is lost, and the log names the cause.
#[test]
fn a_logout_message_that_envoy_does_not_hand_over_is_said_to_be_one() {
    let world = World::signed_in();
    let (_arrival, body) = Body::arriving();
    let decision = world.send_with("POST", PATH, &[FORM], body);
    let crate::gate::Decision::Reply { reply, reason } = decision else { panic!("it is ours") };
    assert_eq!((reply.status, &*reason), (400, "body_unavailable"));
    let lines = world.host.log_lines();
    assert!(lines.iter().any(|line| line.starts_with("Error refused:") && line.contains("body_unavailable")));
    assert!(world.is_in());
}

#[test]
fn lo12_a_logout_of_nobody_we_know_is_fine() {
    let world = World::signed_in();
    assert_eq!(logout(&world, json!({"sid": "unknown", "extra": [1]})).status, 200);
    assert!(world.is_in());
}

#[test]
fn lo09_a_logout_token_that_comes_again_does_not_end_a_new_session() {
    let world = World::signed_in();
    world.host.advance(Duration::from_secs(2));
    let token = world.provider.logout_token(world.now(), json!({"sid": null}));
    let form = format!("logout_token={token}");
    assert_eq!(post(&world, PATH, &[FORM], &form).status, 200);
    assert!(!world.is_in());
    log_in_again(&world);
    assert_eq!(post(&world, PATH, &[FORM], &form).status, 200);
    assert!(world.is_in());
}

#[test]
fn a_logout_while_redis_is_away_counts_here_at_once_and_elsewhere_as_soon_as_redis_is_back() {
    let world = World::signed_in();
    assert!(world.is_in());
    world.redis.set_down(Some(CalloutError::Reset));
    let reply = logout(&world, json!({}));
    assert_eq!((reply.status, header(&reply, "retry-after")), (400, Some("5")), "it is not complete");
    assert!(!world.is_in());
    world.redis.set_down(None);
    world.sleep(Duration::from_secs(2));
    // Another Envoy: it shares only Redis.
    let other = world.other_envoy();
    let cookies: Vec<_> = world.cookies.borrow().iter().map(|(n, v)| format!("{n}={v}")).collect();
    let token = world.provider.access_token(world.now(), json!({"sid": "sid-1"}));
    other.sleep(Duration::from_secs(1));
    assert_eq!(replied(other.send("GET", "/", &[("cookie", &cookies.join("; "))])).status, 401);
    assert_eq!(replied(other.present(&token)).status, 401);
}

#[test]
fn a_redis_that_lost_everything_is_noticed_and_no_memory_outlives_it() {
    let world = World::signed_in();
    logout(&world, json!({"sid": "other"}));
    assert!(world.is_in());
    world.sleep(Duration::from_secs(1));
    world.redis.forget_everything();
    world.sleep(Duration::from_secs(1));
    assert!(!world.is_in(), "what Redis has is right");
}

/// Redis expires a stream without new entries after as long as revocations matter. That is not a loss.
#[test]
fn a_log_that_ended_by_itself_is_no_loss() {
    let said = |world: &World| {
        let lines = world.host.log_lines();
        lines.iter().filter(|line| line.contains("revocation stream was reset or trimmed")).count()
    };
    let world = World::signed_in();
    logout(&world, json!({"sid": "other", "jti": "1"}));
    sleep(&world, 1);
    world.host.advance(Duration::from_secs(7 * 24 * 3600));
    world.redis.forget_everything();
    sleep(&world, 1);
    assert_eq!(said(&world), 0);
    logout(&world, json!({"sid": "other", "jti": "2"}));
    sleep(&world, 1);
    world.redis.forget_everything();
    sleep(&world, 1);
    assert_eq!(said(&world), 1, "a loss is one");
}

/// Sessions may go on meanwhile, and tokens do. No other error would show the problem.
#[test]
fn a_log_that_cannot_be_read_for_seconds_is_said_once_and_when_it_is_over() {
    let world = World::signed_in();
    // Two workers take turns.
    let _other = world.other_worker();
    let said = |what: &str| world.host.log_lines().iter().filter(|line| line.contains(what)).count();
    world.redis.set_down(Some(CalloutError::Reset));
    sleep(&world, 3);
    assert_eq!(said("can't be read"), 0, "such things pass");
    sleep(&world, 15);
    assert_eq!(said("Error revocation stream can't be read"), 1);
    assert!(said("connection lost") >= 1, "{:?}", world.host.log_lines());
    world.redis.set_down(None);
    sleep(&world, 2);
    assert_eq!(said("Info revocation stream can be read again"), 1);
    // Each outage is timed separately.
    world.redis.set_down(Some(CalloutError::Reset));
    sleep(&world, 3);
    assert_eq!(said("Error revocation stream can't be read"), 1);
}

/// An Envoy could not read for so long that entries were trimmed before it read them.
#[test]
fn a_log_that_was_trimmed_behind_us_is_noticed_and_no_memory_outlives_it() {
    let world = World::signed_in();
    logout(&world, json!({"sid": "other", "jti": "1"}));
    sleep(&world, 1);
    let cookies = world.cookies.borrow().clone();
    let other = world.other_envoy();
    other.cookies.replace(cookies);
    assert!(world.is_in());
    assert_eq!(other.sign_out().status, 303);
    logout(&other, json!({"sid": "another", "jti": "2"}));
    world.redis.trim_log();
    assert!(world.is_in(), "it has not looked yet");
    sleep(&world, 1);
    assert!(!world.is_in());
}

pub(super) fn admin(world: &World, path: &str, action: &str, changes: Value) -> Reply {
    post(world, path, &[], &world.provider.admin_action(world.now(), action, changes))
}

#[test]
fn keycloaks_logout_all_ends_what_was_issued_until_then() {
    let world = World::signed_in();
    assert_eq!(admin(&world, "/oauth2/k_logout", "LOGOUT", json!({})).status, 200);
    assert!(!world.is_in());
    assert_eq!(replied(world.bearer(json!({"iat": world.now() - 5}))).status, 401);
    world.host.advance(Duration::from_secs(1));
    log_in_again(&world);
    assert!(world.is_in(), "a login afterwards");

    let world = World::signed_in();
    let some = json!({"keycloakSessionIds": ["other", "sid-1"]});
    assert_eq!(admin(&world, "/oauth2/k_logout", "LOGOUT", some).status, 200);
    assert!(!world.is_in());
    forwarded(world.bearer(json!({"sid": "sid-3"})));
}

/// A session that begins in that second would be ended at once.
#[test]
fn a_login_in_the_very_second_of_keycloaks_logout_all_is_asked_for_once_more() {
    let world = World::signed_in();
    assert_eq!(admin(&world, "/oauth2/k_logout", "LOGOUT", json!({})).status, 200);
    let request = world.begin_login("/deep?link=1");
    let sessions = || world.redis.keys().iter().filter(|key| key.starts_with("mlflow:s:")).count();
    let (before, known) = (world.now(), sessions());
    let reply = replied(world.finish_login(&request, "code"));
    assert_eq!(reply.status, 302, "back to the provider");
    assert!(world.now() > before, "no sooner than in the next second");
    assert_eq!(sessions(), known, "and without a session");
    let location = url::Url::parse(header(&reply, "location").unwrap()).unwrap();
    let request = location.query_pairs().into_owned().collect();
    world.provider.id_token.borrow_mut()["iat"] = world.now().into();
    let reply = replied(world.finish_login(&request, "another-code"));
    assert_eq!((reply.status, header(&reply, "location")), (303, Some("/deep?link=1")));
    assert!(world.is_in());
}

/// Found by the simulator (seed 3860): tokens issued in the last second survived if our clock was slightly behind.
#[test]
fn keycloaks_logout_all_goes_by_keycloaks_clock() {
    let world = World::signed_in();
    let now = world.now();
    let ahead = json!({"notBefore": now + 1, "expiration": now + 31});
    forwarded(world.bearer(json!({"iat": now + 1})));
    assert_eq!(admin(&world, "/oauth2/k_logout", "LOGOUT", ahead).status, 200);
    assert_eq!(replied(world.bearer(json!({"iat": now + 1}))).status, 401, "issued in that very second");
}

#[test]
fn keycloaks_not_before_voids_what_was_issued_earlier_and_nothing_else() {
    let world = World::signed_in();
    let now = world.now();
    assert_eq!(
        admin(&world, "/oauth2/k_push_not_before", "PUSH_NOT_BEFORE", json!({"notBefore": now})).status,
        200
    );
    assert!(world.is_in(), "issued in this second");
    world.host.advance(Duration::from_secs(1));
    let later = json!({"notBefore": now + 1, "id": "2"});
    assert_eq!(admin(&world, "/oauth2/k_push_not_before", "PUSH_NOT_BEFORE", later).status, 200);
    assert!(!world.is_in());
    forwarded(world.bearer(json!({})));
}

#[test]
fn lo08_an_administrative_message_is_checked_as_strictly_as_a_logout_token() {
    let world = World::signed_in();
    let path = "/oauth2/k_logout";
    let now = world.now();
    for change in [
        json!({"resource": "other"}),
        json!({"resource": null}),
        json!({"action": "PUSH_NOT_BEFORE"}),
        json!({"action": null}),
        json!({"expiration": now - 3600}),
        json!({"expiration": null}),
        json!({"expiration": "never"}),
        json!({"expiration": now + 86_400}),
        json!({"id": null}),
        json!({"id": ""}),
        json!({"iss": "x"}),
        json!({"sub": "x"}),
        json!({"aud": "mlflow"}),
        json!({"typ": "ID"}),
        json!({"notBefore": "x"}),
        json!({"keycloakSessionIds": [1]}),
    ] {
        assert_eq!(admin(&world, path, "LOGOUT", change.clone()).status, 400, "{change}");
        assert!(world.is_in(), "{change}");
    }
    let future = json!({"notBefore": now + 86_400});
    assert_eq!(admin(&world, "/oauth2/k_push_not_before", "PUSH_NOT_BEFORE", future).status, 400);
    for body in ["", "x", "a.b.c", &world.provider.logout_token(now, json!({}))] {
        assert_eq!(post(&world, path, &[], body).status, 400);
    }
    let id_token = world.provider.signed(world.provider.id_token.borrow().clone());
    assert_eq!(post(&world, path, &[], &id_token).status, 400);
    assert_eq!(replied(world.send("GET", path, &[])).status, 405);
    assert!(world.is_in());
    let message = world.provider.admin_action(now, "LOGOUT", json!({}));
    assert_eq!(replied(world.present(&message)).status, 401);
}

#[test]
fn with_a_check_interval_the_provider_is_asked_about_bearer_tokens() {
    let world = World::changed(|config| {
        config.bearer.as_mut().unwrap().check_interval = Some(Duration::from_secs(10))
    });
    let token = world.provider.access_token(world.now(), json!({}));
    let authorization = format!("Bearer {token}");
    let ask = || world.send("GET", "/", &[("authorization", &authorization)]);
    forwarded(ask());
    forwarded(ask());
    assert_eq!(world.provider.introspections.get(), 1);
    world.host.advance(Duration::from_secs(10));
    world.provider.active.set(false);
    for _ in 0..100 {
        assert_eq!(replied(ask()).status, 401);
    }
    assert_eq!(world.provider.introspections.get(), 2, "f902: not once for each request");
    world.provider.active.set(true);
    world.provider.down.set(true);
    world.host.advance(Duration::from_secs(10));
    assert_eq!(replied(ask()).status, 503, "unchecked is not good enough");
    world.provider.down.set(false);
    assert_eq!(replied(ask()).status, 503, "the provider is left alone for a second");
    world.host.advance(Duration::from_secs(1));
    forwarded(ask());
}
