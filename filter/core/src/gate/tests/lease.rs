//! The lease: one worker of all Envoys refreshes a session.

use std::time::Duration;

use serde_json::json;

use super::refresh::{advance, answers, asks_for_the_lease};
use super::{API, forwarded};
use crate::caller::Caller;
use crate::host::CalloutError;
use crate::http::body::Body;
use crate::testing::provider::reply;
use crate::testing::world::{World, config, replied};

#[test]
fn many_requests_at_once_are_one_refresh() {
    let world = World::signed_in();
    advance(&world, 301);
    let cookie = world.cookies.borrow().iter().map(|(n, v)| format!("{n}={v}")).next().unwrap();
    let requests = (0..50).map(|_| {
        let headers = world.head("GET", "/", &[("cookie", &cookie)]);
        world.gate.borrow().clone().decide(headers, Body::none(), Caller::default())
    });
    for decision in world.host.run(futures_util::future::join_all(requests)) {
        forwarded(decision);
    }
    assert_eq!(world.provider.refreshes(), 1);
}

#[test]
fn rf02_a_lease_whose_holder_is_gone_is_taken_over_after_its_holder_had_a_last_chance() {
    let world = World::signed_in();
    advance(&world, 301);
    world.redis.set_field("fence", "7");
    world.redis.set_field("until", &(world.host.now_millis() + 2000).to_string());
    let before = world.host.now_millis();
    forwarded(world.navigate("/"));
    let waited = world.host.now_millis() - before;
    assert!((5500..7000).contains(&waited), "2 s of the lease, 3.5 s of grace: {waited}");
    assert_eq!(world.provider.refreshes(), 1);
}

/// While another worker holds the lease, the use of the session is not written down.
#[test]
fn a_request_that_waits_for_a_refresh_longer_than_the_idle_timeout_is_not_idle() {
    let mut config = config();
    let session = &mut config.browser.as_mut().unwrap().session;
    session.check_interval = Some(Duration::from_secs(5));
    session.idle_timeout = Duration::from_secs(8);
    let world = World::with(config);
    world.log_in("/");
    advance(&world, 6);
    world.redis.set_field("fence", "7");
    world.redis.set_field("until", &(world.host.now_millis() + 9000).to_string());
    let before = world.host.now_millis();
    forwarded(world.browse("GET", "/", API));
    assert!(world.host.now_millis() - before > 8000, "it waited");
    let worker = world.other_worker().with_cookies_of(&world);
    for other in [&world, &worker] {
        forwarded(other.browse("GET", "/", API));
    }
}

/// A worker stalled after it got the lease. Another one may have refreshed since.
#[test]
fn rf02_a_lease_that_came_too_late_is_not_used() {
    let world = World::signed_in();
    advance(&world, 301);
    let [host, clock] = [(); 2].map(|()| std::rc::Rc::downgrade(&world.host));
    let (redis, leases) = (world.redis.clone(), std::rc::Rc::new(std::cell::Cell::new(0)));
    let taken = leases.clone();
    world.host.on("redis", move |callout| {
        let answer = redis.answer(callout, clock.upgrade().unwrap().now_millis());
        if asks_for_the_lease(callout) {
            taken.set(taken.get() + 1);
            if taken.get() == 1 {
                host.upgrade().unwrap().advance(Duration::from_secs(60));
            }
        }
        answer
    });
    forwarded(world.navigate("/"));
    assert!(leases.get() > 1, "the first one was over");
    assert_eq!(world.provider.refreshes(), 1);
}

/// Redis granted the lease, but the reply was lost. The same owner asks again and gets it.
#[test]
fn rf05_a_lease_whose_answer_was_lost_keeps_nobody_waiting() {
    let world = World::signed_in();
    advance(&world, 301);
    let clock = std::rc::Rc::downgrade(&world.host);
    let (redis, lost) = (world.redis.clone(), std::rc::Rc::new(std::cell::Cell::new(2)));
    let left = lost.clone();
    world.host.on("redis", move |callout| {
        let answer = redis.answer(callout, clock.upgrade().unwrap().now_millis());
        if asks_for_the_lease(callout) && left.get() > 0 {
            left.set(left.get() - 1);
            return Err(CalloutError::Reset);
        }
        answer
    });
    for _ in 0..2 {
        assert_eq!(replied(world.navigate("/")).status, 503);
    }
    forwarded(world.navigate("/"));
    assert_eq!((lost.get(), world.provider.refreshes()), (0, 1));
}

#[test]
fn ss08_a_session_that_was_signed_out_while_it_was_renewed_stays_signed_out() {
    let world = World::signed_in();
    advance(&world, 301);
    let redis = world.redis.clone();
    // While the provider answers, the record goes: another Envoy has signed the session out.
    let claims = world.provider.id_token.borrow().clone();
    let id_token = world.provider.signed(claims);
    answers(&world, move || {
        redis.forget_everything();
        let body =
            json!({"token_type": "Bearer", "access_token": "a", "expires_in": 300, "id_token": id_token});
        Ok(reply(200, &body))
    });
    assert_eq!(world.status(), 401);
    assert_eq!(world.redis.keys(), [""; 0], "nothing is written");
}
