//! Sessions: Redis away or tampered with, timeouts, sign-out, other sites, rotated keys.

use std::time::Duration;

use serde_json::json;
use vec1::vec1;

use super::{API, OWN_FORM, forwarded};
use crate::gate::{Decision, Gate};
use crate::host::{CalloutError, Host};
use crate::secret::Secret;
use crate::testing::world::{NAVIGATION, World, config, header, replied};

#[test]
fn ss04_redis_down_is_503_and_never_a_login_nor_anonymous() {
    let world = World::signed_in();
    world.host.advance(Duration::from_secs(6));
    world.redis.set_down(Some(CalloutError::Reset));
    for headers in [NAVIGATION, API] {
        let reply = replied(world.browse("GET", "/", headers));
        assert_eq!((reply.status, header(&reply, "retry-after")), (503, Some("5")));
        assert_eq!(header(&reply, "set-cookie"), None, "the session is not given up");
    }
    forwarded(world.bearer(json!({})));
    world.redis.set_down(None);
    forwarded(world.navigate("/"));
}

#[test]
fn with_redis_down_a_cached_session_serves_until_its_time() {
    let world = World::signed_in();
    forwarded(world.navigate("/"));
    world.redis.set_down(Some(CalloutError::NotSent));
    forwarded(world.navigate("/"));
    world.host.advance(Duration::from_secs(6));
    assert_eq!(replied(world.navigate("/")).status, 503);
}

#[test]
fn ss05_a_record_that_was_changed_in_redis_is_no_session() {
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 5] = [
        |record| record.truncate(20),
        |record| record.clear(),
        |record| *record.last_mut().unwrap() ^= 1,
        |record| record[0] = 2,
        |record| *record = b"{\"schema\":1}".to_vec(),
    ];
    for change in changes {
        let world = World::signed_in();
        world.redis.tamper(change);
        world.host.advance(Duration::from_secs(6));
        assert_eq!(world.status(), 401);
        assert_eq!(replied(world.navigate("/")).status, 302);
    }
}

#[test]
fn ck09_sessions_end_when_idle_when_old_and_when_signed_out() {
    let world = World::signed_in();
    for _ in 0..10 {
        world.host.advance(Duration::from_secs(3000));
        forwarded(world.navigate("/"));
        world.host.run_jobs();
    }
    world.host.advance(Duration::from_secs(3601));
    assert_eq!(world.status(), 401, "idle");

    let world = World::signed_in();
    for _ in 0..20 {
        world.host.advance(Duration::from_secs(2200));
        if matches!(world.browse("GET", "/", API), Decision::Reply { .. }) {
            break;
        }
        world.host.run_jobs();
    }
    assert_eq!(world.status(), 401, "absolute");

    let world = World::signed_in();
    let captured = world.cookies.borrow().clone();
    let reply = world.sign_out();
    let location = url::Url::parse(header(&reply, "location").unwrap()).unwrap();
    assert_eq!(location.path(), "/realms/mlflow/protocol/openid-connect/logout");
    let query: std::collections::BTreeMap<_, _> = location.query_pairs().into_owned().collect();
    assert_eq!(query["post_logout_redirect_uri"], "https://mlflow.example/oauth2/signed-out");
    assert!(query["id_token_hint"].starts_with("ey") && query["state"].len() >= 22);
    assert!(!world.cookies.borrow().contains_key("__Host-oidc-gate"));
    *world.cookies.borrow_mut() = captured;
    assert_eq!(world.status(), 401, "a captured cookie is worth nothing");
    assert_eq!(replied(world.navigate("/oauth2/signed-out?state=wrong")).status, 200, "LO17");
}

