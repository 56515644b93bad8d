//! What strangers can have done: nothing for what we never gave out, and little for the rest.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::{API, OWN_FORM, TYPED, forwarded};
use crate::caller::Caller;
use crate::encoding::{base64url, from_base64url};
use crate::gate::Decision;
use crate::host::Host as _;
use crate::http::body::Body;
use crate::secret::Secret;
use crate::session::ticket::UntrustedTicket;
use crate::testing::provider::reply;
use crate::testing::world::{NAVIGATION, World, callback, config, header, label, replied};

const COOKIE: &str = "__Host-oidc-gate";

/// Method, target, headers.
type Request = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Every kind of request by which a session cookie reaches the store.
const DOORS: [Request; 7] = [
    ("GET", "/", API),
    ("GET", "/x", NAVIGATION),
    ("POST", "/oauth2/logout", OWN_FORM),
    ("GET", "/oauth2/logout", TYPED),
    ("GET", "/oauth2/account", NAVIGATION),
    ("POST", "/oauth2/account/sign-out?everywhere=true", OWN_FORM),
    (
        "GET",
        "/oauth2/callback?state=0123456789abcdef&code=x&iss=https://idp.example/realms/mlflow",
        NAVIGATION,
    ),
];

fn send(world: &World, (method, target, headers): Request, cookie: &str) -> (u16, &'static str) {
    let cookie = format!("{COOKIE}={cookie}");
    let headers = [headers, &[("cookie", cookie.as_str())]].concat();
    match world.send(method, target, &headers) {
        Decision::Reply { reply, reason } => {
            assert!(header(&reply, "cache-control") == Some("no-store"), "{reply:?}");
            (reply.status, label(reason))
        }
        Decision::Forward { reason, .. } => panic!("forwarded: {reason}"),
    }
}

fn cookie_of(world: &World) -> String {
    world.cookies.borrow()[COOKIE].clone()
}

fn asked(world: &World) -> u32 {
    world.redis.operations.get()
}

/// A ticket from before tickets were signed, with its session in Redis.
fn unsigned_session(world: &World) -> String {
    let text = base64url([7; 48]);
    let gate = world.gate.borrow().clone();
    let sessions = gate.login.as_ref().unwrap().sessions.clone();
    let known = sessions.door.ticket(&cookie_of(world), Caller::default()).unwrap();
    let record = world.host.run(sessions.load(&known)).unwrap().record.clone();
    let ticket = sessions.door.ticket(&text, Caller::default()).unwrap();
    world.host.run(sessions.create_for(&ticket, &record)).unwrap();
    text
}

#[test]
fn f901_a_ticket_that_is_not_ours_has_nobody_asked_at_any_door() {
    let world = World::signed_in();
    let ours = from_base64url(cookie_of(&world)).unwrap();
    let other_gate = {
        let mut config = config();
        config.public_url.origin = "https://other.example".into();
        let other = World::with(config);
        other.log_in("/");
        cookie_of(&other)
    };
    let mut forged = vec![other_gate, "x".repeat(112 * 1000), String::new()];
    for at in (0..48).chain([52, 83]) {
        let mut changed = ours.clone();
        changed[at] ^= 1;
        forged.push(base64url(&changed));
    }
    let before = asked(&world);
    for cookie in &forged {
        for door in DOORS {
            let (status, reason) = send(&world, door, cookie);
            let expected: &[u16] = match door.1 {
                "/oauth2/logout" => &[303],
                "/" | "/oauth2/account/sign-out?everywhere=true" => &[401],
                "/x" | "/oauth2/account" => &[302],
                _ => &[400],
            };
            assert!(expected.contains(&status), "{door:?}: {status} {reason} {cookie:.120}");
        }
    }
    assert_eq!(asked(&world), before);
    assert!(world.said("reason=session_forged") > 0);
    forwarded(world.navigate("/"));
}

