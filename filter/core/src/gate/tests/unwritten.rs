//! A Redis that can be read and takes no writes: nobody is signed out by that, and nothing is lost afterwards.

use std::time::Duration;

use super::{API, forwarded};
use crate::config::{Config, WithoutRefreshToken};
use crate::host::CalloutError;
use crate::testing::world::{NAVIGATION, World, config, replied};

const REFUSALS: [&str; 5] = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "NOPERM this user has no permissions to run the 'eval' command",
];
const HOUR: Duration = Duration::from_secs(3600);

/// Sessions that need no refresh, so that only their use is written.
fn unrenewed() -> Config {
    let mut config = config();
    config.browser.as_mut().unwrap().session.without_refresh_token = WithoutRefreshToken::Keep;
    config
}

fn signed_in() -> World {
    let world = World::with(unrenewed());
    *world.provider.token_members.borrow_mut() = serde_json::json!({"refresh_token": null});
    world.log_in("/");
    world
}

fn pass(worlds: &[&World], time: Duration) {
    worlds.iter().for_each(|world| world.host.advance(time));
}

/// Lets the background jobs continue.
fn settle(world: &World) {
    world.sleep(Duration::from_secs(3));
}

#[test]
fn f904_a_session_whose_use_cannot_be_written_goes_on_until_its_absolute_end() {
    for refusal in REFUSALS {
        let world = signed_in();
        let (worker, envoy) = (world.other_worker(), world.other_envoy());
        for other in [&worker, &envoy] {
            other.cookies.replace(world.cookies.borrow().clone());
        }
        world.redis.refuse_writes(Some(refusal));
        // Used every ten minutes for eleven and a half hours, then for the first time on the other worker and on the
        // other Envoy.
        for _ in 0..69 {
            pass(&[&world, &envoy], HOUR / 6);
            forwarded(world.browse("GET", "/", API));
        }
        for other in [&worker, &envoy] {
            forwarded(other.browse("GET", "/", API));
        }
        assert_eq!(world.said("idle timeouts are suspended"), 1 + 68, "{refusal}");
        let kind = refusal.split(' ').next().unwrap();
        assert!(world.said(kind) > 0, "the log says {kind}");
        pass(&[&world, &envoy], HOUR / 2);
        for other in [&world, &worker, &envoy] {
            assert_eq!(other.status(), 401, "{refusal}: its absolute end");
            assert_eq!(replied(other.browse("GET", "/", NAVIGATION)).status, 302);
        }
    }
}

/// Redis deletes even without memory. An Envoy that knows of no refusal yet must not end a session that looks idle.
#[test]
fn f904_another_envoy_that_was_not_refused_yet_ends_no_session_whose_use_could_not_be_written() {
    for refusal in REFUSALS {
        let world = signed_in();
        let envoy = world.other_envoy().with_cookies_of(&world);
        world.redis.refuse_writes(Some(refusal));
        for _ in 0..6 {
            pass(&[&world, &envoy], HOUR / 4);
            forwarded(world.browse("GET", "/", API));
        }
        forwarded(envoy.browse("GET", "/", API));
        forwarded(world.browse("GET", "/", API));
        assert!(world.sessions() > 0, "{refusal}");
    }
}

#[test]
fn f904_what_could_not_be_written_is_written_when_redis_takes_it_again() {
    let world = signed_in();
    let envoy = world.other_envoy().with_cookies_of(&world);
    world.redis.refuse_writes(Some(REFUSALS[0]));
    for _ in 0..10 {
        pass(&[&world, &envoy], HOUR / 6);
        forwarded(world.browse("GET", "/", API));
    }
    world.redis.refuse_writes(None);
    settle(&world);
    assert_eq!(world.said("session last-used times are written to Redis again: idle timeouts resume"), 1);
    // The other Envoy knows nothing of this.
    pass(&[&world, &envoy], HOUR * 9 / 10);
    forwarded(envoy.browse("GET", "/", API));
    pass(&[&world, &envoy], HOUR);
    for other in [&world, &envoy] {
        assert_eq!(other.status(), 401, "and then it is idle");
    }
    assert_eq!(world.sessions(), 0, "and gone");
}

#[test]
fn f904_while_redis_refuses_it_is_tried_once_a_second_for_all_sessions() {
    let world = signed_in();
    world.redis.refuse_writes(Some(REFUSALS[0]));
    pass(&[&world], HOUR / 6);
    let before = world.redis.operations.get();
    let started = world.host.now_millis();
    for _ in 0..2000 {
        forwarded(world.browse("GET", "/", API));
    }
    let seconds = u32::try_from((world.host.now_millis() - started) / 1000 + 1).unwrap();
    let asked = world.redis.operations.get() - before;
    // One write per second, and one read per lifetime of the cache.
    assert!(asked <= seconds * 2 + seconds / 5 + 3, "{asked} in {seconds} s");
}

