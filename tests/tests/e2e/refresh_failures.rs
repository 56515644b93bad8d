//! Failed refreshes: which ones end a session, which ones only delay it, and that the provider is not called too often.

use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::load::burst;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Forgery, Grant, Times, TokenKind, User};
use oidc_gate_tests::forge::claim;
use oidc_gate_tests::{
    Builder, Gate, assert_everywhere, assert_refused, assert_soon_everywhere, assert_workers_alive,
    wait_for_age,
};
use serde_json::json;

fn builder() -> Builder {
    Gate::builder().set("session.refresh_ahead", "0s")
}

fn gate() -> Gate {
    builder().start()
}

fn expired(gate: &Gate, username: &str) -> Client {
    gate.signed_in_and_expired(username, 1)
}

#[test]
fn rf03_a_refreshed_id_token_that_does_not_belong_to_the_login_ends_the_session() {
    let gate = gate();
    let now = gate.provider.now();
    let other = gate.provider.user("mlflow_admin").subject;
    for (name, forgery) in [
        ("another user", claim("sub", other)),
        ("no user", claim("sub", json!(null))),
        ("another issuer", claim("iss", "http://evil.example/realms/mlflow")),
        ("another audience", claim("aud", "other")),
        ("another party", claim("azp", "other")),
        ("another login", claim("auth_time", now - 1000)),
        ("another nonce", claim("nonce", "other")),
        ("expired", claim("exp", now - 3600)),
        ("another access token's hash", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")),
        ("a stranger's key", Forgery::new().key(gate.provider.strangers_key())),
        ("no signature", Forgery::new().key(oidc_gate_testkit::provider::SigningKey::Unsigned)),
    ] {
        let browser = expired(&gate, "mlflow_user");
        let before = gate.provider.count(Grant::RefreshToken);
        gate.provider.forge(TokenKind::Id, forgery);
        eprintln!("{name}");
        assert_refused(&gate, 401, || browser.fetch(&gate.url("/x")));
        gate.provider.behave();
        assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
        assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1, "{name}: the new tokens are used");
    }
}

#[test]
fn rf04_whatever_the_provider_no_longer_knows_ends_now_on_every_worker() {
    let gate = gate();
    for name in ["ended", "disabled", "stale", "deleted", "timed-out", "detached"] {
        gate.provider.add_user(User::new(name, &["/mlflow_users"]));
        let browser = expired(&gate, name);
        let sid = gate.provider.sessions_of(name)[0].sid.clone();
        let now = gate.provider.now();
        match name {
            "ended" => gate.provider.end_sessions_of(name),
            "disabled" => gate.provider.disable_user(name),
            "stale" => gate.provider.edit_user(name, |user| user.not_before = now + 1),
            "deleted" => gate.provider.delete_user(name),
            "timed-out" => gate.provider.expire_session(&sid),
            _ => {
                // An attacker presents a code of this session again.
                let code = gate.provider.requests(Grant::AuthorizationCode).pop().unwrap();
                let token = format!("{}/protocol/openid-connect/token", gate.provider.issuer());
                let form: Vec<_> = code.form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let replay = Client::new().request("POST", &token).form(&form);
                let replay = replay.header("authorization", code.header("authorization").unwrap());
                assert_eq!(replay.send().unwrap().status, 400);
            }
        }
        let before = gate.provider.count(Grant::RefreshToken);
        eprintln!("{name}");
        assert_refused(&gate, 401, || browser.fetch(&gate.url("/x")));
        assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
        let page = browser.navigate(&gate.url("/x")).unwrap();
        assert_eq!(page.status, 302, "{name}: {page}");
        let refused = gate.provider.refused(Grant::RefreshToken);
        assert_eq!(refused.last().unwrap().error, "invalid_grant", "{name}");
        assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1, "{name}: asked again and again");
    }
}