#[test]
fn f901_a_new_login_ends_no_session_of_a_ticket_that_is_not_ours() {
    let world = World::new();
    let request = world.begin_login("/");
    let mut forged = from_base64url({
        let other = World::signed_in();
        cookie_of(&other)
    })
    .unwrap();
    forged[0] ^= 1;
    world.cookies.borrow_mut().insert(COOKIE.into(), base64url(forged));
    assert_eq!(replied(world.finish_login(&request, "code")).status, 303);
    let before = asked(&world);
    (0..100).for_each(|_| world.host.run_jobs());
    assert_eq!(asked(&world), before);
}

#[test]
fn f901_tickets_from_before_they_were_signed_are_good_until_they_end() {
    let world = World::signed_in();
    let old = unsigned_session(&world);
    for worker in [&world, &world.other_worker(), &world.other_envoy()] {
        worker.cookies.borrow_mut().insert(COOKIE.into(), old.clone());
        for _ in 0..1000 {
            // Requests of known sessions do not count.
            worker.host.advance(Duration::from_millis(100));
            forwarded(worker.browse("GET", "/", API));
        }
    }
    assert_eq!(world.sign_out().status, 303);
    world.cookies.borrow_mut().insert(COOKIE.into(), old);
    assert_eq!(world.status(), 401);
}

#[test]
fn f901_tickets_that_only_redis_could_tell_about_have_it_asked_within_a_limit() {
    let world = World::signed_in();
    let limit = world.config.limits.unknown_tickets;
    let old = unsigned_session(&world);
    let (before, mut statuses) = (asked(&world), std::collections::BTreeMap::<_, u32>::new());
    let started = world.host.now_millis();
    for number in 0..5000u32 {
        let mut bytes = vec![9; if number % 2 == 0 { 48 } else { 84 }];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        *statuses.entry(send(&world, DOORS[0], &base64url(&bytes))).or_default() += 1;
    }
    let seconds = u32::try_from((world.host.now_millis() - started) / 1000 + 1).unwrap();
    let most = limit.burst / 4 + seconds * limit.per_second / 4;
    assert!(asked(&world) - before <= most, "{} of {most}: {statuses:?}", asked(&world) - before);
    let found: Vec<_> = statuses.keys().copied().collect();
    assert_eq!(found, [(401, "session_unknown"), (503, "session_over_limit")]);
    // The flood came from one address. Tickets from another address are still looked up.
    world.caller.set(Caller::parse(b"198.51.100.1:1"));
    let other = world.other_worker();
    other.caller.set(world.caller.get());
    for worker in [&world, &other] {
        worker.cookies.borrow_mut().insert(COOKIE.into(), old.clone());
        forwarded(worker.browse("GET", "/", API));
    }
}

#[test]
fn f901_when_no_ticket_from_before_can_live_any_more_none_is_looked_for() {
    let world = World::signed_in();
    world.host.advance(world.config.browser.as_ref().unwrap().session.absolute_timeout);
    let before = asked(&world);
    for text in [base64url([7; 48]), base64url([7; 84])] {
        assert_eq!(send(&world, DOORS[0], &text), (401, "session_forged"));
    }
    assert_eq!(asked(&world), before);
}

#[test]
fn f901_a_session_that_has_ended_is_not_looked_for_again_and_again() {
    for how in ["signed out", "lost by Redis", "ended at the provider"] {
        let world = World::signed_in();
        let cookie = cookie_of(&world);
        match how {
            "signed out" => {
                world.sign_out();
            }
            "lost by Redis" => {
                world.redis.forget_everything();
                world.host.advance(Duration::from_secs(6));
            }
            _ => {
                let gate = world.gate.borrow().clone();
                let sessions = gate.login.as_ref().unwrap().sessions.clone();
                let ended = crate::revocation::memory::Revocation::everyone(
                    &world.config.issuer.url,
                    crate::time::Timestamp::from_millis(u64::MAX),
                );
                let _ = world.host.run(sessions.log.append(vec![ended]));
            }
        }
        let before = asked(&world);
        for _ in 0..200 {
            for door in DOORS {
                send(&world, door, &cookie);
            }
        }
        // Once, and once more to make sure that signing out leaves nothing behind.
        let rounds = asked(&world) - before;
        assert!(rounds <= 16, "{how}: {rounds}");
    }
}