#[test]
fn f904_an_idle_session_ends_where_redis_takes_writes_and_where_it_is_away_nobody_can_tell() {
    let world = signed_in();
    pass(&[&world], HOUR);
    world.redis.set_down(Some(CalloutError::Reset));
    assert_eq!(world.status(), 503);
    world.redis.set_down(None);
    assert_eq!(world.status(), 401);
    assert_eq!(world.sessions(), 0, "it does not lie about until its end");

    // A session that was used elsewhere meanwhile does not end.
    let world = signed_in();
    let envoy = world.other_envoy().with_cookies_of(&world);
    forwarded(envoy.browse("GET", "/", API));
    pass(&[&world, &envoy], HOUR * 9 / 10);
    forwarded(world.browse("GET", "/", API));
    world.host.run_jobs();
    pass(&[&world, &envoy], HOUR / 5);
    forwarded(envoy.browse("GET", "/", API));
}

#[test]
fn f904_a_sign_in_or_a_renewal_that_redis_does_not_take_is_503_and_signs_nobody_out() {
    let world = World::signed_in();
    world.redis.refuse_writes(Some(REFUSALS[2]));
    pass(&[&world], Duration::from_secs(301));
    for _ in 0..3 {
        assert_eq!(world.status(), 503, "it has to be renewed");
        pass(&[&world], HOUR * 9 / 10);
    }
    assert_eq!(world.provider.refreshes(), 0, "no refresh token is spent whose successor could not be kept");
    let cookies = world.cookies.take();
    let request = world.begin_login("/");
    assert_eq!(replied(world.finish_login(&request, "code")).status, 503);
    assert!(world.said("MISCONF") > 0);
    world.cookies.replace(cookies);
    world.redis.refuse_writes(None);
    forwarded(world.browse("GET", "/", API));
}

#[test]
fn f904_the_account_page_lists_what_is_in_use() {
    let world = signed_in();
    world.cookies.borrow_mut().clear();
    pass(&[&world], HOUR * 9 / 10);
    let mut claims = world.provider.id_token.borrow_mut();
    claims["iat"] = world.now().into();
    claims["exp"] = (world.now() + 300).into();
    drop(claims);
    world.log_in("/");
    let others = |world: &World| {
        let page = replied(world.browse("GET", "/oauth2/account", NAVIGATION));
        assert_eq!(page.status, 200, "{page:?}");
        page.body.matches("account/sign-out?session=").count()
    };
    assert_eq!(others(&world), 1);
    pass(&[&world], HOUR / 5);
    assert_eq!(others(&world), 0, "it is idle, though Redis still has it");
    assert!(world.redis.keys().iter().filter(|key| key.contains(":s:")).count() == 2);
}

#[test]
fn f1204_the_session_before_a_new_login_ends_also_where_redis_does_not_do_it_at_first() {
    for refuses in ["DEL", "HMGET", "XADD"] {
        let world = World::signed_in();
        let before = world.cookies.borrow().clone();
        // A worker that has never seen the session.
        let worker = world.other_worker();
        let request = worker.begin_login("/");
        worker.cookies.borrow_mut().extend(before.clone());
        world.redis.refuse(refuses.as_bytes());
        assert_eq!(replied(worker.finish_login(&request, "code")).status, 303);
        let world = worker;
        settle(&world);
        // A session that cannot be read can still be ended by its name.
        let expected = usize::from(refuses != "HMGET");
        let line = "this browser's previous session could not be deleted from Redis; retrying";
        assert_eq!(world.said(line), expected, "{refuses:?}");
        world.redis.refuse_nothing();
        settle(&world);
        let sessions = world.redis.keys().iter().filter(|key| key.contains(":s:")).count();
        assert_eq!(sessions, 1, "{refuses:?}");
        forwarded(world.browse("GET", "/", API));
        let envoy = world.other_envoy();
        for other in [&world, &envoy] {
            other.cookies.replace(before.clone());
            assert_eq!(other.status(), 401, "{refuses:?}");
        }
    }
}

#[test]
fn f1204_who_signs_out_again_and_again_while_redis_is_away_begins_nothing_new() {
    let world = World::signed_in();
    let other = world.other_worker().with_cookies_of(&world);
    world.redis.set_down(Some(CalloutError::NotSent));
    let calls = |worker: &World| {
        let before = worker.host.calls().len();
        replied(worker.send(
            "POST",
            "/oauth2/logout",
            &[
                ("sec-fetch-site", "same-origin"),
                ("cookie", &format!("__Host-oidc-gate={}", worker.cookies.borrow()["__Host-oidc-gate"])),
            ],
        ));
        worker.host.calls().len() - before
    };
    let most = (0..200).map(|_| calls(&other)).skip(1).sum::<usize>();
    // One read each. The deletion that the first request started retries in the background.
    assert!(most <= 250, "{most}");
}
