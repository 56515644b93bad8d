//! The gate's replies to different clients.

use oidc_gate_testkit::browser::{Client, raw};
use oidc_gate_tests::{
    Gate, RefusedBy, assert_allowed, assert_refused, assert_refused_by, assert_soon_everywhere,
    assert_stopped,
};

#[test]
fn health_and_version_are_open_to_anyone_and_carry_no_identity() {
    let (gate, browser) = Gate::with_browser();
    for path in ["/health", "/version"] {
        for client in [&Client::new(), &browser] {
            let received = assert_allowed(&gate, || {
                client.request("GET", &gate.url(path)).header("x-forwarded-user", "admin").send()
            });
            assert_eq!(received.values("x-forwarded-user"), Vec::<&str>::new(), "{path}");
        }
    }
}

#[test]
fn az10_whoever_is_no_navigation_gets_401_without_cookies_and_never_a_redirect() {
    let gate = Gate::start();
    let client = Client::new();
    let url = gate.url("/api/2.0/mlflow/experiments/search");
    let requests = [
        ("curl", client.request("GET", &url)),
        ("fetch", client.fetching("GET", &url)),
        ("form post of a script", client.fetching("POST", &url).form(&[("a", "b")])),
        ("put", client.request("PUT", &url).body("x")),
        ("delete", client.request("DELETE", &url)),
        ("json", client.request("GET", &url).header("accept", "application/json")),
        (
            "preflight",
            client
                .request("OPTIONS", &url)
                .header("origin", gate.origin())
                .header("access-control-request-method", "POST"),
        ),
        ("xhr", client.navigation("GET", &url).header("x-requested-with", "XMLHttpRequest")),
        (
            "iframe",
            client.navigation("GET", &url).without("sec-fetch-dest").header("sec-fetch-dest", "iframe"),
        ),
        (
            "websocket",
            client
                .request("GET", &url)
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ),
    ];
    for (name, request) in requests {
        let response = assert_refused(&gate, 401, || request.send());
        assert_eq!(response.json()["error_code"], "UNAUTHENTICATED", "{name}: {response}");
        let challenge = response.header("www-authenticate").unwrap_or_default();
        // RFC 6750 3: no error code if no credentials were sent.
        assert!(challenge.starts_with("Bearer ") && !challenge.contains("error="), "{name}: {response}");
        assert_eq!(response.header_lines("set-cookie"), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn az10_grpc_gets_a_grpc_status() {
    let gate = Gate::start();
    let response = Client::new()
        .request("POST", &gate.url("/mlflow.Service/Search"))
        .http2()
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .send()
        .unwrap();
    assert_eq!(response.header("grpc-status"), Some("16"), "{response}");
    assert_eq!(gate.echo.count(), 0);
}

#[test]
fn an_outsider_gets_a_page_that_says_who_they_are_and_what_is_missing_and_can_sign_out() {
    let gate = Gate::start();
    let browser = Client::new();
    gate.provider.sign_in_as("outsider");
    let journey = browser.visit(&gate.url("/")).unwrap();
    let page = journey.end();
    assert_eq!(page.status, 403, "{page}");
    let text = page.text();
    assert!(text.contains("User is not allowed") && text.contains("outsider"), "{page}");
    assert!(text.contains("mlflow_users") && text.contains("/oauth2/logout"), "{page}");
    assert_eq!(gate.echo.count(), 0);
    let response =
        assert_refused(&gate, 403, || browser.fetch(&gate.url("/ajax-api/2.0/mlflow/experiments/search")));
    assert_eq!(response.json()["error_code"], "PERMISSION_DENIED", "{response}");
}

#[test]
fn cf09_pages_of_the_gate_run_no_scripts_and_are_not_framed_or_stored() {
    let gate = Gate::start();
    gate.provider.sign_in_as("outsider");
    let journey = Client::new().visit(&gate.url("/")).unwrap();
    let page = journey.end();
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{page}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{page}");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"), "{page}");
    assert_eq!(page.header("cache-control"), Some("no-store"), "{page}");
}

#[test]
fn an_ended_session_sends_pages_to_login_and_gives_scripts_401() {
    let gate = Gate::builder().set("session.cache_ttl", "1s").start();
    let browser = gate.signed_in("mlflow_user");
    gate.redis().flush().unwrap();
    let url = gate.url("/experiments");
    assert_soon_everywhere(&gate, 401, "/experiments", |url| browser.fetching("GET", url));
    let response = browser.navigate(&url).unwrap();
    assert_eq!(response.status, 302, "{response}");
}

#[test]
fn a_cross_site_form_cannot_use_a_session() {
    let (gate, browser) = Gate::with_browser();
    let url = gate.url("/graphql");
    for site in ["cross-site", "same-site"] {
        assert_refused(&gate, 403, || {
            let form =
                browser.navigation("POST", &url).without("sec-fetch-site").header("sec-fetch-site", site);
            form.header("origin", "http://evil.example").form(&[("a", "b")]).send()
        });
    }
    assert_refused(&gate, 403, || {
        browser.request("POST", &url).header("origin", "http://evil.example").form(&[("a", "b")]).send()
    });
    assert_allowed(&gate, || {
        browser.fetching("POST", &url).header("origin", gate.origin()).body("{}").send()
    });
}

#[test]
fn requests_that_two_parsers_could_read_differently_are_refused() {
    let (gate, browser) = Gate::with_browser();
    let cookie = gate.cookie_header(&browser);
    let port = gate.port();
    let request = |line: &str, headers: &str| {
        format!("{line}\r\nHost: localhost:{port}\r\nConnection: close\r\nCookie: {cookie}\r\n{headers}\r\n")
    };
    for (name, text) in [
        ("two hosts", request("GET /x HTTP/1.1", "Host: evil.example\r\n")),
        ("NUL in the path", request("GET /x%00y HTTP/1.1", "")),
        ("encoded backslash", request("GET /x%5C..%5Cy HTTP/1.1", "")),
        ("encoded dot segments", request("GET /x/%2e%2e%2fy HTTP/1.1", "")),
        ("unknown method", request("FOO /x HTTP/1.1", "")),
        ("lower-case method", request("get /x HTTP/1.1", "")),
        ("OPTIONS *", request("OPTIONS * HTTP/1.1", "")),
        ("half an escape", request("GET /x%2 HTTP/1.1", "")),
    ] {
        eprintln!("{name}");
        let reached = gate.echo.count();
        let response = raw::exchange(port, &text).unwrap();
        assert!((400..500).contains(&response.status), "{name}: {response}");
        assert_eq!(gate.echo.count(), reached, "{name}");
        oidc_gate_tests::assert_workers_alive(&gate);
    }
    assert_refused_by(&gate, RefusedBy::Envoy, 400, || {
        raw::exchange(port, request("GET /x HTTP/1.1", "x_forwarded_user: admin\r\n"))
    });
}

#[test]
fn bytes_that_are_no_text_in_any_header_end_neither_the_request_nor_the_worker() {
    let (gate, browser) = Gate::with_browser();
    for name in ["x-note", "accept", "user-agent", "referer", "sec-fetch-dest", "origin", "x-requested-with"]
    {
        for value in [&b"caf\xe9"[..], b"\xff\xfe", b"\xf0\x9f\x98", b"a\tb"] {
            let response = browser.request("GET", &gate.url("/x")).header(name, value).send().unwrap();
            assert_eq!(response.status, 200, "{name}: {response}");
        }
    }
    for name in ["authorization", "cookie"] {
        assert_refused(&gate, 401, || {
            Client::new().request("GET", &gate.url("/x")).header(name, b"\xff\xfe\x80").send()
        });
    }
}

#[test]
fn pm02_and_az09_odd_targets_are_no_way_around_the_rules() {
    let gate = Gate::start();
    let client = Client::new();
    for target in [
        "/api/secret?path=/health",
        "/health/../api/2.0/mlflow/experiments/search",
        "/health;x=y",
        "/HEALTH",
        "/health/",
        "//health/x",
        "/health%2f..%2fapi",
        "/health%00",
        "/oauth2/callback/",
        "/oauth2/callback;x=y",
        "/OAUTH2/callback",
        "/oauth2/callback%2f",
        "/oauth2/signed-out/../../api",
    ] {
        assert_stopped(&gate, &[400, 401, 404], target, || client.fetch(&gate.url(target)));
    }
    let long = format!("/x?q={}", "a".repeat(50_000));
    let response = client.navigate(&gate.url(&long)).unwrap();
    assert!([302, 414, 431].contains(&response.status), "{}", response.status);
    oidc_gate_tests::assert_workers_alive(&gate);
}