#[test]
fn lo16_another_site_cannot_sign_anybody_out() {
    let world = World::signed_in();
    for (method, headers) in [
        ("POST", &[("sec-fetch-site", "cross-site")][..]),
        ("POST", &[("origin", "https://evil.example")]),
        ("POST", &[("origin", "null")]),
        ("GET", &[("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "image")]),
        ("GET", &[("sec-fetch-site", "same-site"), ("sec-fetch-dest", "iframe")]),
        // Markup that users write into a description, which the application shows on our own origin.
        ("GET", &[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "image")]),
        ("GET", &[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "iframe")]),
        ("GET", &[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "empty")]),
        ("GET", &[("sec-fetch-site", "same-origin")]),
    ] {
        assert_eq!(
            replied(world.browse(method, "/oauth2/logout", headers)).status,
            403,
            "{method} {headers:?}"
        );
    }
    let asks = replied(world.browse(
        "GET",
        "/oauth2/logout",
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
    ));
    assert_eq!(asks.status, 200);
    assert!(asks.body.contains("<form method=\"post\" action=\"/oauth2/logout\">"));
    forwarded(world.navigate("/"));
}

#[test]
fn ss06_a_sign_out_that_redis_did_not_confirm_says_so_and_is_completed_later() {
    let world = World::signed_in();
    world.redis.set_down(Some(CalloutError::Reset));
    assert_eq!(world.sign_out().status, 503);
    world.redis.set_down(None);
    for _ in 0..100 {
        world.host.run_jobs();
    }
    assert_eq!(world.sessions(), 0);
}

#[test]
fn ck07_who_signs_out_with_something_that_only_looks_like_a_ticket_writes_nothing() {
    let world = World::signed_in();
    let before = (world.redis.keys(), world.redis.log_len());
    for number in 0..100 {
        let ticket = crate::encoding::base64url([number; 48]);
        let cookie = format!("__Host-oidc-gate={ticket}");
        let headers = [OWN_FORM, &[("cookie", &cookie)]].concat();
        assert_eq!(replied(world.send("POST", "/oauth2/logout", &headers)).status, 303);
    }
    assert_eq!((world.redis.keys(), world.redis.log_len()), before);
}

#[test]
fn a_sign_out_on_one_worker_is_one_on_all() {
    let world = World::signed_in();
    let other = world.other_worker().with_cookies_of(&world);
    forwarded(other.navigate("/"));
    world.sign_out();
    assert_eq!(other.status(), 401, "though it was in that worker's cache");
}

/// Found by the simulator (seed 7278): users were told that they were signed out, but their sessions lived on until the
/// loss was noticed.
#[test]
fn ss03_whoever_signs_out_after_redis_lost_everything_is_out_on_every_worker_that_remembers_the_session() {
    for known_where_they_sign_out in [true, false] {
        let world = World::new();
        let remembers = world.other_worker();
        world.log_in("/");
        *remembers.cookies.borrow_mut() = world.cookies.borrow().clone();
        forwarded(remembers.navigate("/"));
        let asked = if known_where_they_sign_out { world } else { remembers.other_worker() };
        *asked.cookies.borrow_mut() = remembers.cookies.borrow().clone();
        asked.redis.forget_everything();
        let out = asked.sign_out();
        assert_eq!(out.status, 303);
        let hinted = header(&out, "location").is_some_and(|location| location.contains("id_token_hint="));
        assert_eq!(
            hinted, known_where_they_sign_out,
            "the provider is told whose session ends where that is known"
        );
        assert_eq!(asked.redis.log_len() > 0, known_where_they_sign_out, "and other Envoys too");
        assert_eq!(remembers.status(), 401, "{known_where_they_sign_out}");
    }
}

/// Anybody can send such requests, so made-up tickets must not make workers drop valid sessions.
#[test]
fn lo16_whoever_signs_out_with_made_up_tickets_costs_others_nothing() {
    let world = World::signed_in();
    let idle = world.other_worker().with_cookies_of(&world);
    forwarded(idle.navigate("/"));
    let workers = [world.other_worker(), world.other_worker()];
    for number in 0..100 {
        for worker in &workers {
            let ticket = crate::encoding::base64url([number; 48]);
            let cookie = format!("__Host-oidc-gate={ticket}");
            let headers = [OWN_FORM, &[("cookie", &cookie)]].concat();
            assert_eq!(replied(worker.send("POST", "/oauth2/logout", &headers)).status, 303);
        }
    }
    let asked =
        || world.host.calls().iter().filter(|call| call.body.windows(5).any(|w| w == b"HMGET")).count();
    let before = asked();
    forwarded(idle.navigate("/"));
    assert_eq!(asked(), before, "it still knows the session");
}

