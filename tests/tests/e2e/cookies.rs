//! The gate's cookies: how they are set, and how invalid or expired ones are treated.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::random_text;
use oidc_gate_tests::{Gate, assert_allowed, assert_refused, assert_soon_everywhere, wait_for_age};

#[test]
fn ck01_every_cookie_is_http_only_lax_and_for_the_whole_site() {
    let gate = Gate::start();
    gate.provider.sign_in_as("mlflow_user");
    let browser = Client::new();
    let journey = browser.visit(&gate.url("/")).unwrap();
    let ours: Vec<String> = journey
        .hops
        .iter()
        .filter(|hop| hop.url.starts_with(&gate.origin()))
        .flat_map(|hop| hop.header_lines("set-cookie"))
        .collect();
    assert!(ours.len() >= 2, "{ours:#?}");
    for line in &ours {
        for attribute in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
            assert!(line.contains(attribute), "{line}");
        }
        assert!(!line.to_ascii_lowercase().contains("domain="), "{line}");
        // Plain http on loopback: browsers drop Secure cookies of some hosts, and Safari drops those of all.
        assert!(!line.contains("; Secure") && !line.starts_with("__"), "{line}");
    }
    let login = ours.iter().find(|line| line.starts_with("oidc-gate-login-")).expect("a login cookie");
    assert!(login.contains("; Max-Age=600"), "{login}");
    gate.plant_secret(&gate.session_cookie(&browser).unwrap());
}

#[test]
fn ck01_behind_https_every_cookie_has_the_host_prefix_and_secure() {
    let gate = Gate::builder().env("MLFLOW_PUBLIC_URL", "https://mlflow.example.com").start();
    let response = Client::new().navigate(&gate.url("/")).unwrap();
    let cookies = response.header_lines("set-cookie");
    assert!(!cookies.is_empty(), "{response}");
    for line in cookies {
        assert!(line.starts_with("__Host-oidc-gate") && line.contains("; Secure"), "{line}");
    }
}

#[test]
fn ck05_a_session_cookie_with_one_character_changed_opens_nothing() {
    let gate = Gate::builder().workers(1).start();
    let browser = gate.signed_in("mlflow_user");
    let cookie = gate.session_cookie(&browser).unwrap();
    let thief = Client::new();
    let name = gate.session_cookie_name();
    let mut answers = std::collections::BTreeSet::new();
    for at in 0..cookie.len() {
        let changed = if cookie.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = format!("{}{changed}{}", &cookie[..at], &cookie[at + 1..]);
        thief.jar().plant("localhost", name, &forged);
        let response = thief.fetch(&gate.url("/x")).unwrap();
        assert_eq!(response.status, 401, "position {at}: {response}");
        // Everything except the request id.
        let id = response.header("x-request-id").unwrap_or_default();
        answers.insert(response.text().replace(id, "ID"));
    }
    for length in 0..cookie.len() {
        thief.jar().plant("localhost", name, &cookie[..length]);
        assert_eq!(thief.fetch(&gate.url("/x")).unwrap().status, 401, "{length} characters");
    }
    for longer in [format!("{cookie}A"), format!("{cookie}="), format!("{cookie}.x"), "x".repeat(5000)] {
        thief.jar().plant("localhost", name, &longer);
        assert_eq!(thief.fetch(&gate.url("/x")).unwrap().status, 401, "{longer}");
    }
    // No oracle: the response does not reveal which check failed.
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
}

#[test]
fn ck07_a_login_cookie_is_no_session_and_a_session_no_login() {
    let (gate, browser) = Gate::with_browser();
    let session = gate.session_cookie(&browser).unwrap();
    let other = Client::new();
    other.navigate(&gate.url("/")).unwrap();
    let login = gate.login_cookies(&other).remove(0);
    let sealed = other.jar().get(&login).unwrap();
    let thief = gate.browser_with(&sealed);
    assert_refused(&gate, 401, || thief.fetch(&gate.url("/x")));

    let (victim, callback) = gate.at_callback("mlflow_user", "/");
    let login = gate.login_cookies(&victim).remove(0);
    victim.jar().plant("localhost", &login, &session);
    assert_refused(&gate, 400, || victim.navigate(&callback));
}

