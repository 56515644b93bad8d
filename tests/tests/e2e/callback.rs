//! The authorization response: accepted once, from the browser that started the login, and from the expected provider.

use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Hold, Times};
use oidc_gate_tests::{BOUND, Gate, assert_refused, assert_stopped, assert_workers_alive};
use serde_json::json;

/// Replaces or removes one parameter of a callback URL.
fn with(callback: &str, name: &str, value: Option<&str>) -> String {
    let (path, query) = callback.split_once('?').unwrap();
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(candidate, _)| candidate != name);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    if let Some(value) = value {
        query.append_pair(name, value);
    }
    format!("{path}?{}", query.finish())
}

#[test]
fn cb03_cb04_a_callback_in_another_browser_is_refused_and_no_code_is_spent() {
    let gate = Gate::start();
    let (attacker, victim) = (Client::new(), Client::new());
    let callback = gate.callback_of(&attacker, "mlflow_admin", "/");
    let response = assert_refused(&gate, 400, || victim.navigate(&callback));
    assert!(response.text().contains("Missing OAuth state"), "{response}");
    // A login that the victim has started does not help the attacker.
    victim.navigate(&gate.url("/")).unwrap();
    assert_refused(&gate, 400, || victim.navigate(&callback));
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
    assert_eq!(gate.session_cookie(&victim), None);
}

#[test]
fn cb06_a_used_callback_never_reaches_the_token_endpoint_again() {
    let gate = Gate::start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/x");
    let cookies_before = browser.jar().clone();
    let first = browser.navigate(&callback).unwrap();
    assert!([302, 303].contains(&first.status), "{first}");
    let session = gate.session_cookie(&browser);
    assert!(session.is_some());
    let sessions = gate.provider.sessions();
    // The back button, with the current cookies and with the earlier ones.
    let again = browser.navigate(&callback).unwrap();
    assert!(again.status < 500 && again.header("cache-control") == Some("no-store"), "{again}");
    *browser.jar() = cookies_before;
    let replay = browser.navigate(&callback).unwrap();
    assert!(replay.status < 500, "{replay}");
    assert_eq!(gate.session_cookie(&browser), None, "a second session");
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
    assert_eq!(gate.provider.sessions(), sessions);
}

#[test]
fn f603_the_first_of_six_tabs_is_led_back_to_its_page_by_the_button() {
    let gate = Gate::start();
    let browser = Client::new();
    let page = |tab: usize| format!("/experiments/{tab}/runs?search=a%20b&order=desc");
    let callbacks: Vec<String> =
        (0..6).map(|tab| gate.callback_of(&browser, "mlflow_user", &page(tab))).collect();
    let first = assert_refused(&gate, 400, || browser.navigate(&callbacks[0]));
    assert!(first.text().contains("Missing OAuth state"), "{first}");
    assert!(first.text().contains("more than five sign-ins"), "{first}");
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
    let button =
        first.text().split_once("href=\"/oauth2/login").unwrap().1.split_once('"').unwrap().0.to_owned();
    gate.provider.sign_in_as("mlflow_user");
    let journey = browser.visit(&gate.url(&format!("/oauth2/login{button}"))).unwrap();
    gate.provider.ask_for_password();
    assert_eq!(journey.end().url, gate.url(&page(0)), "{}", journey.end());
    assert_eq!(journey.end().status, 200, "{}", journey.end());
    // A browser that did not start the login opens the same URL, and is not signed in.
    let stranger = Client::new();
    let refused = assert_refused(&gate, 400, || stranger.navigate(&callbacks[5]));
    assert!(refused.text().contains("rd=%2Fexperiments%2F5%2Fruns"), "{refused}");
    assert_eq!(gate.session_cookie(&stranger), None);
    // A `state` that the gate did not create leads to the start page.
    let forged = with(&callbacks[5], "state", Some(&format!("{}//evil.example", "A".repeat(43))));
    let refused = assert_refused(&gate, 400, || stranger.navigate(&forged));
    assert!(refused.text().contains("rd=%2F\"") && !refused.text().contains("evil"), "{refused}");
}

