//! How soon an administrator's action in Keycloak takes effect: on every worker of every Envoy, for cookies and for
//! bearer tokens. Caches live for a minute and tokens for five, so what ends soon ends because of a message.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::{Client, Request};
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Grant, Hold, Times, User};
use oidc_gate_tests::forge::remove;
use oidc_gate_tests::{
    BOUND, Builder, Gate, Signed, assert_all_accepted, assert_everywhere, assert_soon_everywhere,
    assert_stopped, assert_workers_alive, statuses, wait_for_age,
};

const PATH: &str = "/x";

fn two_envoys() -> Builder {
    Gate::builder().envoys(2).set("session.cache_ttl", "1m")
}

#[track_caller]
#[test]
fn a_user_signed_out_by_an_administrator_is_out_on_both_envoys_and_may_sign_in_again_at_once() {
    let gate = two_envoys().start();
    let (first, second) = (Signed::in_as(&gate, "mlflow_user"), Signed::in_as(&gate, "mlflow_user"));
    let other = Signed::in_as(&gate, "mlflow_admin");
    assert_all_accepted(&gate.provider.log_out_user("mlflow_user"), 2);
    // A new login in the same second is not affected.
    let again = Signed::in_as(&gate, "mlflow_user");
    println!("signed out everywhere after {:?}", first.assert_ends(&gate));
    second.assert_ends(&gate);
    other.assert(&gate, 200);
    again.assert(&gate, 200);
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_workers_alive(&gate);
}

#[test]
fn a_deleted_session_ends_with_all_logins_that_share_it_and_no_other() {
    let gate = two_envoys().start();
    let gone = Signed::in_as(&gate, "mlflow_user");
    let stays = Signed::in_as(&gate, "mlflow_user");
    // The same browser again: another session of the gate, the same one at the provider.
    let twin = Client::new();
    *twin.jar() = gone.browser.jar().clone();
    twin.jar().remove(gate.session_cookie_name());
    assert_eq!(twin.visit(&gate.url("/")).unwrap().end().status, 200);
    gate.plant_secret(&gate.session_cookie(&twin).unwrap());
    assert_all_accepted(&gate.provider.delete_session(&gone.sid), 1);
    gone.assert_ends(&gate);
    assert_soon_everywhere(&gate, 401, PATH, |url| twin.fetching("GET", url));
    stays.assert(&gate, 200);
}

#[test]
fn log_out_all_and_a_pushed_not_before_end_everybody_on_both_envoys() {
    let gate = two_envoys().start();
    let everybody = [Signed::in_as(&gate, "mlflow_user"), Signed::in_as(&gate, "mlflow_admin")];
    assert_all_accepted(&gate.provider.log_out_all(), 1);
    for signed in &everybody {
        println!("logged out with everybody after {:?}", signed.assert_ends(&gate));
    }
    gate.wait_for_second_after(gate.provider.now() + 1);
    gate.provider.set_not_before(0);
    let again = Signed::in_as(&gate, "mlflow_user");
    let issued = gate.provider.now();
    gate.wait_for_second_after(issued);
    gate.provider.set_not_before(issued + 1);
    assert_all_accepted(&gate.provider.push_not_before(), 1);
    println!("older than the moment that was pushed: ended after {:?}", again.assert_ends(&gate));
}

#[test]
fn signing_out_in_the_browser_ends_it_on_the_other_envoy_too() {
    let gate = two_envoys().start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    let thief = gate.browser_with(&gate.session_cookie(&signed.browser).unwrap());
    assert_everywhere(&gate, 200, PATH, |url| thief.fetching("GET", url));
    gate.sign_out(&signed.browser);
    // CK09: a stolen copy of the cookie is useless.
    assert_soon_everywhere(&gate, 401, PATH, |url| thief.fetching("GET", url));
    assert_soon_everywhere(&gate, 401, PATH, |url| signed.by_token(url));
}

/// Keycloak does not report everything. With `check_interval` the gate notices while the session or token is in use.
#[test]
fn what_is_not_announced_is_noticed_within_the_check_interval_by_cookie_and_by_bearer() {
    let gate = two_envoys().set("session.check_interval", "1s").set("bearer.check_interval", "1s").start();
    type Action = fn(&Gate, &Signed);
    let actions: [(&str, Action, u16, u16); 6] = [
        ("disabled", |gate, _| gate.provider.disable_user("disabled"), 401, 401),
        ("deleted", |gate, _| gate.provider.delete_user("deleted"), 401, 401),
        ("timed-out", |gate, signed| gate.provider.expire_session(&signed.sid), 401, 401),
        ("ended", |gate, _| gate.provider.end_sessions_of("ended"), 401, 401),
        ("stale", |gate, _| gate.provider.edit_user("stale", |user| user.not_before = i64::MAX), 401, 401),
        // The groups in a token do not change. The session gets the new groups at its next refresh.
        ("moved", |gate, _| gate.provider.set_groups("moved", &[]), 403, 200),
    ];
    for (name, action, by_cookie, by_token) in actions {
        gate.provider.add_user(User::new(name, &["/mlflow_users"]));
        let signed = Signed::in_as(&gate, name);
        let told = gate.provider.deliveries().len();
        action(&gate, &signed);
        let took = assert_soon_everywhere(&gate, by_cookie, PATH, |url| signed.by_cookie(url));
        println!("{name}: by cookie {by_cookie} after {took:?}");
        let took = assert_soon_everywhere(&gate, by_token, PATH, |url| signed.by_token(url));
        println!("{name}: by bearer {by_token} after {took:?}");
        assert_eq!(gate.provider.deliveries().len(), told, "{name} was announced");
    }
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_workers_alive(&gate);
}