#[test]
fn rf05_a_provider_in_trouble_gives_503_and_no_logout_and_is_not_hammered() {
    // The time limit of a silent provider. It must be long enough for a slow response.
    let gate = builder().set("issuer.timeout", "3s").start();
    let garbage = Behaviour::answer(200, "text/html", "<html>");
    let page = Behaviour::answer(403, "text/html", "<h1>Who are you?</h1>");
    // F402: if waiting does not help, there is no Retry-After, and the log has the provider's message.
    for (name, passes, behaviour, said) in [
        ("500", true, Behaviour::json(500, "{}"), "status 500"),
        (
            "503 with a Retry-After",
            true,
            Behaviour::json(503, "{\"error\":\"temporarily_unavailable\"}"),
            "status 503, temporarily_unavailable",
        ),
        (
            "come back later",
            true,
            Behaviour::json(400, "{\"error\":\"temporarily_unavailable\"}"),
            "status 400, temporarily_unavailable",
        ),
        (
            "our secret is wrong",
            false,
            Behaviour::json(
                401,
                "{\"error\":\"unauthorized_client\",\"error_description\":\"Invalid client\"}",
            ),
            "status 401, unauthorized_client: Invalid client",
        ),
        ("HTML", false, garbage, "content type is not JSON"),
        ("a firewall", false, page, "status 403, text/html: <h1>Who are you?</h1>"),
        ("an error without words", false, Behaviour::json(400, ""), "status 400"),
        ("a list", false, Behaviour::json(200, "[]"), "not a JSON object"),
        ("no tokens", false, Behaviour::json(200, "{}"), "token_type is missing"),
        ("a redirect", false, Behaviour::answer(302, "text/plain", ""), "status 302"),
        ("refused", true, Behaviour::Refuse, "from Envoy: upstream connect error"),
        ("silence", true, Behaviour::Hang, "status 504 from Envoy: upstream request timeout"),
    ] {
        let browser = expired(&gate, "mlflow_user");
        gate.provider.misbehave(Grant::RefreshToken, Times::Always, behaviour);
        let before = gate.provider.count(Grant::RefreshToken);
        eprintln!("{name}");
        let refused = assert_refused(&gate, 503, || browser.fetch(&gate.url("/x")));
        assert_eq!(refused.header("retry-after").is_some(), passes, "{name}: {refused}");
        assert_eq!(refused.text().contains("An administrator has to act"), !passes, "{name}: {refused}");
        gate.envoy().wait_for_log(said, Duration::from_secs(5)).unwrap();
        let page = browser.navigate(&gate.url("/x")).unwrap();
        assert_eq!(page.status, 503, "{name}: {page}");
        let answers = burst(60, 20, |_| browser.fetching("GET", &gate.url("/x")));
        assert!(answers.into_iter().all(|answer| answer.unwrap().status == 503), "{name}");
        let calls = gate.provider.count(Grant::RefreshToken) - before;
        assert!(calls <= 6, "{name}: {calls} calls for one session");
        gate.provider.behave();
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_eq!(gate.provider.refused(Grant::RefreshToken), []);
}

#[test]
fn a_refusal_of_the_request_itself_ends_the_session_since_it_would_be_refused_again() {
    let gate = gate();
    for error in ["invalid_request", "unsupported_grant_type", "invalid_scope"] {
        let browser = expired(&gate, "mlflow_user");
        let body = json!({"error": error, "error_description": "no"}).to_string();
        gate.provider.misbehave(Grant::RefreshToken, Times::Next(1), Behaviour::json(400, body));
        assert_refused(&gate, 401, || browser.fetch(&gate.url("/x")));
        assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    }
}

#[test]
fn rf05_while_the_access_token_is_good_a_failing_refresh_is_not_noticed() {
    let gate = Gate::builder()
        .set("session.refresh_ahead", "1h")
        .provider(|provider| {
            provider.settings(|settings| settings.access_token_lifespan = 30);
            provider.misbehave(Grant::RefreshToken, Times::Always, Behaviour::json(500, "{}"));
        })
        .start();
    let signed_in = Instant::now();
    let browser = gate.signed_in("mlflow_user");
    wait_for_age(signed_in, Duration::from_secs(16));
    let asked = || {
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
        gate.provider.count(Grant::RefreshToken) >= 2
    };
    gate.wait_until_within(Duration::from_secs(10), "does not try again", asked);
    let calls = gate.provider.count(Grant::RefreshToken);
    println!("{calls} refreshes in {:?} of failing", signed_in.elapsed() - Duration::from_secs(15));
    gate.provider.behave();
    let renewed = || {
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
        gate.provider.granted(Grant::RefreshToken) == 1
    };
    gate.wait_until_within(Duration::from_secs(40), "does not recover", renewed);
}

#[test]
fn rf05_with_the_provider_gone_an_expired_session_waits_and_comes_back() {
    let gate = gate();
    let browser = expired(&gate, "mlflow_user");
    gate.provider.stop();
    assert_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
    gate.provider.resume().unwrap();
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.provider.count(Endpoint::Authorization), 1);
}

#[test]
fn an_answer_that_is_lost_ends_the_session_cleanly_or_is_forgiven_by_the_provider() {
    for (reuse, expected) in [(0, 401), (1, 200)] {
        for behaviour in [Behaviour::DropAnswer, Behaviour::CloseMidBody] {
            let gate = gate();
            gate.provider.settings(|settings| settings.refresh_token_max_reuse = reuse);
            let browser = expired(&gate, "mlflow_user");
            gate.provider.misbehave(Grant::RefreshToken, Times::Next(1), behaviour.clone());
            let first = browser.fetch(&gate.url("/x")).unwrap();
            assert!([401, 503].contains(&first.status), "{behaviour:?}: {first}");
            assert_soon_everywhere(&gate, expected, "/x", |url| browser.fetching("GET", url));
            // Other users are not affected, and this user can sign in again.
            let again = gate.signed_in("mlflow_user");
            assert_everywhere(&gate, 200, "/x", |url| again.fetching("GET", url));
        }
    }
}

#[test]
fn it22_lifetimes_of_any_shape_never_make_a_session_without_end_or_a_refresh_at_every_request() {
    let gate = gate();
    for expires_in in [json!("300"), json!(0), json!(-5), json!(1e300), json!(null), json!([]), json!(1.5)] {
        let browser = expired(&gate, "mlflow_user");
        let (sent, before) = (expires_in.clone(), gate.provider.count(Grant::RefreshToken));
        gate.provider.edit_document(Grant::RefreshToken, move |answer| answer["expires_in"] = sent.clone());
        eprintln!("{expires_in}");
        let answers = burst(40, 10, |_| browser.fetching("GET", &gate.url("/x")));
        for answer in answers {
            let answer = answer.unwrap();
            assert!([200, 401, 503].contains(&answer.status), "{expires_in}: {answer}");
        }
        let calls = gate.provider.count(Grant::RefreshToken) - before;
        assert!(calls <= 8, "{expires_in}: {calls} refreshes for 40 requests");
        gate.provider.behave();
    }
    assert_workers_alive(&gate);
}