/// Found by the simulator (seed 6993): a worker that did not know of another worker's write recorded no use.
#[test]
fn whoever_uses_a_session_on_several_envoys_keeps_it() {
    let world = World::changed(|config| {
        config.browser.as_mut().unwrap().session.idle_timeout = Duration::from_secs(40)
    });
    world.log_in("/");
    let other = world.other_envoy().with_cookies_of(&world);
    let pass = |seconds: u64| {
        for world in [&world, &other] {
            world.host.advance(Duration::from_secs(seconds));
        }
    };
    forwarded(other.navigate("/"));
    pass(6);
    forwarded(world.navigate("/"));
    pass(30);
    forwarded(other.navigate("/"));
    pass(20);
    forwarded(world.navigate("/"));
}

/// Found by the simulator (seed 460): a second try was reported as done although other Envoys knew nothing of it.
#[test]
fn ss06_a_second_try_to_sign_out_is_not_done_because_the_first_one_failed() {
    let world = World::signed_in();
    world.redis.set_read_only(true);
    for _ in 0..2 {
        assert_eq!(world.sign_out().status, 503);
    }
    world.redis.set_read_only(false);
    assert_eq!(world.sign_out().status, 303);
    assert_eq!(world.sessions(), 0);
}

/// Found by the simulator (seed 1441): a user was told that they were signed out, but the session lived on.
#[test]
fn a_sign_out_ends_the_session_even_where_the_clock_says_that_it_is_over() {
    let world = World::new();
    let behind = world.other_envoy();
    world.host.advance(Duration::from_secs(400));
    let now = world.now();
    world.provider.id_token.borrow_mut()["iat"] = json!(now);
    world.provider.id_token.borrow_mut()["exp"] = json!(now + 300);
    world.log_in("/");
    *behind.cookies.borrow_mut() = world.cookies.borrow().clone();
    assert_eq!(behind.status(), 401, "a session from the future");
    assert_eq!(behind.sign_out().status, 303);
    world.host.advance(Duration::from_secs(6));
    assert_eq!(world.status(), 401);
}

#[test]
fn ck15_an_unsafe_request_with_a_cookie_must_come_from_our_own_pages() {
    let world = World::signed_in();
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(replied(world.browse(method, "/api", headers)).status, 403, "{method} {headers:?}");
        }
    }
    for headers in [&[("sec-fetch-site", "same-origin")][..], &[("origin", "https://mlflow.example")], &[]] {
        forwarded(world.browse("POST", "/api", headers));
    }
    let upgrade = &[("upgrade", "websocket"), ("origin", "https://evil.example")];
    assert_eq!(replied(world.browse("GET", "/ws", upgrade)).status, 403);
    let token = world.provider.access_token(world.now(), json!({}));
    forwarded(world.send(
        "POST",
        "/",
        &[("authorization", &format!("Bearer {token}")), ("origin", "https://x.example")],
    ));
}

#[test]
fn cf08_an_old_key_still_opens_and_a_removed_one_does_not() {
    let old = Secret::new(*b"0123456789abcdefghijklmnopqrstuv");
    let new = Secret::new(*b"ZYXWVUTSRQPONMLKJIHGFEDCBA543210");
    for (keys, opens) in [(vec1![new.clone(), old], true), (vec1![new], false)] {
        let world = World::signed_in();
        let mut rotated = config();
        rotated.browser.as_mut().unwrap().session.keys = keys;
        let gate = Gate::new(rotated, world.host.clone());
        gate.background();
        let rotated = World { gate: gate.into(), ..world };
        let decision = rotated.browse("GET", "/", API);
        assert_eq!(matches!(decision, Decision::Forward { .. }), opens);
    }
}

