//! Refresh: ahead of time, before use, once; what ends a session and what only delays it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{API, forwarded};
use crate::config::WithoutRefreshToken;
use crate::host::{Callout, CalloutError, CalloutReply, Host as _};
use crate::session::script;
use crate::session::ticket::UntrustedTicket;
use crate::testing::provider::reply;
use crate::testing::world::{World, config, header, replied};

pub(super) fn advance(world: &World, seconds: u64) {
    world.host.advance(Duration::from_secs(seconds));
}

/// Lets the jobs of the root context finish.
pub(super) fn settle(world: &World) {
    world.sleep(Duration::from_millis(200));
}

pub(super) fn asks_for_the_lease(callout: &Callout) -> bool {
    callout.body.windows(script::ACQUIRE.len()).any(|bytes| bytes == script::ACQUIRE.as_bytes())
}

pub(super) fn answers(world: &World, answer: impl Fn() -> Result<CalloutReply, CalloutError> + 'static) {
    *world.provider.token_override.borrow_mut() = Some(Box::new(answer));
}

#[test]
fn a_session_is_renewed_in_the_background_while_its_access_token_is_still_good() {
    let world = World::signed_in();
    advance(&world, 269);
    forwarded(world.navigate("/"));
    settle(&world);
    assert_eq!(world.provider.refreshes(), 0, "not before it has to be");
    advance(&world, 6);
    forwarded(world.navigate("/"));
    settle(&world);
    assert_eq!(world.provider.refreshes(), 1);
    advance(&world, 100);
    forwarded(world.navigate("/"));
    settle(&world);
    assert_eq!(world.provider.refreshes(), 1, "the renewed session is what is found");
}

#[test]
fn rf06_an_expired_access_token_is_renewed_before_the_request_goes_on_and_each_refresh_token_is_used_once() {
    let world = World::signed_in();
    for round in 1..=3 {
        advance(&world, 301);
        forwarded(world.navigate("/"));
        assert_eq!(world.provider.refreshes(), round);
    }
    let presented: Vec<_> = world
        .provider
        .token_requests
        .borrow()
        .iter()
        .filter_map(|form| form.get("refresh_token").cloned())
        .collect();
    assert_eq!(presented, ["refresh-secret-1", "refresh-secret-2", "refresh-secret-3"]);
    assert!(!format!("{:?}", world.host.log_lines()).contains("refresh-secret"), "cf01");
}

#[test]
fn rf06_without_a_new_refresh_token_the_old_one_goes_on() {
    let world = World::signed_in();
    let old = world.provider.refresh_token.borrow().clone();
    answers(&world, || {
        Ok(reply(200, &json!({"token_type": "Bearer", "access_token": "a", "expires_in": 300})))
    });
    for _ in 0..2 {
        advance(&world, 301);
        forwarded(world.navigate("/"));
    }
    let requests = world.provider.token_requests.borrow();
    assert!(requests[1..].iter().all(|form| form["refresh_token"] == old), "{requests:?}");
}

#[test]
fn rf04_invalid_grant_ends_the_session_now_everywhere() {
    let world = World::signed_in();
    world.provider.refresh_token.replace("another".into());
    advance(&world, 275);
    forwarded(world.navigate("/"));
    settle(&world);
    assert_eq!(world.status(), 401, "though the access token is still good");
    assert_eq!(replied(world.navigate("/")).status, 302);
    assert_eq!(world.provider.refreshes(), 1, "and it is not tried again");
    assert_eq!(world.sessions(), 0, "nothing is left");
}

