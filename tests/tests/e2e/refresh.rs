//! Refresh: once for each session, ahead of expiry, for all workers of all Envoys, even if the client that caused it
//! disconnects.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::load::burst;
use oidc_gate_testkit::envoy::Verdict;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Grant, Hold, Times};
use oidc_gate_tests::forge::remove;
use oidc_gate_tests::{
    BOUND, Builder, Gate, assert_everywhere, assert_soon_everywhere, assert_workers_alive, statuses,
    wait_for_age,
};

/// Lifetime of access tokens, in seconds, in tests that wait for expiry.
const SHORT: u32 = 2;
const EXPIRED: Duration = Duration::from_secs(3);

/// Tokens of the first login are short-lived, those of a refresh are not. So the first expiry has an effect exactly
/// once.
fn short_lived(builder: Builder) -> Builder {
    builder
        .set("session.refresh_ahead", "0s")
        .provider(|provider| provider.settings(|settings| settings.access_token_lifespan = SHORT.into()))
}

/// Sessions are refreshed after eight of the sixteen seconds that the first token lives. The refresh may take long.
fn renewed_ahead() -> Builder {
    let builder = Gate::builder().set("session.refresh_ahead", "1h").set("issuer.timeout", "30s");
    builder.provider(|provider| provider.settings(|settings| settings.access_token_lifespan = 16))
}

fn long_lived_from_now_on(gate: &Gate) {
    gate.provider.settings(|settings| settings.access_token_lifespan = 300);
}

#[test]
fn rf01_hundreds_of_requests_at_expiry_on_two_envoys_are_one_token_call_and_no_401() {
    let gate = short_lived(Gate::builder()).envoys(2).start();
    let browser = gate.signed_in_and_expired("mlflow_user", SHORT);
    let before = gate.provider.count(Grant::RefreshToken);
    let hold = Hold::spent();
    gate.provider.hold(Grant::RefreshToken, &hold);
    let answers = std::thread::scope(|scope| {
        let load =
            scope.spawn(|| burst(300, 100, |number| browser.fetching("GET", &gate.url_at(number % 2, "/x"))));
        hold.wait_for(1, BOUND).unwrap();
        hold.release();
        load.join().unwrap()
    });
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{answer}\n{}", gate.envoy().trouble("is asked why"));
    }
    assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1);
    assert_eq!(gate.provider.most_at_once(Grant::RefreshToken), 1);
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_eq!(gate.echo.count(), 301);
}

#[test]
fn rf01_many_sessions_at_expiry_are_renewed_once_each() {
    let gate = short_lived(Gate::builder()).envoys(2).start();
    gate.provider.settings(|settings| settings.access_token_lifespan = SHORT.into());
    let browsers: Vec<Client> = (0..8).map(|_| gate.signed_in("mlflow_user")).collect();
    let signed_in = Instant::now();
    long_lived_from_now_on(&gate);
    wait_for_age(signed_in, EXPIRED);
    let before = gate.provider.count(Grant::RefreshToken);
    let answers = burst(160, 40, |number| {
        browsers[number % browsers.len()].fetching("GET", &gate.url_at(number / 8 % 2, "/x"))
    });
    assert!(answers.into_iter().all(|answer| answer.unwrap().status == 200));
    assert_eq!(gate.provider.count(Grant::RefreshToken), before + browsers.len());
    assert_eq!(gate.provider.spent_twice(), 0);
}

#[test]
fn a_session_is_renewed_ahead_in_the_background_and_nobody_waits_for_it() {
    let gate = renewed_ahead().start();
    let browser = gate.signed_in("mlflow_user");
    let signed_in = Instant::now();
    long_lived_from_now_on(&gate);
    let hold = Hold::unspent();
    gate.provider.hold(Grant::RefreshToken, &hold);
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(hold.held(), 0, "renewed long before it has to be");
    // At most half of the token's lifetime ahead.
    wait_for_age(signed_in, Duration::from_secs(9));
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    hold.wait_for(1, BOUND).unwrap();
    assert_eq!(gate.provider.granted(Grant::RefreshToken), 0, "nobody has waited for it");
    hold.release();
    assert!(wait_until(BOUND, || gate.provider.granted(Grant::RefreshToken) == 1));
    wait_for_age(signed_in, Duration::from_secs(17));
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.provider.count(Grant::RefreshToken), 1);
}

#[test]
fn rf07_a_refresh_goes_on_when_the_client_that_waits_for_it_has_gone() {
    let gate = short_lived(Gate::builder()).envoys(2).start();
    let browser = gate.signed_in_and_expired("mlflow_user", SHORT);
    let before = gate.provider.count(Grant::RefreshToken);
    let hold = Hold::spent();
    gate.provider.hold(Grant::RefreshToken, &hold);
    let waiting: Vec<_> =
        (0..4).map(|number| browser.fetching("GET", &gate.url_at(number % 2, "/x")).begin()).collect();
    hold.wait_for(1, BOUND).unwrap();
    for request in waiting {
        request.abort();
    }
    hold.release();
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1);
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_workers_alive(&gate);
}