/// For an API client it makes no difference which worker asks Redis.
#[test]
fn ss03_with_redis_away_at_the_start_no_worker_makes_every_request_wait() {
    let redis_is_away = World::new();
    redis_is_away.redis.set_down(Some(CalloutError::Reset));
    let workers = [redis_is_away.other_worker(), redis_is_away.other_worker()];
    let ask = |worker: &World| {
        let token = worker.provider.access_token(worker.now(), json!({}));
        let began = worker.host.now();
        forwarded(worker.present(&token));
        worker.host.now().duration_since(began)
    };
    for _ in 0..5 {
        for worker in &workers {
            let _ = ask(worker);
        }
    }
    for worker in &workers {
        assert!(ask(worker) < Duration::from_millis(100), "it is known by now that Redis can't be read");
    }
}

#[test]
fn a_session_that_can_be_read_is_served_although_its_use_cannot_be_written_down() {
    let world = World::signed_in();
    forwarded(world.navigate("/"));
    world.redis.set_read_only(true);
    for _ in 0..3 {
        world.host.advance(Duration::from_secs(70));
        forwarded(world.navigate("/"));
    }
}

/// While keys are rotated, another Envoy may have sealed the record with a key that this Envoy does not have yet.
#[test]
fn signing_out_ends_a_session_also_where_its_record_cannot_be_opened() {
    let world = World::signed_in();
    let mut rotated = config();
    rotated.browser.as_mut().unwrap().session.keys = vec1![Secret::new(*b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")];
    world.replace_gate(rotated);
    assert_eq!(world.sign_out().status, 303);
    assert_eq!(world.sessions(), 0, "{:?}", world.redis.keys());
}

#[test]
fn keys_that_are_added_last_put_first_and_then_removed_cost_nobody_a_session_on_any_envoy() {
    let [old, new] = [&b"0123456789abcdefghijklmnopqrstuv"[..], b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"];
    let with = |keys: &[&[u8]]| {
        let mut config = config();
        let keys: Vec<_> = keys.iter().map(|key| Secret::new(*key)).collect();
        config.browser.as_mut().unwrap().session.keys = keys.try_into().unwrap();
        config
    };
    let world = World::with(with(&[old]));
    world.log_in("/");
    let other = world.other_envoy().with_cookies_of(&world);
    for keys in [&[old, new][..], &[new, old], &[new]] {
        for changed in [&world, &other] {
            changed.replace_gate(with(keys));
            // Long enough for the use to be recorded, sealed with this Envoy's newest key.
            for envoy in [&world, &other] {
                envoy.host.advance(Duration::from_secs(70));
                forwarded(envoy.navigate("/"));
            }
        }
    }
}

#[test]
fn ss05_a_record_of_another_schema_is_no_session() {
    let world = World::signed_in();
    let gate = world.gate.borrow().clone();
    let sessions = gate.login.as_ref().unwrap().sessions.clone();
    let cookie = world.cookies.borrow().values().next().unwrap().clone();
    let ticket = sessions.door.ticket(&cookie, crate::caller::Caller::default()).unwrap();
    let known = world.host.run(sessions.load(&ticket)).unwrap();
    for (schema, status) in [(known.record.schema, 200), (known.record.schema + 1, 401)] {
        let record = crate::session::record::Record { schema, ..known.record.clone() };
        let ticket = world.host.run(sessions.create(&record)).unwrap();
        world.cookies.borrow_mut().values_mut().for_each(|value| *value = ticket.to_cookie().to_string());
        world.host.advance(Duration::from_secs(6));
        match world.browse("GET", "/", API) {
            Decision::Forward { .. } => assert_eq!(status, 200),
            Decision::Reply { reply, .. } => assert_eq!(reply.status, status),
        }
    }
}