#[test]
fn rf05_a_provider_that_is_away_delays_and_does_not_end() {
    type Answer = fn() -> Result<CalloutReply, CalloutError>;
    let broken: [(bool, Answer); 13] = [
        (true, || Err(CalloutError::Reset)),
        (true, || Ok(CalloutReply { status: 500, ..CalloutReply::default() })),
        (true, || Ok(CalloutReply { status: 504, ..CalloutReply::default() })),
        (true, || Ok(CalloutReply { status: 429, ..CalloutReply::default() })),
        (true, || Ok(reply(400, &json!({"error": "temporarily_unavailable"})))),
        // F402: none of these replies is about this session, and none passes by itself.
        (false, || Ok(CalloutReply { status: 200, ..CalloutReply::default() })),
        (false, || Ok(CalloutReply { status: 403, ..CalloutReply::default() })),
        (false, || Ok(CalloutReply { status: 404, ..CalloutReply::default() })),
        (false, || Ok(CalloutReply { status: 400, body: b"<html>".to_vec(), ..CalloutReply::default() })),
        (false, || Ok(reply(403, &json!({"error": "access_denied"})))),
        (false, || Ok(reply(401, &json!({"error": "invalid_client"})))),
        (false, || Ok(reply(400, &json!({"error": "unauthorized_client"})))),
        (false, || Err(CalloutError::UnknownCluster)),
    ];
    for (passes, answer) in broken {
        let world = World::signed_in();
        answers(&world, answer);
        advance(&world, 275);
        for _ in 0..20 {
            forwarded(world.navigate("/"));
            settle(&world);
        }
        // Four seconds, with pauses of 1, 2 and 4 s.
        assert!(world.provider.refreshes() <= 4, "back-off: {}", world.provider.refreshes());
        advance(&world, 30);
        let unavailable = replied(world.navigate("/"));
        assert_eq!((unavailable.status, header(&unavailable, "retry-after").is_some()), (503, passes));
        assert_eq!(unavailable.body.contains("An administrator has to act"), !passes, "{}", unavailable.body);
        assert_eq!(header(&unavailable, "set-cookie"), None, "nobody is signed out");
        *world.provider.token_override.borrow_mut() = None;
        advance(&world, 31);
        forwarded(world.navigate("/"));
    }
}

#[test]
fn rf03_a_refreshed_id_token_of_another_login_ends_the_session() {
    for change in [
        json!({"sub": "s-2"}),
        json!({"iss": "https://other.example"}),
        json!({"aud": "other"}),
        json!({"aud": ["mlflow", "other"]}),
        json!({"azp": "other"}),
        json!({"azp": null}),
        json!({"auth_time": 5}),
        json!({"nonce": "another"}),
        json!({"exp": 5}),
        json!({"iat": 5}),
        json!({"iat": null}),
        json!({"typ": "Bearer"}),
        json!({"groups": 1}),
    ] {
        let world = World::new();
        world.provider.id_token.borrow_mut()["auth_time"] = world.now().into();
        world.log_in("/");
        *world.provider.refreshed.borrow_mut() = change.clone();
        advance(&world, 301);
        assert_eq!(world.status(), 401, "{change}");
        *world.provider.refreshed.borrow_mut() = json!({});
        assert_eq!(world.status(), 401, "{change}: and stays ended");
        assert_eq!(world.provider.refreshes(), 1);
    }
    for good in [json!({}), json!({"auth_time": null}), json!({"sid": null})] {
        let world = World::new();
        world.provider.id_token.borrow_mut()["auth_time"] = world.now().into();
        world.log_in("/");
        *world.provider.refreshed.borrow_mut() = good.clone();
        advance(&world, 301);
        forwarded(world.navigate("/"));
    }
    let world = World::signed_in();
    *world.provider.raw_id_token.borrow_mut() = Some("a.b.c".into());
    advance(&world, 301);
    assert_eq!(world.status(), 401, "bad signature");
}

/// One Envoy with a wrong clock must not sign users out of all others.
#[test]
fn rf03_a_clock_that_is_wrong_lets_nobody_in_and_ends_no_session() {
    for (iat, exp) in [(1, 301), (2000, 2300)] {
        let world = World::signed_in();
        let login = world.now();
        advance(&world, 1000);
        // The token response of a provider whose clock is a quarter of an hour behind ours, or ahead of it.
        *world.provider.refreshed.borrow_mut() = json!({"iat": login + iat, "exp": login + exp});
        for _ in 0..3 {
            let reply = replied(world.browse("GET", "/", API));
            assert_eq!(
                (reply.status, header(&reply, "retry-after").is_some()),
                (503, true),
                "{}",
                reply.body
            );
            assert!(reply.body.contains("clocks"), "also while the next try is put off: {}", reply.body);
            advance(&world, 9);
        }
        assert_eq!(world.provider.refreshes(), 1);
        let said = world.host.log_lines().join("\n");
        assert!(said.contains("could not be verified (clocks_disagree)"), "{said}");
        // The session goes on elsewhere, or once the clock is right: with the new refresh token.
        *world.provider.refreshed.borrow_mut() = json!({});
        advance(&world, 31);
        forwarded(world.navigate("/"));
        assert_eq!(world.provider.refreshes(), 2);
    }
    // A token that is not newer than the previous one, or was never valid, is not explained by a wrong clock.
    for (iat, exp, nbf) in
        [(-61, 300, -61), (-30, 300, -30), (0, 300, 0), (1, 1, 1), (1, -300, 1), (1, 300, 2)]
    {
        let world = World::signed_in();
        let at = |moment: i64| i64::try_from(world.now()).unwrap() + moment;
        *world.provider.refreshed.borrow_mut() = json!({"iat": at(iat), "exp": at(exp), "nbf": at(nbf)});
        advance(&world, 1000);
        assert_eq!(world.status(), 401, "{iat} {exp} {nbf}");
        assert_eq!(world.status(), 401);
    }
}