#[test]
fn a_session_of_another_gate_opens_nothing_here() {
    let (here, there) = (Gate::start(), Gate::start());
    let browser = there.signed_in("mlflow_admin");
    let response = browser.fetch(&here.url("/x")).unwrap();
    assert_eq!(response.status, 401, "{response}");
}

#[test]
fn every_login_gets_a_session_cookie_of_its_own_and_the_one_before_is_worth_nothing() {
    let gate = Gate::start();
    let browser = Client::new();
    gate.sign_in(&browser, "mlflow_user", "/");
    let first = gate.session_cookie(&browser).unwrap();
    gate.provider.sign_in_as("mlflow_user");
    browser.visit(&gate.url("/oauth2/login?rd=%2F")).unwrap();
    let second = gate.session_cookie(&browser).unwrap();
    gate.plant_secret(&second);
    assert_ne!(first, second);
    // Session fixation: a cookie from before the login opens nothing afterwards.
    let thief = gate.browser_with(&first);
    assert_soon_everywhere(&gate, 401, "/x", |url| thief.fetching("GET", url));
}

#[test]
fn two_different_session_cookies_are_refused_rather_than_chosen_from() {
    let gate = Gate::start();
    let (one, two) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_admin"));
    let both = format!("{}; {}", gate.cookie_header(&one), gate.cookie_header(&two));
    assert_refused(&gate, 401, || {
        Client::new().fetching("GET", &gate.url("/x")).header("cookie", &both).send()
    });
}

#[test]
fn ck10_ck11_cookie_headers_of_any_shape_are_survived() {
    let gate = Gate::start();
    let many = "a=b; ".repeat(4000);
    let long = format!("oidc-gate={}", "A".repeat(50_000));
    let long_name = format!("{}=1; oidc-gate-login-{}=1", "n".repeat(20_000), "n".repeat(20_000));
    // CK10: names that other gates use for parts of a cookie have no meaning here.
    let pieces = "oidc-gate-0=a; oidc-gate-1=b; oidc-gate-99999999999=c; oidc-gate-count=1e9; oidc-gate_0=a";
    for value in [
        "",
        ";",
        "; ; ;",
        ";=;",
        "=",
        "oidc-gate",
        "oidc-gate=",
        "oidc-gate==;oidc-gate-login-=",
        many.as_str(),
        long.as_str(),
        long_name.as_str(),
        pieces,
    ] {
        assert_refused(&gate, 401, || {
            Client::new().fetching("GET", &gate.url("/x")).header("cookie", value).send()
        });
    }
    let planted = format!("{}={}", gate.session_cookie_name(), random_text(64));
    assert_refused(&gate, 401, || {
        Client::new().fetching("GET", &gate.url("/x")).header("cookie", &planted).send()
    });
}

#[test]
fn ck08_a_login_cookie_that_is_too_old_completes_nothing_although_the_browser_still_sends_it() {
    let gate = Gate::builder().set("login.timeout", "30s").start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/");
    let began = std::time::Instant::now();
    let name = gate.login_cookies(&browser).remove(0);
    let sealed = browser.jar().get(&name).unwrap();
    wait_for_age(began, std::time::Duration::from_secs(31));
    // Max-Age is only a request to the browser, and this browser ignores it.
    browser.jar().plant("localhost", &name, &sealed);
    let response = browser.navigate(&callback).unwrap();
    assert!([302, 400].contains(&response.status), "{response}");
    assert_eq!(gate.session_cookie(&browser), None);
    assert_eq!(gate.provider.count(oidc_gate_testkit::provider::Endpoint::Token), 0);
}