#[test]
fn rf02_an_envoy_killed_after_the_token_was_spent_costs_this_session_at_most() {
    let mut gate = short_lived(Gate::builder()).envoys(2).start();
    let other = gate.signed_in("mlflow_admin");
    let browser = gate.signed_in_and_expired("mlflow_user", SHORT);
    let hold = Hold::spent();
    gate.provider.hold(Grant::RefreshToken, &hold);
    let waiting = browser.fetching("GET", &gate.url_at(0, "/x")).begin();
    hold.wait_for(1, BOUND).unwrap();
    gate.kill_envoy(0);
    assert!(waiting.finish().is_err(), "the Envoy that was asked is gone");
    gate.provider.behave();
    hold.release();
    let url = gate.url_at(1, "/x");
    // The new tokens are lost, so the session ends cleanly: there is never a 200 for another user, and the 5xx do not
    // last.
    let mut last = 0;
    let settled = || {
        last = browser.fetch(&url).unwrap().status;
        [200, 401].contains(&last)
    };
    gate.wait_until_within(Duration::from_secs(40), "does not settle", settled);
    println!("after the crash the session is answered with {last}");
    assert_soon_everywhere(&gate, last, "/x", |url| browser.fetching("GET", url));
    assert_soon_everywhere(&gate, 200, "/x", |url| other.fetching("GET", url));
    gate.start_envoy(0);
    assert_soon_everywhere(&gate, last, "/x", |url| browser.fetching("GET", url));
    let again = gate.signed_in("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| again.fetching("GET", url));
}

#[test]
fn rf02_an_envoy_killed_before_the_token_was_spent_costs_nothing() {
    let mut gate = short_lived(Gate::builder()).envoys(2).start();
    let browser = gate.signed_in_and_expired("mlflow_user", SHORT);
    let before = gate.provider.granted(Grant::RefreshToken);
    // The request never reaches the provider.
    gate.provider.misbehave(Grant::RefreshToken, Times::Next(1), Behaviour::Hang);
    let waiting = browser.fetching("GET", &gate.url_at(0, "/x")).begin();
    assert!(wait_until(BOUND, || gate.provider.under_way(Grant::RefreshToken) == 1));
    gate.kill_envoy(0);
    assert!(waiting.finish().is_err(), "the Envoy that was asked is gone");
    let url = gate.url_at(1, "/x");
    gate.wait_until_within(Duration::from_secs(40), "does not take over", || {
        browser.fetch(&url).is_ok_and(|response| response.status == 200)
    });
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_eq!(gate.provider.granted(Grant::RefreshToken), before + 1);
}

#[test]
fn rf06_each_refresh_token_is_used_once_and_its_successor_the_next_time() {
    let gate = Gate::builder()
        .set("session.refresh_ahead", "0s")
        .provider(|provider| provider.settings(|settings| settings.access_token_lifespan = 1))
        .start();
    let browser = gate.signed_in("mlflow_user");
    let renewed = |times: usize| {
        let ask = || {
            let found = statuses(&gate, "/x", |url| browser.fetching("GET", url));
            assert!(found.contains(&200) && found.len() == 1, "{found:?}");
            gate.provider.granted(Grant::RefreshToken) >= times
        };
        gate.wait_until("renews nothing", ask);
    };
    renewed(3);
    let requests = gate.provider.requests(Grant::RefreshToken);
    let tokens: HashSet<_> = requests.iter().map(|request| request.form_field("refresh_token")).collect();
    assert_eq!(tokens.len(), requests.len(), "a token came twice");
    for request in &requests {
        // RFC 6749 6: without `scope`, the granted scope stays the same.
        assert_eq!(request.form_field("scope"), None);
        assert!(request.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
    }
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_eq!(gate.provider.count(Endpoint::Authorization), 1);
}

#[test]
fn rf06_without_a_new_refresh_token_the_old_one_goes_on() {
    let gate = Gate::builder()
        .set("session.refresh_ahead", "0s")
        .provider(|provider| {
            provider.settings(|settings| {
                settings.access_token_lifespan = 1;
                settings.revoke_refresh_token = false;
            });
            provider.edit_document(Grant::RefreshToken, |answer| remove(answer, "refresh_token"));
        })
        .start();
    let browser = gate.signed_in("mlflow_user");
    let ask = || {
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
        gate.provider.granted(Grant::RefreshToken) >= 2
    };
    gate.wait_until("renews nothing", ask);
    let requests = gate.provider.requests(Grant::RefreshToken);
    let tokens: HashSet<_> = requests.iter().map(|request| request.form_field("refresh_token")).collect();
    assert_eq!(tokens.len(), 1);
}

#[test]
fn rf08_a_group_that_was_taken_away_is_denied_after_the_next_refresh_and_one_that_was_given_allows() {
    let gate = short_lived(Gate::builder()).envoys(2).start();
    let browser = gate.signed_in_and_expired("mlflow_user", SHORT);
    gate.provider.settings(|settings| settings.access_token_lifespan = SHORT.into());
    gate.provider.set_groups("mlflow_user", &[]);
    assert_soon_everywhere(&gate, 403, "/x", |url| browser.fetching("GET", url));
    gate.provider.set_groups("mlflow_user", &["/mlflow_users"]);
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.provider.spent_twice(), 0);
}

#[test]
fn two_logins_of_one_browser_share_a_session_at_the_provider_and_are_renewed_side_by_side() {
    let gate = short_lived(Gate::builder()).start();
    let (first, sid) = gate.signed_in_with_sid("mlflow_user");
    // The same browser with another cookie jar for the gate. A cookie at the provider still identifies its session
    // there.
    let second = Client::new();
    *second.jar() = first.jar().clone();
    second.jar().remove(gate.session_cookie_name());
    let journey = second.visit(&gate.url("/")).unwrap();
    let signed_in = Instant::now();
    assert_eq!(journey.end().status, 200, "{}", journey.end());
    gate.plant_secret(&gate.session_cookie(&second).unwrap());
    let sessions = gate.provider.sessions_of("mlflow_user");
    assert_eq!(sessions.iter().map(|session| &session.sid).collect::<Vec<_>>(), [&sid]);
    long_lived_from_now_on(&gate);
    wait_for_age(signed_in, EXPIRED);
    let before = gate.provider.count(Grant::RefreshToken);
    for browser in [&first, &second] {
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    assert_eq!(gate.provider.count(Grant::RefreshToken), before + 2);
    assert_eq!(gate.provider.spent_twice(), 0);
}

#[test]
fn without_refresh_tokens_a_session_ends_with_its_access_token_or_is_kept_as_configured() {
    for (setting, then) in [("end", 401), ("keep", 200)] {
        let gate = short_lived(Gate::builder())
            .set("session.without_refresh_token", setting)
            .provider(|provider| {
                provider.settings(|settings| {
                    settings.use_refresh_tokens = false;
                    // There is no refresh, so the token must last until the first responses.
                    settings.access_token_lifespan = 5;
                });
            })
            .start();
        let browser = gate.signed_in("mlflow_user");
        let signed_in = Instant::now();
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200, "{setting}");
        wait_for_age(signed_in, Duration::from_secs(6));
        assert_everywhere(&gate, then, "/x", |url| browser.fetching("GET", url));
        assert_eq!(gate.provider.count(Grant::RefreshToken), 0, "{setting}");
    }
}

#[test]
fn rf09_a_route_that_rewrites_the_host_changes_nothing_about_sessions() {
    let gate = short_lived(Gate::builder())
        .envoy(|config| {
            config.manager(|manager| {
                let route = &mut manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
                route["host_rewrite_literal"] = "app.internal".into();
            })
        })
        .start();
    let browser = gate.signed_in_and_expired("mlflow_user", SHORT);
    let before = gate.provider.count(Grant::RefreshToken);
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1);
    assert_eq!(gate.echo.last().unwrap().header("host"), Some("app.internal"));
    gate.sign_out(&browser);
}

/// A new configuration replaces the old one, but work that was started under the old one is finished.
#[test]
fn rf07_a_new_configuration_does_not_lose_a_refresh_that_is_under_way() {
    let gate = renewed_ahead().replaceable().start();
    let browser = gate.signed_in("mlflow_user");
    let signed_in = Instant::now();
    long_lived_from_now_on(&gate);
    let hold = Hold::spent();
    gate.provider.hold(Grant::RefreshToken, &hold);
    wait_for_age(signed_in, Duration::from_secs(9));
    assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
    hold.wait_for(1, BOUND).unwrap();
    let next = gate.config.clone().set("clock_leeway", "30s");
    assert_eq!(gate.envoy().push_listener(&next).unwrap(), Verdict::Accepted);
    // The listener that started the refresh is gone.
    let draining =
        |what| gate.envoy().stats().unwrap().get(&format!("listener_manager.total_{what}_draining")).copied();
    gate.wait_until("still drains", || {
        ["listeners", "filter_chains"].iter().all(|what| draining(what) == Some(0))
    });
    hold.release();
    wait_for_age(signed_in, Duration::from_secs(18));
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.provider.count(Grant::RefreshToken), 1);
    assert_eq!(gate.provider.spent_twice(), 0);
}