#[test]
fn an_envoy_whose_clock_is_wrong_signs_nobody_out_of_the_others() {
    for (wrong, right, told_before) in
        [(301, 1301, true), (301, 1301, false), (1301, 301, true), (1301, 301, false)]
    {
        let world = World::signed_in();
        let answer = |now: u64, refresh_expires_in: u64| {
            let provider = world.provider.clone();
            answers(&world, move || {
                provider.refresh_token.replace("kept".into());
                let members = json!({"refresh_token": "kept", "refresh_expires_in": refresh_expires_in});
                Ok(provider.refreshed_at(now, members))
            });
        };
        if told_before {
            advance(&world, 301);
            answer(world.now(), 1800);
            forwarded(world.navigate("/"));
        }
        let other = world.other_envoy().with_cookies_of(&world);
        advance(&world, wrong);
        advance(&other, right);
        // The provider's clock agrees with the other Envoy's. By the wrong clock, its tokens may have expired already.
        answer(other.now(), 600);
        assert_eq!(world.status(), 503);
        *world.provider.token_override.borrow_mut() = None;
        forwarded(other.navigate("/"));
        let asked = world.provider.token_requests.borrow().last().unwrap().clone();
        assert_eq!(asked["refresh_token"], "kept", "asked again at once, with what was bought");
    }
}

#[test]
fn rf08_groups_are_those_of_the_latest_refresh() {
    let world = World::signed_in();
    *world.provider.refreshed.borrow_mut() = json!({"groups": ["/others"]});
    advance(&world, 301);
    assert_eq!(world.status(), 403);
    *world.provider.refreshed.borrow_mut() = json!({"groups": null});
    advance(&world, 301);
    assert_eq!(world.status(), 403, "no groups at all");
    *world.provider.refreshed.borrow_mut() = json!({"groups": ["mlflow_admins"]});
    advance(&world, 301);
    forwarded(world.browse("GET", "/", API));
}

#[test]
fn with_a_check_interval_the_provider_is_asked_sooner_and_is_not_missed_when_it_is_away() {
    let world = World::changed(|config| {
        config.browser.as_mut().unwrap().session.check_interval = Some(Duration::from_secs(20))
    });
    world.log_in("/");
    advance(&world, 21);
    world.provider.down.set(true);
    forwarded(world.navigate("/"));
    world.provider.down.set(false);
    advance(&world, 31);
    *world.provider.refreshed.borrow_mut() = json!({"groups": []});
    assert_eq!(world.status(), 403);
}

#[test]
fn without_a_refresh_token_a_session_ends_with_its_access_token_unless_it_is_told_to_go_on() {
    for (policy, expected) in [(WithoutRefreshToken::End, false), (WithoutRefreshToken::Keep, true)] {
        let world =
            World::changed(|config| config.browser.as_mut().unwrap().session.without_refresh_token = policy);
        let request = world.begin_login("/");
        let mut claims = world.provider.id_token.borrow().clone();
        claims["nonce"] = Value::from(request["nonce"].clone());
        let id_token = world.provider.signed(claims);
        answers(&world, move || {
            let body =
                json!({"token_type": "Bearer", "access_token": "a", "expires_in": 60, "id_token": id_token});
            Ok(reply(200, &body))
        });
        assert_eq!(replied(world.finish_login(&request, "code")).status, 303);
        advance(&world, 59);
        forwarded(world.browse("GET", "/", API));
        advance(&world, 2);
        let goes_on = matches!(world.browse("GET", "/", API), crate::gate::Decision::Forward { .. });
        assert_eq!(goes_on, expected, "{policy:?}");
    }
}

#[test]
fn rf07_what_a_spent_refresh_token_bought_is_kept_although_redis_was_away_for_a_while() {
    let world = World::signed_in();
    advance(&world, 301);
    let (redis, provider) = (world.redis.clone(), world.provider.clone());
    let now = world.now();
    let spent = std::cell::Cell::new(0);
    answers(&world, move || {
        redis.set_down(Some(CalloutError::Reset));
        spent.set(spent.get() + 1);
        assert_eq!(spent.get(), 1, "spent twice");
        Ok(provider.refreshed_at(now, json!({"refresh_token": "new"})))
    });
    assert_eq!(world.status(), 503);
    world.redis.set_down(None);
    settle(&world);
    advance(&world, 2);
    settle(&world);
    forwarded(world.browse("GET", "/", API));
}

