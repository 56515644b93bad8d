//! Browser login.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::Endpoint;
use oidc_gate_tests::{Gate, assert_allowed, assert_refused};

#[test]
fn a_person_signs_in_with_a_password_and_lands_where_they_wanted_to_go() {
    let gate = Gate::start();
    let browser = Client::new();
    let deep_link = "/experiments/7/runs?search=a%20b&order=desc";

    let to_form = browser.visit(&gate.url(deep_link)).unwrap();
    assert_eq!(to_form.hops.first().unwrap().status, 302, "{}", to_form.hops.first().unwrap());
    let action = to_form.end().form_action().expect("the provider's form");
    let posted =
        browser.submit(&action, &[("username", "mlflow_user"), ("password", "password123")]).unwrap();
    let back = browser.follow(posted).unwrap();

    assert_eq!(back.end().url, gate.url(deep_link), "{}", back.end());
    assert_eq!(back.end().status, 200, "{}", back.end());
    assert_eq!(gate.echo.last().unwrap().target, deep_link);
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
    gate.plant_secret(&gate.session_cookie(&browser).expect("a session cookie"));
}

#[test]
fn a_wrong_password_stays_at_the_provider_and_can_be_corrected() {
    let gate = Gate::start();
    let browser = Client::new();
    let form = browser.visit(&gate.url("/")).unwrap();
    let action = form.end().form_action().unwrap();
    let wrong = browser.submit(&action, &[("username", "mlflow_user"), ("password", "nope")]).unwrap();
    assert!(wrong.text().contains("Invalid username or password"));
    assert_eq!(gate.echo.count(), 0);
    let action = wrong.form_action().unwrap();
    let right = browser.submit(&action, &[("username", "mlflow_user"), ("password", "password123")]).unwrap();
    assert_eq!(browser.follow(right).unwrap().end().status, 200);
}

#[test]
fn a_session_serves_pages_and_fetches_on_every_worker_without_asking_the_provider_again() {
    let (gate, browser) = Gate::with_browser();
    for _ in 0..20 {
        assert_allowed(&gate, || browser.navigate(&gate.url("/experiments")));
        assert_allowed(&gate, || browser.fetch(&gate.url("/ajax-api/2.0/mlflow/experiments/search")));
    }
    assert_eq!(gate.provider.count(Endpoint::Authorization), 1);
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
}

#[test]
fn cb14_two_tabs_sign_in_at_the_same_time_and_finish_in_reverse_order() {
    let gate = Gate::start();
    let browser = Client::new();
    let first = browser.visit(&gate.url("/first?tab=1")).unwrap();
    let second = browser.visit(&gate.url("/second?tab=2")).unwrap();
    for (form, path) in [(second, "/second?tab=2"), (first, "/first?tab=1")] {
        let action = form.end().form_action().unwrap();
        let posted =
            browser.submit(&action, &[("username", "mlflow_user"), ("password", "password123")]).unwrap();
        let back = browser.follow(posted).unwrap();
        assert_eq!(back.end().url, gate.url(path), "{}", back.end());
        assert_eq!(back.end().status, 200, "{}", back.end());
    }
}

#[test]
fn az07_every_login_has_its_own_state_nonce_and_challenge() {
    let gate = Gate::start();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..30 {
        let response = Client::new().navigate(&gate.url("/")).unwrap();
        assert_eq!(response.redirect_parameter("code_challenge_method").as_deref(), Some("S256"));
        for name in ["state", "nonce", "code_challenge"] {
            let value = response.redirect_parameter(name).unwrap_or_else(|| panic!("no {name}: {response}"));
            // 128 bits are 22 base64url characters.
            assert!(value.len() >= 22, "{name} is short: {value}");
            assert!(seen.insert(value), "{name} came twice");
        }
    }
}

#[test]
fn az07_the_verifier_is_long_enough_and_only_the_provider_sees_it() {
    let gate = Gate::start();
    gate.signed_in("mlflow_user");
    let request = gate.provider.requests(Endpoint::Token).remove(0);
    let verifier = request.form_field("code_verifier").unwrap();
    // RFC 7636 4.1
    assert!((43..=128).contains(&verifier.len()), "{verifier}");
    assert!(
        verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
        "{verifier}"
    );
    assert!(request.header("authorization").unwrap().starts_with("Basic "));
    assert_eq!(request.form_field("client_secret"), None);
}

