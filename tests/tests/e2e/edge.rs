//! What Envoy's shipped listener does besides the filter: limits on headers, times and connections.

use std::time::Instant;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::raw::Connection;
use oidc_gate_testkit::envoy::Verdict;
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_tests::{BOUND, Gate, assert_allowed};
use serde_json::json;

/// As many cookies as a browser keeps for one host.
const COOKIES: usize = 180;

#[test]
fn f602_a_browser_full_of_cookies_is_let_in_over_http2_as_over_http1() {
    let (gate, browser) = Gate::with_browser();
    let ours = gate.cookie_header(&browser);
    let others: Vec<String> = (1..COOKIES).map(|number| format!("cookie{number}=value-{number}")).collect();
    let whole = others.join("; ");
    let over_http1 =
        Client::new().fetching("GET", &gate.url("/x")).header("cookie", format!("{whole}; {ours}"));
    // One field per cookie, as browsers send them over HTTP/2 (RFC 9113 8.2.3), and about fifteen other headers.
    let over_http2 = Client::new().fetching("GET", &gate.url("/x")).http2();
    let over_http2 =
        (0..10).fold(over_http2, |request, number| request.header(&format!("x-other-{number}"), "1"));
    let over_http2 =
        others.iter().chain([&ours]).fold(over_http2, |request, cookie| request.header("cookie", cookie));
    for (how, request) in [("HTTP/1.1", over_http1), ("HTTP/2", over_http2)] {
        let received = assert_allowed(&gate, || request.send());
        assert_eq!(received.header("cookie"), Some(whole.as_str()), "{how}");
    }
}

/// The listener with short times, after checking the shipped ones. `idle` is the time between two requests.
fn with_short_times(config: EnvoyConfig, idle: &'static str) -> EnvoyConfig {
    config.listener(move |listener| {
        assert_eq!(listener["listener_filters_timeout"], "10s", "as shipped");
        listener["listener_filters_timeout"] = json!("1s");
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(manager["request_headers_timeout"], "10s", "as shipped");
        manager["request_headers_timeout"] = json!("1s");
        let options = &mut manager["common_http_protocol_options"];
        assert_eq!(options["idle_timeout"], "60s", "as shipped");
        options["idle_timeout"] = json!(idle);
    })
}

#[test]
fn f903_a_connection_that_begins_no_request_is_closed_and_one_that_works_is_not() {
    // The idle time is long, so it cannot be what closes a connection without a request.
    let gate = Gate::builder().envoy(|config| with_short_times(config, "3600s")).start();
    let cookie = gate.session_cookie(&gate.signed_in("mlflow_user")).unwrap();
    let mut events = Connection::open(gate.port()).unwrap();
    events
        .send(format!(
            "GET /sse?events=100&interval=100 HTTP/1.1\r\nHost: localhost:{}\r\nCookie: {}={cookie}\r\n\r\n",
            gate.port(),
            gate.session_cookie_name()
        ))
        .unwrap();
    all_are_closed(
        gate.port(),
        &[b"", b"G", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "],
    );
    let idle = Gate::builder().envoy(|config| with_short_times(config, "2s")).start();
    all_are_closed(
        idle.port(),
        &[
            // The preface and an empty SETTINGS frame of HTTP/2, but no request.
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            // One complete request, but no second one.
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ],
    );
    // Longer than all of these times.
    events.read_until(BOUND, |read| String::from_utf8_lossy(read).contains("event 60")).unwrap();
}

/// Opens connections that send only these bytes, and waits until Envoy closes them.
fn all_are_closed(port: u16, begun: &[&[u8]]) {
    std::thread::scope(|scope| {
        for begun in begun {
            scope.spawn(move || {
                let mut connection = Connection::open(port).unwrap();
                connection.send(begun).unwrap();
                let began = Instant::now();
                // Returns when Envoy closes the connection. A reset counts as closed too.
                let _ = connection.read_to_end(2 * BOUND);
                assert!(began.elapsed() < 2 * BOUND, "still open: {:?}", String::from_utf8_lossy(begun));
            });
        }
    });
}

#[test]
fn f1202_a_stricter_policy_reaches_connections_that_are_open() {
    let gate = Gate::builder().replaceable().start();
    let token = gate.provider.access_token("mlflow_user");
    let head = format!("Host: localhost:{}\r\nAuthorization: Bearer {token}\r\n", gate.port());
    let mut kept = Connection::open(gate.port()).unwrap();
    kept.send(format!("GET /x HTTP/1.1\r\n{head}\r\n")).unwrap();
    kept.read_until(BOUND, |read| read.ends_with(b"}")).unwrap();
    let mut events = Connection::open(gate.port()).unwrap();
    events.send(format!("GET /sse?events=36000&interval=100 HTTP/1.1\r\n{head}\r\n")).unwrap();
    events.read_until(BOUND, |read| String::from_utf8_lossy(read).contains("event 3")).unwrap();

    let strict = gate.config.clone().plugin(|plugin| {
        plugin["policy"]["rules"] = json!([{"name": "closed", "path": {"prefix": "/"}, "access": "deny"}]);
    });
    assert_eq!(gate.envoy().push_listener(&strict).unwrap(), Verdict::Accepted);
    let denied = || {
        let answer = gate.with_token("/x", &token).send();
        answer.is_ok_and(|answer| answer.status == 403)
    };
    gate.wait_until("still lets new connections in", denied);
    // The old connection gets at most one more response, and no stream of the old configuration outlives the drain
    // time.
    let _ = kept.send(format!("GET /x HTTP/1.1\r\n{head}\r\n"));
    for (what, connection) in [("kept open", kept), ("a stream of events", events)] {
        let began = Instant::now();
        let read = connection.read_to_end(BOUND);
        assert!(began.elapsed() < BOUND, "{what}: {}", gate.envoy().trouble("keeps an old connection"));
        if let (Ok(read), "kept open") = (read, what) {
            let read = String::from_utf8_lossy(&read).to_lowercase();
            assert!(
                read.matches("http/1.1 200").count() <= 2 && read.matches("connection: close").count() <= 1
            );
        }
    }
}

#[test]
fn f705_a_certificate_for_another_host_is_refused_although_its_authority_is_trusted() {
    // The certificate of the test's Redis is for localhost.
    for (expected, healthy) in [("localhost", true), ("login.example.com", false)] {
        let gate = Gate::builder()
            .redis_tls()
            .envoy(move |config| {
                config.edit_cluster("redis", |cluster| {
                    let context = &mut cluster["transport_socket"]["typed_config"]["common_tls_context"];
                    let names = &mut context["validation_context"]["match_typed_subject_alt_names"];
                    *names = json!([{"san_type": "DNS", "matcher": {"exact": expected}}]);
                })
            })
            .try_start();
        match gate {
            Ok(_) => assert!(healthy, "{expected}"),
            Err(trouble) => assert!(
                !healthy && trouble.to_string().contains("no healthy host in cluster redis"),
                "{expected}: {trouble}"
            ),
        }
    }
}