#[test]
fn a_refresh_that_cannot_be_checked_yet_ends_nothing_and_spends_no_token_twice() {
    let world = World::signed_in();
    let foreign = crate::jose::testing::sign(
        crate::jose::algorithm::Algorithm::Rs256,
        Some("a key of tomorrow"),
        json!({"typ": "JWT"}),
        json!({"sub": "s-1"}),
    );
    *world.provider.raw_id_token.borrow_mut() = Some(foreign);
    advance(&world, 301);
    // The keys are unavailable.
    let keys = world.provider.keys.replace(json!("no keys"));
    assert_eq!(world.status(), 503);
    for _ in 0..200 {
        settle(&world);
    }
    world.provider.keys.replace(keys);
    *world.provider.raw_id_token.borrow_mut() = None;
    advance(&world, 31);
    forwarded(world.browse("GET", "/", API));
    let requests = world.provider.token_requests.borrow();
    let mut presented: Vec<_> = requests.iter().filter_map(|form| form.get("refresh_token")).collect();
    let before = presented.len();
    presented.dedup();
    assert_eq!(presented.len(), before, "{presented:?}");
}

/// While keys are awaited time passes, and an ID token may live for seconds only.
#[test]
fn rf07_an_id_token_that_expires_while_keys_are_awaited_renews_the_session_all_the_same() {
    let world = World::signed_in();
    let mut claims = world.provider.id_token.borrow().clone();
    advance(&world, 301);
    // By the clock leeway of a minute it is good for three seconds more.
    (claims["iat"], claims["exp"]) = (json!(world.now() - 100), json!(world.now() - 57));
    let new_key = "a key of tomorrow";
    let algorithm = crate::jose::algorithm::Algorithm::Rs256;
    let token = crate::jose::testing::sign(algorithm, Some(new_key), json!({"typ": "JWT"}), claims);
    *world.provider.raw_id_token.borrow_mut() = Some(token);
    let mut keys = world.provider.keys.replace(json!("no keys"));
    let name = crate::jose::testing::TestKey::Rsa.key_id();
    for key in keys["keys"].as_array_mut().unwrap().iter_mut().filter(|key| key["kid"] == name) {
        key["kid"] = new_key.into();
    }
    let (host, provider) = (world.host.clone(), world.provider.clone());
    world.host.spawn(Box::pin(async move {
        host.sleep(Duration::from_secs(5)).await;
        provider.keys.replace(keys);
    }));
    let began = world.now();
    forwarded(world.browse("GET", "/", API));
    assert!(world.now() > began + 3, "it has expired meanwhile");
    assert_eq!(world.provider.refreshes(), 1);
}

#[test]
fn rf03_a_key_that_is_still_unknown_after_the_keys_were_fetched_again_ends_the_session() {
    let world = World::signed_in();
    let foreign = crate::jose::testing::sign(
        crate::jose::algorithm::Algorithm::Rs256,
        Some("nobody's key"),
        json!({"typ": "JWT"}),
        json!({"sub": "s-1"}),
    );
    *world.provider.raw_id_token.borrow_mut() = Some(foreign);
    advance(&world, 301);
    assert_eq!(world.status(), 401);
}

#[test]
fn a_session_that_ends_while_a_request_waits_for_its_renewal_lets_nobody_in() {
    let world = World::signed_in();
    advance(&world, 301);
    let revocations = crate::revocation::memory::Revocations::new(
        world.host.clone(),
        "redis.mlflow",
        crate::testing::provider::ISSUER,
    );
    let provider = world.provider.clone();
    let now = world.now();
    answers(&world, move || {
        // Meanwhile all users are logged out; the record still exists.
        let before = crate::time::Timestamp::from_secs(now + 100);
        revocations.announce(&[crate::revocation::memory::Revocation::everyone(
            crate::testing::provider::ISSUER,
            before,
        )]);
        Ok(provider.refreshed_at(now, json!({})))
    });
    assert_eq!(world.status(), 401);
}

#[test]
fn cf08_a_renewed_session_is_sealed_with_the_newest_key() {
    let old = config();
    let world = World::with(old.clone());
    world.log_in("/");
    let mut rotated = old.clone();
    let keys = &mut rotated.browser.as_mut().unwrap().session.keys;
    keys.insert(0, crate::secret::Secret::new(*b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"));
    world.replace_gate(rotated.clone());
    advance(&world, 301);
    forwarded(world.navigate("/"));
    rotated.browser.as_mut().unwrap().session.keys.pop().unwrap();
    world.replace_gate(rotated);
    forwarded(world.navigate("/"));
    assert!(UntrustedTicket::parse(world.cookies.borrow().values().next().unwrap()).is_some());
}
