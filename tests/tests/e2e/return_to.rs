//! Where a login leads, and which parts of the original URL appear in redirects.

use oidc_gate_testkit::browser::{Client, Response, raw};
use oidc_gate_tests::{Gate, RefusedBy, assert_refused_by, assert_stopped, assert_workers_alive};

/// Opens a raw request target as a browser's navigation, and signs in from there. The test carries the cookies itself.
fn land(gate: &Gate, head: &str) -> Response {
    let first = raw::exchange(
        gate.port(),
        // A browser at another host name was redirected to the public address first.
        format!(
            "{head}\r\nCookie: oidc-gate-redirected=1\r\nAccept: text/html\r\nSec-Fetch-Dest: document\r\n\
             Connection: close\r\n\r\n"
        ),
    )
    .unwrap();
    assert_eq!(first.status, 302, "{head}: {first}");
    assert_clean(&first);
    let browser = Client::new();
    let url = url::Url::parse(&gate.url("/")).unwrap();
    browser.jar().store(&url, first.headers.get_all("set-cookie").iter().map(|value| value.as_bytes()));
    gate.provider.sign_in_as("mlflow_user");
    let back = browser.navigate(&first.redirect_target().unwrap()).unwrap();
    let response = browser.navigate(&back.redirect_target().unwrap()).unwrap();
    assert_eq!(response.status, 303, "{head}: {response}");
    assert_clean(&response);
    response
}

/// Asserts that a raw request target is refused with 400.
#[track_caller]
fn assert_unreadable(gate: &Gate, target: &str) {
    let host = format!("Host: localhost:{}", gate.port());
    let request =
        format!("GET {target} HTTP/1.1\r\n{host}\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    assert_stopped(gate, &[400], target, || raw::exchange(gate.port(), request));
}

/// Asserts that there is one Location, without a fragment and without bytes that end a header line.
#[track_caller]
fn assert_clean(response: &Response) {
    let lines = response.header_lines("location");
    assert_eq!(lines.len(), 1, "{response}");
    assert!(lines.iter().all(|line| line.bytes().all(|byte| (0x21..=0x7e).contains(&byte))), "{response}");
    assert!(!lines.concat().contains('#'), "AZ14: {response}");
    assert!(
        response.header_lines("set-cookie").iter().all(|line| line.starts_with("oidc-gate")),
        "{response}"
    );
}

#[test]
fn az02_az04_a_request_target_that_names_another_site_leads_back_to_this_one() {
    let gate = Gate::start();
    let host = format!("Host: localhost:{}", gate.port());
    for (head, landed) in [
        // Envoy first converts backslashes to slashes and merges slashes.
        (format!("GET /\\evil.example HTTP/1.1\r\n{host}"), "/evil.example"),
        (format!("GET //evil.example/x HTTP/1.1\r\n{host}"), "/evil.example/x"),
        (format!("GET ///evil.example HTTP/1.1\r\n{host}"), "/evil.example"),
        (format!("GET http://evil.example/x HTTP/1.1\r\n{host}"), "/x"),
        (
            "GET http://evil.example//evil.example/x HTTP/1.1\r\nHost: evil.example".to_owned(),
            "/evil.example/x",
        ),
        ("GET /x HTTP/1.1\r\nHost: evil.example".to_owned(), "/x"),
        ("GET /x HTTP/1.1\r\nHost: evil.example:80".to_owned(), "/x"),
    ] {
        let response = land(&gate, &head);
        assert_eq!(response.header("location"), Some(landed), "{head}: {response}");
    }
    for target in ["/%5cevil.example", "/%09/evil.example", "/%2e%2e%2fx", "http://evil.example\\x"] {
        assert_unreadable(&gate, target);
    }
    assert_workers_alive(&gate);
}

#[test]
fn az05_headers_of_the_client_change_neither_the_rules_nor_the_way_back() {
    let gate = Gate::start();
    for (name, value) in [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/health"),
        ("X-Forwarded-Uri", "/health"),
        ("Forwarded", "host=evil.example;proto=https"),
        ("X-Original-URL", "/health"),
        ("X-Rewrite-URL", "/health"),
        ("X-Envoy-Original-Path", "/health"),
        ("X-HTTP-Method-Override", "OPTIONS"),
    ] {
        // The public page must not open because of the header.
        let response =
            Client::new().fetching("GET", &gate.url("/secret")).header(&name.to_lowercase(), value).send();
        assert_eq!(response.unwrap().status, 401, "{name}");
        let head = format!("GET /secret?a=b HTTP/1.1\r\nHost: localhost:{}\r\n{name}: {value}", gate.port());
        let response = land(&gate, &head);
        assert_eq!(response.header("location"), Some("/secret?a=b"), "{name}: {response}");
        assert!(!response.to_string().to_lowercase().contains("domain="), "{name}: {response}");
    }
}

#[test]
fn az06_line_ends_and_control_characters_of_the_address_reach_no_header() {
    let gate = Gate::start();
    let host = format!("Host: localhost:{}", gate.port());
    // In a query these are ordinary text, and stay escaped as they were.
    for query in ["%0d%0aSet-Cookie:x=y", "a=%0d", "a=%0a%20b", "a=%e9%ff", "a=%E5%98%8A%E5%98%8D"] {
        let head = format!("GET /x?{query} HTTP/1.1\r\n{host}");
        let response = land(&gate, &head);
        let expected = format!("/x?{query}");
        assert_eq!(response.header("location"), Some(expected.as_str()), "{query}: {response}");
    }
    // In a path they are never needed.
    for path in ["/x%0d%0aSet-Cookie:x=y", "/x%0d", "/x%0a", "/x%00", "/x%7f"] {
        assert_unreadable(&gate, path);
    }
    // Bytes that are not text, anywhere in the request line.
    for target in [&b"/caf\xe9"[..], b"/x?q=\xff\xfe", b"/\x01"] {
        let request =
            [b"GET ", target, b" HTTP/1.1\r\n", host.as_bytes(), b"\r\nConnection: close\r\n\r\n"].concat();
        assert_refused_by(&gate, RefusedBy::Envoy, 400, || raw::exchange(gate.port(), &request));
    }
}

#[test]
fn az09_a_long_address_is_kept_whole_or_given_up_and_never_cut() {
    let gate = Gate::start();
    for (length, whole) in
        [(1_000, true), (2_048, true), (2_049, false), (8_000, false), (32_000, false), (58_000, false)]
    {
        let target = format!("/x?q={}", "a".repeat(length - 5));
        gate.provider.sign_in_as("mlflow_user");
        let browser = Client::new();
        let first = browser.navigate(&gate.url(&target)).unwrap();
        assert!([302, 400, 414, 431].contains(&first.status), "{length}: {}", first.status);
        let Some(authorize) = first.redirect_target() else { continue };
        assert!(authorize.len() < 2_000, "{length}: a Location of {} bytes", authorize.len());
        let back = browser.navigate(&authorize).unwrap();
        let end = browser.navigate(&back.redirect_target().unwrap()).unwrap();
        let expected = if whole { target.as_str() } else { "/" };
        assert_eq!(end.header("location"), Some(expected), "{length}");
    }
    let response = Client::new().navigate(&gate.url(&format!("/{}", "a".repeat(70_000))));
    assert!(response.is_err() || response.is_ok_and(|response| response.status == 431));
    assert_workers_alive(&gate);
}