#[test]
fn f901_what_is_remembered_of_an_end_hides_no_session_that_lives() {
    let world = World::signed_in();
    let cookie = cookie_of(&world);
    let record = {
        let gate = world.gate.borrow().clone();
        let sessions = gate.login.as_ref().unwrap().sessions.clone();
        let ticket = sessions.door.ticket(&cookie, Caller::default()).unwrap();
        world.host.run(sessions.load(&ticket)).unwrap().record.clone()
    };
    world.redis.forget_everything();
    world.host.advance(Duration::from_secs(6));
    assert_eq!(send(&world, DOORS[0], &cookie), (401, "session_unknown"));
    // Redis has the session again, as after a failover: another Envoy writes it.
    let other = world.other_envoy();
    let gate = other.gate.borrow().clone();
    let sessions = gate.login.as_ref().unwrap().sessions.clone();
    let ticket = sessions.door.ticket(&cookie, Caller::default()).unwrap();
    other.host.run(sessions.create_for(&ticket, &record)).unwrap();
    world.host.advance(Duration::from_secs(5));
    forwarded(world.browse("GET", "/", API));
    other.cookies.replace(world.cookies.borrow().clone());
    forwarded(other.browse("GET", "/", API));
}

#[test]
fn f901_whoever_signs_out_while_redis_is_away_is_signed_out_later_on_every_worker() {
    let world = World::signed_in();
    // A worker that has never seen the session. The signature shows that the session may exist.
    let other = world.other_worker().with_cookies_of(&world);
    world.redis.set_down(Some(crate::host::CalloutError::Reset));
    assert_eq!(other.sign_out().status, 503);
    assert_eq!(world.status(), 401, "over on this Envoy at once");
    world.redis.set_down(None);
    (0..200).for_each(|_| {
        world.host.advance(Duration::from_millis(50));
        world.host.run_jobs();
    });
    assert_eq!(world.sessions(), 0, "and then in Redis");
}

