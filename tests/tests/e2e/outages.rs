//! Redis or the provider is unavailable: nobody gets access, no session is lost, and nothing must be restarted.

use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::load::Load;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Times};
use oidc_gate_testkit::redis::Script;
use oidc_gate_tests::{Gate, assert_refused, assert_soon_everywhere, assert_workers_alive};

const BOUND: Duration = Duration::from_secs(20);

#[test]
fn without_redis_a_session_gets_503_until_it_is_back_and_never_a_login() {
    let gate = Gate::builder().set("session.cache_ttl", "1s").start();
    let browser = gate.signed_in("mlflow_user");
    gate.redis().stop();
    let url = gate.url("/x");
    // Each worker has its own cache.
    let unavailable = || (0..20).all(|_| browser.navigate(&url).is_ok_and(|response| response.status == 503));
    assert!(wait_until(BOUND, unavailable), "served from a cache for too long");
    let page = assert_refused(&gate, 503, || browser.navigate(&url));
    assert!(page.header("retry-after").is_some(), "{page}");
    let json = assert_refused(&gate, 503, || browser.fetch(&url));
    assert!(json.header("retry-after").is_some() && json.json()["error_code"].is_string(), "{json}");

    gate.redis().resume().unwrap();
    // Redis came back empty, so the session is gone and the user signs in again.
    let back = || browser.navigate(&url).is_ok_and(|response| response.status == 302);
    gate.wait_until("does not recover", back);
    gate.sign_in(&browser, "mlflow_user", "/x");
}

#[test]
fn with_redis_down_a_callback_spends_no_code_and_works_when_it_is_back() {
    let gate = Gate::start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/x");
    gate.redis().stop();
    let page = browser.navigate(&callback).unwrap();
    assert_eq!(page.status, 503, "{page}");
    assert!(page.header("retry-after").is_some(), "{page}");
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
    gate.redis().resume().unwrap();
    gate.wait_until("does not recover", || {
        browser.navigate(&callback).is_ok_and(|response| [302, 303].contains(&response.status))
    });
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
}

#[test]
fn a_frozen_redis_is_503_within_its_timeout() {
    let gate = Gate::builder().set("session.cache_ttl", "1s").start();
    let browser = gate.signed_in("mlflow_user");
    gate.redis().freeze();
    let url = gate.url("/x");
    let unavailable = || {
        let response = browser.fetching("GET", &url).timeout(Duration::from_secs(5)).send();
        response.is_ok_and(|response| response.status == 503)
    };
    gate.wait_until("waits for a frozen Redis", unavailable);
    gate.redis().thaw();
    gate.wait_until("does not recover", || browser.fetch(&url).is_ok_and(|response| response.status == 200));
    assert_workers_alive(&gate);
}