#[test]
fn az04_the_redirect_uri_is_ours_whatever_host_the_request_names() {
    let gate = Gate::start();
    for host in ["evil.example", "localhost:1", "127.0.0.1"] {
        let browser = Client::new();
        let send = || {
            browser
                .navigation("GET", &gate.url("/x"))
                .header("host", host)
                .header("x-forwarded-host", "evil.example")
                .header("x-forwarded-proto", "https")
                .header("forwarded", "host=evil.example;proto=https")
                .send()
                .unwrap()
        };
        let mut response = send();
        if host != "localhost:1" {
            assert_eq!((response.status, response.header("location")), (302, Some(gate.url("/x").as_str())));
            response = send();
        }
        assert_eq!(response.status, 302, "{response}");
        let expected = gate.url("/oauth2/callback");
        assert_eq!(response.redirect_parameter("redirect_uri"), Some(expected), "{response}");
        assert!(!response.to_string().contains("evil.example"), "{response}");
    }
}

#[test]
fn f604_a_login_at_another_name_of_the_gate_begins_at_its_public_address() {
    let gate = Gate::start();
    let target = "/experiments/7?view=a%2Fb&x=//evil.example";
    for name in ["127.0.0.1", "www.localhost", "LOCALHOST."] {
        gate.provider.sign_in_as("mlflow_user");
        let browser = Client::new();
        let elsewhere = format!("http://{name}:{}{target}", gate.port());
        let first = match name {
            // This name must not go to a resolver.
            "LOCALHOST." => browser.navigation("GET", &gate.url(target)).header("host", name).send().unwrap(),
            _ => browser.navigate(&elsewhere).unwrap(),
        };
        assert_eq!(
            (first.status, first.header("location")),
            (302, Some(gate.url(target).as_str())),
            "{first}"
        );
        assert_eq!(first.header("cache-control"), Some("no-store"), "{first}");
        let journey = browser.follow(first).unwrap();
        assert_eq!(journey.end().url, gate.url(target), "{}", journey.end());
        assert_eq!(journey.end().status, 200, "{}", journey.end());
        gate.provider.ask_for_password();
    }
    // Only a navigation that leads to a login is redirected.
    let reached = gate.echo.count();
    let url = format!("http://127.0.0.1:{}{target}", gate.port());
    assert_refused(&gate, 401, || Client::new().fetch(&url));
    assert_refused(&gate, 401, || Client::new().submit(&url, &[]));
    assert_eq!(
        Client::new().navigate(&format!("http://127.0.0.1:{}/health", gate.port())).unwrap().status,
        200
    );
    assert!(gate.echo.count() > reached, "what is public stays public");
}

#[test]
fn f604_a_proxy_in_front_that_changes_host_costs_one_redirect_and_no_loop() {
    let gate = Gate::start();
    let browser = Client::new();
    gate.provider.sign_in_as("mlflow_user");
    // The browser already uses the public address, but Envoy sees another Host each time.
    let changed =
        |url: &str| browser.navigation("GET", url).header("host", "envoy.internal:8080").send().unwrap();
    let page = gate.url("/deep?a=b");
    let first = changed(&page);
    assert_eq!((first.status, first.header("location")), (302, Some(page.as_str())), "{first}");
    let second = changed(&page);
    let authorize = second.redirect_target().unwrap();
    assert!(authorize.starts_with(&gate.provider.issuer()), "{second}");
    let back = browser.navigate(&authorize).unwrap();
    let end = changed(&back.redirect_target().unwrap());
    assert_eq!((end.status, end.header("location")), (303, Some("/deep?a=b")), "{end}");
    assert_allowed(&gate, || Ok(changed(&page)));
}