#[test]
fn f901_a_key_that_was_taken_away_too_early_leaves_what_was_sealed_since() {
    let [old, new] = [&b"0123456789abcdefghijklmnopqrstuv"[..], b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"];
    let with = |keys: &[&[u8]]| {
        let mut config = config();
        let keys: Vec<_> = keys.iter().map(|key| Secret::new(*key)).collect();
        config.browser.as_mut().unwrap().session.keys = keys.try_into().unwrap();
        config
    };
    let world = World::with(with(&[old]));
    world.log_in("/");
    let cookie = cookie_of(&world);
    world.replace_gate(with(&[new, old]));
    world.host.advance(Duration::from_secs(70));
    forwarded(world.browse("GET", "/", API));
    world.replace_gate(with(&[new]));
    forwarded(world.browse("GET", "/", API));
    // The ticket can no longer be verified, but every bit of it still matters.
    let bytes = from_base64url(&cookie).unwrap();
    for at in 48..84 {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let text = base64url(&changed);
        assert!(UntrustedTicket::parse(&text).is_some());
        assert_eq!(send(&world, DOORS[0], &text).0, 401, "byte {at}");
    }
    forwarded(world.browse("GET", "/", API));
}

#[test]
fn f901_a_callback_of_the_back_button_with_a_forged_session_asks_nobody() {
    let world = World::new();
    let before = asked(&world);
    let mut bytes = vec![1; 84];
    bytes[48..52].copy_from_slice(&[0; 4]);
    world.host.advance(world.config.browser.as_ref().unwrap().session.absolute_timeout);
    let cookie = format!("{COOKIE}={}", base64url(bytes));
    let headers = [NAVIGATION, &[("cookie", cookie.as_str())]].concat();
    assert_eq!(replied(world.send("GET", &callback("0123456789abcdef", "code"), &headers)).status, 400);
    assert_eq!(asked(&world), before);
}

/// Begins a login and returns with a made-up code: the address and the cookie of the callback.
fn made_up_callback(world: &World) -> (String, String) {
    let begun = replied(world.send("GET", "/oauth2/login", NAVIGATION));
    let location = url::Url::parse(header(&begun, "location").unwrap()).unwrap();
    let (_, state) = location.query_pairs().find(|(name, _)| name == "state").unwrap();
    let cookie = header(&begun, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
    (callback(&state, "made-up"), cookie)
}

fn send_callback(
    world: &World,
    (target, cookie): &(String, String),
) -> (crate::http::reply::Reply, &'static str) {
    let headers = [NAVIGATION, &[("cookie", cookie.as_str())]].concat();
    match world.send("GET", target, &headers) {
        Decision::Reply { reply, reason } => (reply, label(reason)),
        Decision::Forward { reason, .. } => panic!("forwarded: {reason}"),
    }
}

/// Makes the provider refuse every code.
fn refuse_codes(world: &World) {
    let refuse = || Ok(reply(400, &serde_json::json!({"error": "invalid_grant"})));
    *world.provider.token_override.borrow_mut() = Some(Box::new(refuse));
}

/// Advances the provider's clock.
fn issue_now(world: &World) {
    let mut claims = world.provider.id_token.borrow_mut();
    claims["iat"] = world.now().into();
    claims["exp"] = (world.now() + 300).into();
}

fn keys_of_codes(world: &World) -> usize {
    world.redis.keys().iter().filter(|key| key.contains(":code:")).count()
}

#[test]
fn f902_made_up_codes_cost_no_more_than_a_limit_and_keep_no_one_else_from_signing_in() {
    let world = World::new();
    let signed_in = world.other_worker();
    signed_in.log_in("/");
    refuse_codes(&world);
    let (requests, keys) = (world.provider.token_requests.borrow().len(), keys_of_codes(&world));
    let limit = world.config.limits.callbacks;
    let mut reasons = std::collections::BTreeMap::<_, u32>::new();
    let started = world.host.now_millis();
    for _ in 0..1000 {
        let (reply, reason) = send_callback(&world, &made_up_callback(&world));
        *reasons.entry((reply.status, reason)).or_default() += 1;
        if reason == "login_over_limit" {
            assert_eq!(header(&reply, "retry-after"), Some("5"));
            assert_eq!(header(&reply, "set-cookie"), None, "the login goes on");
        }
    }
    let seconds = u32::try_from((world.host.now_millis() - started) / 1000 + 1).unwrap();
    let most = usize::try_from(limit.burst / 4 + seconds * limit.per_second / 4).unwrap();
    let asked = world.provider.token_requests.borrow().len() - requests;
    assert!(asked <= most, "{asked} of {most}: {reasons:?}");
    assert_eq!(keys_of_codes(&world) - keys, asked, "a key for each, and no more");
    assert_eq!(
        reasons.keys().copied().collect::<Vec<_>>(),
        [(400, "login_code_refused"), (503, "login_over_limit")]
    );
    *world.provider.token_override.borrow_mut() = None;
    // The signed-in user stays signed in, and the session is refreshed.
    let renewed = world.provider.refreshes();
    signed_in.host.advance(Duration::from_secs(301));
    refuse_codes(&world);
    while send_callback(&world, &made_up_callback(&world)).1 != "login_over_limit" {}
    *world.provider.token_override.borrow_mut() = None;
    forwarded(signed_in.browse("GET", "/", API));
    assert_eq!(world.provider.refreshes(), renewed + 1);
    // From another address, on the same worker.
    world.caller.set(Caller::parse(b"198.51.100.1:1"));
    issue_now(&world);
    world.log_in("/");
}

#[test]
fn f902_a_callback_over_the_limit_spends_nothing_and_reloading_it_works() {
    let world = World::new();
    let request = world.begin_login("/deep?x=1");
    refuse_codes(&world);
    while send_callback(&world, &made_up_callback(&world)).1 != "login_over_limit" {}
    let (requests, keys) = (world.provider.token_requests.borrow().len(), keys_of_codes(&world));
    let page = replied(world.finish_login(&request, "code"));
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.body.contains("try again in a few seconds") && !page.body.contains("code="), "{page:?}");
    assert_eq!((world.provider.token_requests.borrow().len(), keys_of_codes(&world)), (requests, keys));
    *world.provider.token_override.borrow_mut() = None;
    world.host.advance(Duration::from_secs(1));
    let done = replied(world.finish_login(&request, "code"));
    assert_eq!((done.status, header(&done, "location")), (303, Some("/deep?x=1")));
}

#[test]
fn f902_people_who_really_sign_in_do_not_count() {
    let world = World::new();
    for _ in 0..300 {
        world.cookies.borrow_mut().clear();
        world.log_in("/");
    }
    assert!(world.now() < 1_767_225_600 + 60, "all of it in a minute");
}

#[test]
fn f902_one_callback_sent_again_and_again_is_limited_too() {
    let world = World::new();
    refuse_codes(&world);
    let made_up = made_up_callback(&world);
    let before = asked(&world);
    (0..2000).for_each(|_| drop(send_callback(&world, &made_up)));
    assert_eq!(world.provider.token_requests.borrow().len(), 1);
    // Two callouts each: `SET NX` fails, then `GET` tells who has claimed the flow.
    assert!(asked(&world) - before <= 2 * (40 + 2 * 30), "{}", asked(&world) - before);
}

#[test]
fn f902_what_is_kept_of_a_flow_ends_with_it() {
    let world = World::new();
    for (age, expected) in [(0, 660), (300, 360), (599, 61)] {
        world.cookies.borrow_mut().clear();
        let request = world.begin_login("/");
        world.host.advance(Duration::from_secs(age));
        issue_now(&world);
        let calls = world.host.calls().len();
        assert_eq!(replied(world.finish_login(&request, "code")).status, 303);
        let kept = world.host.calls()[calls..].iter().find_map(|call| {
            let text = String::from_utf8_lossy(&call.body).into_owned();
            let words: Vec<&str> = text.split("\r\n").collect();
            let at = words.iter().position(|word| *word == "PX")?;
            words.get(at + 2)?.parse::<u64>().ok()
        });
        let kept = kept.unwrap() / 1000;
        assert!((expected - 1..=expected).contains(&kept), "{age}: {kept} s");
    }
}

#[test]
fn f902_requests_that_wait_for_the_provider_leave_places_to_others() {
    let world = World::changed(|config| config.issuer.startup_wait = Duration::from_millis(100));
    world.provider.down.set(true);
    let began = world.host.now_millis();
    let answers = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..1100 {
        let headers = world.head("GET", "/", NAVIGATION);
        let (gate, host, answers) = (world.gate.borrow().clone(), world.host.clone(), answers.clone());
        world.host.spawn(Box::pin(async move {
            let decision = gate.decide(headers, Body::none(), Caller::default()).await;
            answers.borrow_mut().push((replied(decision).status, host.now_millis().saturating_sub(began)));
        }));
    }
    world.host.run_jobs();
    assert_eq!(answers.borrow().len(), 76, "there is no place for them");
    world.sleep(Duration::from_millis(200));
    let answers = answers.take();
    assert!(answers.iter().all(|(status, _)| *status == 503));
    let late = answers.iter().filter(|(_, after)| *after >= 95).count();
    assert_eq!((answers.len(), late), (1100, 1024));
    // A malformed token does not wait at all.
    let began = world.host.now_millis();
    assert_eq!(replied(world.send("GET", "/", &[("authorization", "Bearer x")])).status, 401);
    assert_eq!(world.host.now_millis(), began);
}