#[test]
fn answers_that_redis_would_not_give_are_503_and_never_a_session() {
    let gate = Gate::builder().fake_redis(Script::Close).start();
    let cookie = {
        // A well-formed ticket that another gate issued.
        let elsewhere = Gate::start();
        let browser = elsewhere.signed_in("mlflow_user");
        elsewhere.session_cookie(&browser).unwrap()
    };
    let fake = gate.fake_redis();
    for (name, script) in [
        ("closed", Script::Close),
        ("silent", Script::Silent),
        ("empty", Script::Reply(Vec::new())),
        ("loading", Script::Reply(b"-LOADING Redis is loading the dataset in memory\r\n".to_vec())),
        ("wrong password", Script::Reply(b"-WRONGPASS invalid username-password pair\r\n".to_vec())),
        ("signed in and nothing more", Script::Reply(b"+OK\r\n".to_vec())),
        ("half a value", Script::Reply(b"+OK\r\n$100\r\nabc".to_vec())),
        ("a list without end", Script::Reply(b"+OK\r\n*1000000000\r\n".to_vec())),
        ("a value without end", Script::Reply(b"+OK\r\n$99999999999999999999\r\n".to_vec())),
        ("negative lengths", Script::Reply(b"+OK\r\n$-5\r\n".to_vec())),
        ("another type", Script::Reply(b"+OK\r\n:42\r\n:42\r\n:42\r\n".to_vec())),
        ("nested lists", Script::Reply([b"+OK\r\n".to_vec(), b"*1\r\n".repeat(10_000)].concat())),
        ("HTTP", Script::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("noise", Script::Reply(vec![0xff; 70_000])),
        ("the answer and more", Script::Reply(b"+OK\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n".to_vec())),
    ] {
        // Calls about the session, because the revocation stream is read all the time. A server that closes immediately
        // records neither.
        let closes = script == Script::Close;
        let asked = || if closes { fake.connections() } else { fake.heard("mlflow:s:") };
        fake.play(script);
        let client = gate.browser_with(&cookie);
        let before = asked();
        eprintln!("{name}");
        assert_refused(&gate, 503, || client.fetch(&gate.url("/x")));
        assert!(wait_until(BOUND, || asked() > before), "{name}: Redis was not asked");
    }
}

#[test]
fn a_gate_that_starts_before_its_provider_answers_503_and_then_works() {
    let gate = Gate::builder()
        .set("issuer.startup_wait", "500ms")
        .provider(oidc_gate_testkit::provider::Provider::stop)
        .start();
    let page = Client::new().navigate(&gate.url("/")).unwrap();
    assert_eq!(page.status, 503, "{page}");
    assert!(page.header("retry-after").is_some(), "{page}");
    gate.provider.resume().unwrap();
    gate.wait_until_within(BOUND * 3, "does not recover", || {
        Client::new().navigate(&gate.url("/")).is_ok_and(|response| response.status == 302)
    });
    gate.signed_in("mlflow_user");
    assert_workers_alive(&gate);
}

#[test]
fn pm13_a_request_that_comes_before_discovery_is_done_waits_for_it() {
    let gate = Gate::builder()
        .provider(|provider| {
            provider.misbehave(
                Endpoint::Discovery,
                Times::Next(1),
                Behaviour::Delay(Duration::from_millis(1500)),
            );
        })
        .start();
    let response = Client::new().navigate(&gate.url("/")).unwrap();
    assert_eq!(response.status, 302, "{response}");
}

#[test]
fn with_the_provider_down_sessions_and_known_tokens_go_on() {
    let (gate, browser) = Gate::with_browser();
    let token = gate.provider.access_token("mlflow_user");
    assert_workers_alive(&gate);
    gate.provider.stop();
    for _ in 0..5 {
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
        assert_eq!(gate.with_token("/x", &token).send().unwrap().status, 200);
    }
    let login = Client::new();
    let response = login.navigate(&gate.url("/")).unwrap();
    // The metadata is known, so the browser may still be redirected to the provider.
    assert!([302, 503].contains(&response.status), "{response}");
}

#[test]
fn discovery_documents_of_any_shape_leave_the_gate_closed_and_alive() {
    for (name, behaviour) in [
        ("500", Behaviour::json(500, "{}")),
        ("HTML", Behaviour::answer(200, "text/html", "<html>")),
        ("empty", Behaviour::json(200, "")),
        ("a list", Behaviour::json(200, "[]")),
        ("deep", Behaviour::json(200, "[".repeat(100_000))),
        ("cut off", Behaviour::CloseMidBody),
        ("dropped", Behaviour::DropAnswer),
    ] {
        let gate = Gate::builder()
            .set("issuer.startup_wait", "300ms")
            .provider(move |provider| provider.misbehave(Endpoint::Discovery, Times::Always, behaviour))
            .start();
        let response = Client::new().navigate(&gate.url("/")).unwrap();
        assert_eq!(response.status, 503, "{name}: {response}");
        gate.provider.behave();
        let works = || Client::new().navigate(&gate.url("/")).is_ok_and(|response| response.status == 302);
        gate.wait_until_within(BOUND * 3, &format!("does not recover from {name}"), works);
    }
}

/// The shortest time between two calls to an unavailable provider while a request waits, over all workers.
const AWAITED_PAUSE: Duration = Duration::from_millis(900);

#[test]
fn f703_while_the_provider_is_down_one_worker_asks_for_all_and_who_waits_is_served_when_it_is_back() {
    let down = || Behaviour::json(503, "{}");
    let began = Instant::now();
    let gate = Gate::builder()
        .workers(4)
        .provider(move |provider| provider.misbehave(Endpoint::Discovery, Times::Always, down()))
        .start();
    let url = gate.url("/x");
    let load = Load::start(4, move |_| Client::new().navigation("GET", &url));
    let asked = || gate.provider.count(Endpoint::Discovery);
    assert!(wait_until(BOUND * 3, || asked() >= 5 && load.count() >= 8), "{}", asked());
    let (most, outcomes) = (asked(), load.stop());
    let allowed = usize::try_from(began.elapsed().as_millis() / AWAITED_PAUSE.as_millis()).unwrap() + 2;
    assert!(most <= allowed, "{most} requests, {allowed} are allowed; {} people waited", outcomes.len());
    assert_eq!(gate.provider.most_at_once(Endpoint::Discovery), 1);
    for outcome in &outcomes {
        let response = outcome.result.as_ref().unwrap();
        assert!(response.status == 503 && response.header("retry-after").is_some(), "{response}");
    }
    assert_eq!(gate.echo.count(), 0);
    gate.provider.behave();
    assert_soon_everywhere(&gate, 302, "/x", |url| Client::new().navigation("GET", url));
    assert_workers_alive(&gate);
}