#[test]
fn az08_parameters_of_the_protected_address_never_become_those_of_the_authorization_request() {
    let gate = Gate::start();
    let hostile =
        "/x?client_id=evil&scope=admin&redirect_uri=http%3A%2F%2Fevil.example&prompt=none&request_uri=urn:x";
    let response = Client::new().navigate(&gate.url(hostile)).unwrap();
    assert_eq!(response.status, 302, "{response}");
    assert_eq!(response.redirect_parameter("client_id").as_deref(), Some("mlflow"));
    assert_eq!(response.redirect_parameter("scope").as_deref(), Some("openid profile email"));
    assert_eq!(response.redirect_parameter("prompt"), None);
    assert_eq!(response.redirect_parameter("request_uri"), None);
}

#[test]
fn az02_a_return_path_that_leads_elsewhere_is_replaced_by_the_first_page() {
    let gate = Gate::start();
    for rd in [
        "//evil.example",
        "/\\evil.example",
        "\\evil.example",
        "https://evil.example",
        "/\t/evil.example",
        "/%09/evil",
        "/\\/evil.example",
        "javascript:alert(1)",
        "",
        "evil.example",
        "/\r\nSet-Cookie: a=b",
        "/é",
        "///evil.example",
    ] {
        let browser = Client::new();
        gate.provider.sign_in_as("mlflow_user");
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("rd", rd).finish();
        let journey = browser.visit(&gate.url(&format!("/oauth2/login?{query}"))).unwrap();
        let end = journey.end();
        let landed =
            end.url.strip_prefix(&gate.origin()).unwrap_or_else(|| panic!("{rd:?} led to {}", end.url));
        assert!(landed == "/" || landed == "/%09/evil", "{rd:?} led to {landed}");
    }
}

#[test]
fn the_login_endpoint_returns_to_the_path_it_was_given() {
    let gate = Gate::start();
    gate.provider.sign_in_as("mlflow_user");
    let browser = Client::new();
    let journey = browser.visit(&gate.url("/oauth2/login?rd=%2Fexperiments%3Fa%3Db")).unwrap();
    assert_eq!(journey.end().url, gate.url("/experiments?a=b"), "{}", journey.end());
}

#[test]
fn az11_anonymous_traffic_writes_nothing_to_redis_and_keeps_at_most_five_logins_in_the_browser() {
    let gate = Gate::start();
    let browser = Client::new();
    for number in 0..30 {
        browser.navigate(&gate.url(&format!("/page/{number}"))).unwrap();
    }
    let logins = gate.login_cookies(&browser);
    assert!((1..=5).contains(&logins.len()), "{logins:?}");
    assert_eq!(gate.redis().keys("*").unwrap(), Vec::<String>::new());
}

#[test]
fn az12_a_provider_that_always_sends_people_back_ends_in_a_page_and_not_in_a_loop() {
    let gate = Gate::start();
    for error in ["temporarily_unavailable", "login_required", "server_error"] {
        gate.provider.sign_in_as("mlflow_user");
        gate.provider.edit_authorization_response(move |parameters| {
            parameters.retain(|(name, _)| name == "state" || name == "iss");
            parameters.push(("error".into(), error.into()));
            parameters.push(("error_description".into(), "authentication_expired".into()));
        });
        let browser = Client::new();
        // However often the user tries again.
        for _ in 0..10 {
            let journey = browser.visit(&gate.url("/")).unwrap();
            assert!(journey.end().status >= 400, "{}", journey.end());
            assert!(journey.end().text().contains(error), "{}", journey.end());
            assert!(journey.hops.len() <= 5, "{:#?}", journey.urls());
        }
        gate.provider.behave();
    }
    assert_eq!(gate.echo.count(), 0);
}

#[test]
fn a_browser_that_loses_its_session_cookie_is_stopped_with_an_explanation() {
    let gate = Gate::start();
    gate.provider.sign_in_as("mlflow_user");
    let browser = Client::new();
    let mut response = browser.navigate(&gate.url("/")).unwrap();
    for _ in 0..40 {
        browser.jar().remove(gate.session_cookie_name());
        let Some(next) = response.redirect_target() else { break };
        response = browser.navigate(&next).unwrap();
    }
    assert_eq!(response.status, 400, "{response}");
    assert!(response.text().contains("Allow cookies"), "{response}");
}