#[test]
fn cb13_the_same_callback_on_all_workers_at_once_is_one_token_request() {
    let gate = Gate::builder().workers(4).start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/x");
    let cookies = browser.jar().clone();
    gate.provider.misbehave(Endpoint::Token, Times::Always, Behaviour::Delay(Duration::from_millis(300)));
    let sessions: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|_| {
                let (callback, cookies) = (callback.clone(), cookies.clone());
                let gate = &gate;
                scope.spawn(move || {
                    let tab = Client::new();
                    *tab.jar() = cookies;
                    let response = tab.navigate(&callback).unwrap();
                    assert!(response.status < 500, "{response}");
                    usize::from(gate.session_cookie(&tab).is_some())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
    assert_eq!(sessions, 1);
}

#[test]
fn cb08_an_answer_of_another_issuer_is_refused_before_the_code_is_spent() {
    let gate = Gate::start();
    let issuer = gate.provider.issuer();
    let (slash, capitals, port) = (
        format!("{issuer}/"),
        issuer.to_uppercase(),
        issuer.replace(&format!(":{}", gate.provider.port()), ":80"),
    );
    for iss in [None, Some(""), Some("http://evil.example"), Some(&slash), Some(&capitals), Some(&port)] {
        let browser = Client::new();
        let callback = with(&gate.callback_of(&browser, "mlflow_user", "/"), "iss", iss);
        assert_refused(&gate, 400, || browser.navigate(&callback));
        assert_eq!(gate.session_cookie(&browser), None, "{iss:?}");
    }
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn cb09_an_error_wins_over_a_code() {
    let gate = Gate::start();
    let browser = Client::new();
    let callback = with(&gate.callback_of(&browser, "mlflow_user", "/"), "error", Some("access_denied"));
    assert_refused(&gate, 403, || browser.navigate(&callback));
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn cb10_tokens_in_the_address_are_never_used() {
    let gate = Gate::start();
    let token = gate.provider.access_token("mlflow_admin");
    for name in ["access_token", "id_token", "response"] {
        let browser = Client::new();
        let callback = with(&gate.callback_of(&browser, "mlflow_user", "/"), name, Some(&token));
        let callback = with(&callback, "code", None);
        assert_refused(&gate, 400, || browser.navigate(&callback));
        assert_eq!(gate.session_cookie(&browser), None, "{name}");
    }
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn cb11_a_posted_callback_is_refused() {
    let gate = Gate::start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/");
    let (path, query) = callback.split_once('?').unwrap();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let fields: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_refused(&gate, 405, || browser.navigation("POST", path).form(&fields).send());
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn parameters_that_are_missing_repeated_or_empty_are_refused_without_a_token_request() {
    let gate = Gate::start();
    type Edit = fn(&str) -> String;
    let edits: [(&str, Edit); 6] = [
        ("no code", |callback| with(callback, "code", None)),
        ("empty code", |callback| with(callback, "code", Some(""))),
        ("no state", |callback| with(callback, "state", None)),
        ("empty state", |callback| with(callback, "state", Some(""))),
        ("two codes", |callback| format!("{callback}&code=second")),
        ("two states", |callback| format!("{callback}&state=second")),
    ];
    for (name, edit) in edits {
        let browser = Client::new();
        let callback = edit(&gate.callback_of(&browser, "mlflow_user", "/"));
        eprintln!("{name}");
        assert_refused(&gate, 400, || browser.navigate(&callback));
    }
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn cb15_only_the_very_path_of_the_callback_is_the_callback() {
    let gate = Gate::start();
    for path in [
        "/oauth2/callback/",
        "/oauth2/callback;x=y",
        "/OAUTH2/callback",
        "/oauth2/callback%2f",
        "/oauth2/callback/..",
    ] {
        let browser = Client::new();
        let callback = gate.callback_of(&browser, "mlflow_user", "/").replace("/oauth2/callback", path);
        assert_stopped(&gate, &[400, 401, 404], path, || browser.fetch(&callback));
    }
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn az13_errors_of_the_provider_are_explained_and_escaped() {
    let gate = Gate::start();
    for (error, status, expected) in [
        ("invalid_scope", 400, "login.scope"),
        ("access_denied", 403, "declined"),
        ("login_required", 400, "Sign in again"),
        ("temporarily_unavailable", 503, "Wait a moment"),
        ("<script>alert(1)</script>", 400, "&lt;script&gt;"),
    ] {
        let browser = Client::new();
        gate.provider.edit_authorization_response(move |parameters| {
            parameters.retain(|(name, _)| name != "code");
            parameters.push(("error".into(), error.into()));
            parameters.push(("error_description".into(), "\"><img src=x onerror=alert(1)>\r\nX: y".into()));
        });
        let callback = gate.callback_of(&browser, "mlflow_user", "/");
        let page = assert_refused(&gate, status, || browser.navigate(&callback));
        let text = page.text();
        assert!(
            text.contains(expected) && !text.contains("<img") && !text.contains("<script"),
            "{error}: {page}"
        );
        gate.provider.behave();
    }
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn cb07_the_login_cookie_lives_no_longer_than_a_login_may_take() {
    let gate = Gate::builder().set("login.timeout", "1m").start();
    // The time inside the cookie counts too. The core's unit tests change the clock for that.
    let response = Client::new().navigate(&gate.url("/")).unwrap();
    let cookie =
        response.header_lines("set-cookie").into_iter().find(|line| line.starts_with("oidc-gate-login-"));
    assert!(cookie.as_deref().is_some_and(|line| line.contains("Max-Age=60")), "{response}");
}

#[test]
fn cb18_no_page_of_a_callback_tells_another_site_where_it_came_from_or_loads_anything_from_there() {
    let gate = Gate::start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/");
    let answers = [
        Client::new().navigate(&callback),
        browser.navigate(&with(&callback, "iss", Some("http://evil.example"))),
        browser.navigate(&with(&callback, "error", Some("access_denied"))),
        // The error deleted the login cookie, so the login starts again.
        {
            let callback = gate.callback_of(&browser, "mlflow_user", "/");
            browser.navigate(&callback)
        },
    ];
    for response in answers.map(Result::unwrap) {
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"), "{response}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response}");
        let text = response.text();
        for elsewhere in ["http://", "https://", "src=", "@import", "<link", "<script"] {
            assert!(!text.contains(elsewhere), "{elsewhere}: {response}");
        }
        if response.status >= 400 {
            let policy = response.header("content-security-policy").unwrap_or_default();
            assert!(policy.contains("default-src 'none'"), "{response}");
        }
    }
}

#[test]
fn it21_whatever_the_token_endpoint_does_is_a_page_and_no_session() {
    let gate = Gate::builder().set("issuer.timeout", "1s").start();
    let big = format!("{{\"access_token\":\"{}\"}}", "x".repeat(2 << 20));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let redirect = |status| Behaviour::Answer {
        status,
        headers: vec![("location".into(), "http://evil.example/".into())],
        body: Vec::new(),
    };
    // A response in an encoding that was not requested is not decompressed, so it cannot expand (CK16 for this
    // connection).
    let gzip = Behaviour::Answer {
        status: 200,
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("content-encoding".into(), "gzip".into()),
        ],
        body: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0],
    };
    for (name, behaviour) in [
        ("gzip", gzip),
        ("hang", Behaviour::Hang),
        ("closed without an answer", Behaviour::DropAnswer),
        ("closed mid-body", Behaviour::CloseMidBody),
        ("204", Behaviour::answer(204, "application/json", "")),
        ("302", redirect(302)),
        ("307", redirect(307)),
        ("HTML", Behaviour::answer(200, "text/html", "<html>hello</html>")),
        ("empty", Behaviour::json(200, "")),
        ("empty object", Behaviour::json(200, "{}")),
        ("a list", Behaviour::json(200, "[]")),
        ("truncated", Behaviour::json(200, "{\"access_token\":\"a")),
        ("2 MB", Behaviour::json(200, big)),
        ("deep", Behaviour::json(200, deep)),
        ("not UTF-8", Behaviour::json(200, b"{\"access_token\":\"\xff\"}".to_vec())),
        ("500", Behaviour::json(500, "{\"error\":\"server_error\"}")),
        ("503", Behaviour::answer(503, "text/html", "later")),
        ("400 without JSON", Behaviour::answer(400, "text/plain", "no")),
        ("invalid_grant", Behaviour::json(400, "{\"error\":\"invalid_grant\"}")),
        ("unauthorized_client", Behaviour::json(401, "{\"error\":\"unauthorized_client\"}")),
    ] {
        let (browser, callback) = gate.at_callback("mlflow_user", "/");
        let before = gate.provider.count(Endpoint::Token);
        gate.provider.misbehave(Endpoint::Token, Times::Next(1), behaviour);
        let page = assert_stopped(&gate, &[400, 502, 503], name, || browser.navigate(&callback));
        assert_eq!(page.header("cache-control"), Some("no-store"), "{name}: {page}");
        assert_eq!(gate.session_cookie(&browser), None, "{name}");
        // A code is spent once, whatever the result.
        assert_eq!(gate.provider.count(Endpoint::Token) - before, 1, "{name}");
        assert_workers_alive(&gate);
    }
    gate.signed_in("mlflow_user");
}

#[test]
fn it22_a_token_response_must_say_bearer() {
    let gate = Gate::start();
    for (token_type, accepted) in [
        (json!("bearer"), true),
        (json!("bEARER"), true),
        (json!("mac"), false),
        (json!("N_A"), false),
        (json!(null), false),
        (json!(1), false),
    ] {
        let value = token_type.clone();
        gate.provider.edit_document(Endpoint::Token, move |document| document["token_type"] = value.clone());
        let (browser, callback) = gate.at_callback("mlflow_user", "/");
        let response = browser.navigate(&callback).unwrap();
        assert_eq!(gate.session_cookie(&browser).is_some(), accepted, "{token_type}: {response}");
        gate.provider.behave();
    }
}

#[test]
fn a_client_that_goes_away_during_the_callback_leaves_no_broken_worker() {
    let gate = Gate::start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/");
    let hold = Hold::unspent();
    gate.provider.hold(Endpoint::Token, &hold);
    let tab = browser.navigation("GET", &callback).begin();
    hold.wait_for(1, BOUND).unwrap();
    tab.abort();
    hold.release();
    // The work that started with the code continues to its end.
    gate.wait_until("writes no session", || gate.redis().keys("mlflow:s:*").unwrap().len() == 1);
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
    assert_workers_alive(&gate);
}