/// Revokes a token as the client does (RFC 7009).
fn revoke(gate: &Gate, token: &str) {
    let url = format!("{}/protocol/openid-connect/revoke", gate.provider.issuer());
    let form = [
        ("token", token),
        ("client_id", gate.provider.client_id()),
        ("client_secret", gate.provider.client_secret()),
    ];
    assert_eq!(Client::new().request("POST", &url).form(&form).send().unwrap().status, 200);
}

#[test]
fn a_revoked_access_token_is_noticed_by_introspection_and_by_nothing_else() {
    for (interval, expected) in [(Some("1s"), 401), (None, 200)] {
        let gate = Gate::builder()
            .plugin(move |plugin| {
                if let Some(interval) = interval {
                    plugin["bearer"]["check_interval"] = interval.into();
                }
            })
            .start();
        let token = gate.provider.access_token("mlflow_user");
        let ask = |url: &str| Client::new().request("GET", url).bearer(&token);
        assert_everywhere(&gate, 200, PATH, ask);
        revoke(&gate, &token);
        assert_soon_everywhere(&gate, expected, PATH, ask);
        if interval.is_none() {
            assert_eq!(gate.provider.count(Endpoint::Introspection), 0);
        }
    }
}

#[test]
fn while_introspection_fails_a_token_that_needs_it_is_503_and_never_let_through_unasked() {
    let gate = Gate::builder()
        .set("bearer.check_interval", "1s")
        // The time limit of a silent provider. It must be long enough for a slow response.
        .set("issuer.timeout", "3s")
        .start();
    for (name, behaviour, expected) in [
        ("500", Behaviour::json(500, "{}"), 503),
        ("silence", Behaviour::Hang, 503),
        ("refused", Behaviour::Refuse, 503),
        ("HTML", Behaviour::answer(200, "text/html", "<html>"), 503),
        ("no word of it", Behaviour::json(200, "{}"), 503),
        ("a text", Behaviour::json(200, "{\"active\":\"true\"}"), 503),
        ("a list", Behaviour::json(200, "[true]"), 503),
        ("our secret is wrong", Behaviour::json(401, "{\"error\":\"invalid_client\"}"), 503),
        ("no", Behaviour::json(200, "{\"active\":false}"), 401),
    ] {
        let token = gate.provider.access_token("mlflow_user");
        gate.provider.misbehave(Endpoint::Introspection, Times::Always, behaviour);
        assert_stopped(&gate, &[expected], name, || gate.with_token(PATH, &token).send());
        gate.provider.behave();
    }
    let token = gate.provider.access_token("mlflow_user");
    assert_everywhere(&gate, 200, PATH, |url| Client::new().request("GET", url).bearer(&token));
}

#[test]
fn an_envoy_that_was_away_learns_what_ended_meanwhile_before_it_lets_anybody_in() {
    let mut gate = two_envoys().start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    gate.kill_envoy(1);
    assert_all_accepted(&gate.provider.log_out_user("mlflow_user"), 1);
    assert_soon_everywhere(&gate, 401, PATH, |url| signed.by_token(url));
    gate.start_envoy(1);
    // This holds for the very first response, which waits until revocations are known.
    let asked = Instant::now();
    let first = signed.by_token(&gate.url_at(1, PATH)).send().unwrap();
    assert!(first.status == 401 || asked.elapsed() >= Duration::from_secs(1), "{first}");
    assert_soon_everywhere(&gate, 401, PATH, |url| signed.by_token(url));
    signed.assert(&gate, 401);
}

#[test]
fn an_ending_that_redis_could_not_take_is_in_force_here_at_once_and_reaches_the_other_envoy_later() {
    let gate = two_envoys().start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    gate.redis().freeze();
    let delivery = gate.provider.log_out_user("mlflow_user").remove(0);
    // Back-Channel Logout 1.0 2.8: a failed logout must be reported as an error. Keycloak ignores it.
    assert_eq!(delivery.status.unwrap_or(400), 400, "{delivery:?}");
    gate.redis().thaw();
    signed.assert_ends(&gate);
}

#[test]
fn a_log_of_endings_that_was_lost_brings_nobody_back() {
    let gate = two_envoys().start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    assert_all_accepted(&gate.provider.log_out_user("mlflow_user"), 1);
    signed.assert_ends(&gate);
    let goes_on = Signed::in_as(&gate, "mlflow_admin");
    // Wait until both Envoys have read the stream. One that has read nothing cannot notice that something is missing.
    let polls = || gate.redis().calls_of("xrange").unwrap();
    let enough = polls() + 16;
    assert!(wait_until(BOUND, || polls() >= enough), "nobody reads the log of endings");
    gate.redis().flush().unwrap();
    // Cached sessions no longer count, because the lost part may have contained a revocation.
    assert_soon_everywhere(&gate, 401, PATH, |url| goes_on.by_cookie(url));
    signed.assert(&gate, 401);
    assert_everywhere(&gate, 200, PATH, |url| goes_on.by_token(url));
    let again = Signed::in_as(&gate, "mlflow_user");
    assert_all_accepted(&gate.provider.delete_session(&again.sid), 1);
    again.assert_ends(&gate);
}

#[test]
fn lo19_a_logout_while_the_session_is_renewed_stays_a_logout() {
    let gate = two_envoys().set("session.check_interval", "1s").start();
    for logout in ["by the person", "by an administrator"] {
        let signed = Signed::in_as(&gate, "mlflow_user");
        let cookie = gate.session_cookie(&signed.browser).unwrap();
        let hold = Hold::spent();
        gate.provider.hold(Grant::RefreshToken, &hold);
        // After the check interval, every request waits for the check.
        let waiting: Vec<_> = (0..4).map(|number| signed.by_cookie(&gate.url_at(number % 2, PATH))).collect();
        wait_for_age(Instant::now(), Duration::from_millis(1100));
        let waiting: Vec<_> = waiting.into_iter().map(Request::begin).collect();
        hold.wait_for(1, BOUND).unwrap();
        if logout == "by the person" {
            // Redirects are not followed: only the gate's own sign-out races with the refresh.
            let out = signed.browser.submit(&gate.url_at(1, "/oauth2/logout"), &[]);
            assert_eq!(out.unwrap().status, 303);
        } else {
            gate.provider.delete_session(&signed.sid);
        }
        hold.release();
        for request in waiting {
            let answer = request.finish().unwrap();
            assert!([200, 401, 503].contains(&answer.status), "{logout}: {answer}");
        }
        gate.provider.behave();
        // The browser deletes its cookie at sign-out, but there may be a stolen copy.
        let kept = gate.browser_with(&cookie);
        assert_soon_everywhere(&gate, 401, PATH, |url| kept.fetching("GET", url));
        // It stays that way: no request still in progress restores the session, neither here nor in Redis.
        let gone = || gate.redis().keys("mlflow:s:*").unwrap().is_empty();
        gate.wait_until(&format!("brings it back, {logout}"), gone);
        for _ in 0..5 {
            assert_eq!(statuses(&gate, PATH, |url| kept.fetching("GET", url)), [401].into(), "{logout}");
        }
    }
    assert_eq!(gate.provider.spent_twice(), 0);
}

#[test]
fn where_the_provider_has_no_end_session_the_refresh_token_is_revoked() {
    let gate = Gate::builder()
        .provider(|provider| {
            provider.edit_document(Endpoint::Discovery, |document| remove(document, "end_session_endpoint"));
        })
        .start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    let journey = gate.sign_out(&signed.browser);
    assert_eq!(journey.end().url, gate.url("/oauth2/signed-out"), "{}", journey.end());
    gate.wait_until("revokes nothing", || gate.provider.count(Endpoint::Revocation) == 1);
    let request = gate.provider.requests(Endpoint::Revocation).remove(0);
    assert!(request.form_field("token").is_some(), "{request:?}");
    assert_eq!(request.form_field("token_type_hint"), Some("refresh_token"));
    assert!(request.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
    assert!(wait_until(BOUND, || gate.provider.sessions_of("mlflow_user").is_empty()));
    assert_eq!(gate.provider.count(Endpoint::EndSession), 0);
}

#[test]
fn of_a_sessions_tokens_a_revoked_refresh_token_ends_it_at_its_renewal_and_a_revoked_access_token_does_not() {
    let gate = two_envoys().set("session.check_interval", "1s").start();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let seen = answers.clone();
    gate.provider.edit_document(Endpoint::Token, move |answer| seen.lock().unwrap().push(answer.clone()));
    let latest = |name: &str| answers.lock().unwrap().last().unwrap()[name].as_str().unwrap().to_owned();
    let renewals = || gate.provider.count(Grant::RefreshToken);

    let browser = gate.signed_in("mlflow_user");
    revoke(&gate, &latest("access_token"));
    let before = renewals();
    let renewed = || browser.fetch(&gate.url(PATH)).unwrap().status == 200 && renewals() > before;
    assert!(wait_until(BOUND, renewed), "it goes on, and is renewed");
    assert_soon_everywhere(&gate, 200, PATH, |url| browser.fetching("GET", url));

    let told = gate.provider.deliveries().len();
    revoke(&gate, &latest("refresh_token"));
    let took = assert_soon_everywhere(&gate, 401, PATH, |url| browser.fetching("GET", url));
    println!("refresh token revoked: refused everywhere after {took:?}");
    assert_eq!(gate.provider.deliveries().len(), told, "nobody was told");
    assert_eq!(gate.provider.spent_twice(), 0);
}
