//! Request headers that control Envoy have no effect, wherever the client connects from.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use oidc_gate_testkit::browser::raw::Connection;
use oidc_gate_testkit::browser::{Client, Request};
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::netns::isolated;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_tests::{BOUND, Gate, assert_allowed};
use serde_json::{Value, json};

/// An address that Envoy may be configured to treat as internal.
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 30, 40));
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A text that must not appear in any log, response, statistic or forwarded request.
const MARK: &str = "f801mark";

/// All headers with this prefix that Envoy, its filters or a mesh read, with values whose effect would be visible.
const CONTROL: [(&str, &str); 41] = [
    ("x-envoy-attempt-count", "f801mark"),
    ("x-envoy-auth-partial-body", "true"),
    ("x-envoy-cluster", "f801mark"),
    ("x-envoy-compression-status", "f801mark"),
    ("x-envoy-decorator-operation", "f801mark"),
    ("x-envoy-degraded", "f801mark"),
    ("x-envoy-downstream-service-cluster", "f801mark"),
    ("x-envoy-downstream-service-node", "f801mark"),
    ("x-envoy-expected-rq-timeout-ms", "1"),
    ("x-envoy-external-address", "f801mark"),
    ("x-envoy-fault-abort-request", "418"),
    ("x-envoy-fault-delay-request", "60000"),
    ("x-envoy-fault-throughput-response", "1"),
    ("x-envoy-force-trace", "true"),
    ("x-envoy-hedge-on-per-try-timeout", "true"),
    ("x-envoy-immediate-health-check-fail", "true"),
    ("x-envoy-internal", "true"),
    ("x-envoy-ip-tags", "f801mark"),
    ("x-envoy-is-timeout-retry", "true"),
    ("x-envoy-livenessprobe", "f801mark"),
    ("x-envoy-local-overloaded", "true"),
    ("x-envoy-max-retries", "100"),
    ("x-envoy-original-dst-host", "127.0.0.1:1"),
    ("x-envoy-original-host", "f801mark"),
    ("x-envoy-original-method", "DELETE"),
    ("x-envoy-original-path", "/f801mark"),
    ("x-envoy-original-url", "http://f801mark/"),
    ("x-envoy-overloaded", "true"),
    ("x-envoy-peer-metadata", "f801mark"),
    ("x-envoy-peer-metadata-id", "f801mark"),
    ("x-envoy-ratelimited", "true"),
    ("x-envoy-retriable-header-names", "content-type"),
    ("x-envoy-retriable-status-codes", "200,418,503"),
    ("x-envoy-retry-grpc-on", "cancelled,internal,unavailable"),
    ("x-envoy-retry-on", "5xx,gateway-error,reset,retriable-4xx,retriable-status-codes,retriable-headers"),
    ("x-envoy-upstream-alt-stat-name", "f801mark"),
    ("x-envoy-upstream-canary", "true"),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
    ("x-envoy-upstream-rq-timeout-alt-response", "204"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-upstream-stream-duration-ms", "1"),
];

/// All headers at once, and each one together with those that it needs to have an effect.
fn combinations() -> Vec<Vec<(&'static str, &'static str)>> {
    let mut combinations = vec![CONTROL.to_vec()];
    let retries = ["x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes"];
    combinations.push(CONTROL.into_iter().filter(|(name, _)| retries.contains(name)).collect());
    combinations.extend(CONTROL.map(|header| vec![header]));
    combinations
}

/// The listener in another possible configuration: it treats private addresses as internal and does not remove Envoy's
/// headers early.
fn trusting(config: EnvoyConfig) -> EnvoyConfig {
    config.manager(|manager| {
        let manager = manager.as_object_mut().unwrap();
        manager.insert("internal_address_config".to_owned(), json!({}));
        manager.remove("early_header_mutation_extensions").unwrap();
    })
}

fn statistics(gate: &Gate) -> BTreeSet<String> {
    let text = gate.envoy().admin("GET", "/stats?usedonly").unwrap().text();
    text.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
}

fn with(request: Request, headers: &[(&str, &str)]) -> Request {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// Sends a request with control headers. The application must receive it once, without them, and the client must get
/// its response.
#[track_caller]
fn assert_without_effect(gate: &Gate, headers: &[(&str, &str)], status: u16, request: Request) {
    let reached = gate.echo.count();
    let response = with(request, headers).send().unwrap_or_else(|trouble| panic!("{headers:?}: {trouble}"));
    assert_eq!(response.status, status, "{headers:?}: {response}");
    assert_eq!(gate.echo.count(), reached + 1, "{headers:?}: the application is asked once");
    let received = gate.echo.last().unwrap();
    for (name, value) in &received.headers {
        assert!(!name.starts_with("x-envoy-") && !value.contains(MARK), "{headers:?}: {name}: {value}");
    }
    let said = format!("{:?}", response.headers);
    assert!(!said.contains(MARK) && !said.contains("x-envoy-"), "{headers:?}: {said}");
}

/// Asserts that no header has an effect on forwarded requests: public, with a token, with a session.
fn assert_no_header_has_an_effect(gate: &Gate, from: IpAddr) {
    let url = |path: &str| format!("http://{from}:{}{path}", gate.port());
    let host = format!("localhost:{}", gate.port());
    let token = gate.provider.access_token("mlflow_user");
    let browser = gate.signed_in("mlflow_user");
    let cookie = gate.cookie_header(&browser);
    let before = statistics(gate);
    for headers in combinations() {
        // A status that a retry policy would act on.
        let public = Client::new().request("GET", &url("/health?status=503")).header("host", &host);
        assert_without_effect(gate, &headers, 503, public);
        let write = Client::new().fetching("POST", &url("/x?status=503")).header("host", &host);
        assert_without_effect(gate, &headers, 503, write.header("cookie", &cookie).body("once"));
        // Refused by the gate. The response contains nothing from the request.
        let refused = with(Client::new().navigation("POST", &url("/x")), &headers).send().unwrap();
        assert!(refused.status == 401 && !refused.text().contains(MARK), "{refused}");
    }
    // A response that takes longer than the shortest time limit arrives completely.
    for headers in [&CONTROL[..], &[("x-envoy-upstream-rq-timeout-ms", "1")]] {
        let slow = Client::new().request("GET", &url("/sse?events=5&interval=100"));
        let slow = slow.header("host", &host).bearer(&token);
        let reached = gate.echo.count();
        let response = with(slow, headers).send().unwrap();
        assert!(response.status == 200 && response.text().contains("event 4"), "{headers:?}: {response}");
        assert_eq!(gate.echo.count(), reached + 1);
    }
    let new: Vec<_> =
        statistics(gate).difference(&before).filter(|name| name.contains(MARK)).cloned().collect();
    assert_eq!(new, [""; 0], "a client names no statistic");
    let retried = gate.envoy().stat("cluster.mlflow.upstream_rq_retry").unwrap();
    assert_eq!(retried, 0, "nothing is sent again");
    assert_eq!(gate.envoy().stat("cluster.mlflow.upstream_rq_timeout").unwrap(), 0);
}

#[test]
fn f801_no_header_of_a_client_controls_envoy_from_loopback_or_from_a_private_address() {
    isolated(&[PRIVATE], || {
        for listener in
            [EnvoyConfig::on_every_address, |config: EnvoyConfig| trusting(config.on_every_address())]
        {
            let gate = Gate::builder().envoy(listener).start();
            // At the end the fixture searches the whole log for it.
            gate.plant_secret(MARK);
            for from in [LOOPBACK, PRIVATE] {
                assert_no_header_has_an_effect(&gate, from);
            }
        }
    })
    .unwrap();
}

/// Whether Envoy's connection manager treats the client as internal. It tells the filters, and the access log can show
/// it even for a refused request.
fn is_internal(gate: &Gate, from: IpAddr, path: &str) -> bool {
    let url = format!("http://{from}:{}{path}", gate.port());
    let refused = Client::new().request("GET", &url).header("x-envoy-internal", "true").send().unwrap();
    assert_eq!(refused.status, 401, "{refused}");
    let mut line = None;
    let logged = || {
        let log = gate.envoy().log();
        line = log.lines().find(|line| line.starts_with('{') && line.contains(path)).map(str::to_owned);
        line.is_some()
    };
    gate.wait_until("logs no such request", logged);
    let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
    assert!(line["internal"].is_null() || line["internal"] == "true", "{line}");
    line["internal"] == "true"
}

/// Adds this to the listener's access log.
fn telling(config: EnvoyConfig) -> EnvoyConfig {
    config.on_every_address().manager(|manager| {
        let log = &mut manager["access_log"][0]["typed_config"]["log_format"]["json_format"];
        log["internal"] = json!("%REQ(X-ENVOY-INTERNAL)%");
    })
}

#[test]
fn f801_nobody_is_internal() {
    isolated(&[PRIVATE], || {
        for (trusts, listener) in
            [(false, telling as fn(EnvoyConfig) -> EnvoyConfig), (true, |config| trusting(telling(config)))]
        {
            let gate = Gate::builder().envoy(listener).start();
            for (from, path) in [(LOOPBACK, "/from-loopback"), (PRIVATE, "/from-private")] {
                assert_eq!(is_internal(&gate, from, path), trusts, "{path}");
            }
        }
    })
    .unwrap();
}

/// Requests that are sent at once on one connection, how often, and on how many connections: 20,000 in total.
const PIPELINED: usize = 25;
const ROUNDS: usize = 10;
const CONNECTIONS: usize = 80;
const AT_ONCE: usize = 8;
/// Length of a header name that Envoy would keep, in bytes.
const NAME_LEN: usize = 1024;
/// How much an Envoy may grow while it serves 20,000 requests. That many names would take 160 MB.
const MAX_GROWTH: u64 = 24 << 20;

#[test]
fn f801_memory_stays_flat_over_twenty_thousand_made_up_names_of_statistics() {
    isolated(&[PRIVATE], || {
        for listener in
            [EnvoyConfig::on_every_address, |config: EnvoyConfig| trusting(config.on_every_address())]
        {
            let gate = Gate::builder().envoy(listener).start();
            // After this, connections, buffers and caches have reached their size.
            flood(&gate, CONNECTIONS / 4);
            let (bytes, names) = (gate.envoy().resident_bytes().unwrap(), statistics(&gate).len());
            flood(&gate, CONNECTIONS);
            assert!(statistics(&gate).len() < names + 50, "a client names no statistic");
            let grown = gate.envoy().resident_bytes().unwrap().saturating_sub(bytes);
            assert!(grown < MAX_GROWTH, "Envoy grew by {grown} bytes");
        }
    })
    .unwrap();
}

/// Sends requests with invented header names, alternately from loopback and from the private address.
fn flood(gate: &Gate, connections: usize) {
    let port = gate.port();
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            scope.spawn(move || {
                for number in (first..connections).step_by(AT_ONCE) {
                    let from = if number % 2 == 0 { LOOPBACK } else { PRIVATE };
                    let mut connection = Connection::open_to((from, port)).unwrap();
                    for round in 1..=ROUNDS {
                        let requests = (0..PIPELINED).map(|request| {
                            let name = format!("{number}.{round}.{request}.{}", "n".repeat(NAME_LEN));
                            format!(
                                "GET /health HTTP/1.1\r\nHost: localhost:{port}\r\n\
                                 x-envoy-upstream-alt-stat-name: {name}\r\n\r\n"
                            )
                        });
                        connection.send(requests.collect::<String>()).unwrap();
                        let answered = |read: &[u8]| {
                            String::from_utf8_lossy(read).matches("HTTP/1.1 200 OK").count()
                                == round * PIPELINED
                        };
                        connection.read_until(BOUND, answered).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn f802_the_request_id_is_envoys_own_and_what_a_client_says_of_itself_is_shown_nowhere() {
    let gate = Gate::start();
    gate.plant_secret(MARK);
    let browser = gate.signed_in("mlflow_user");
    let said = |request: Request| {
        let request = request.header("x-request-id", "11111111-f801mark").header("x+request+id", MARK);
        let request = request.header("x-envoy-original-path", "/f801mark");
        request.header("x-envoy-external-address", MARK).send().unwrap()
    };
    let response = said(browser.fetching("GET", &gate.url("/x")));
    assert_eq!(response.status, 200, "{response}");
    let received = gate.echo.last().unwrap();
    assert!(received.headers.iter().all(|(_, value)| !value.contains(MARK)), "{received:?}");
    assert!(received.header("x-request-id").is_some_and(|id| id.len() == 36), "{received:?}");
    // A page with the request id, and the log line about it.
    let outsider = Client::new();
    gate.provider.sign_in_as("outsider");
    outsider.visit(&gate.url("/")).unwrap();
    let page = said(outsider.navigation("GET", &gate.url("/")));
    assert!(page.status == 403 && !page.text().contains(MARK), "{page}");
}

#[test]
fn f802_a_front_that_makes_the_ids_can_be_trusted() {
    let gate = Gate::builder()
        .envoy(|config| config.manager(|manager| manager["preserve_external_request_id"] = json!(true)))
        .start();
    let id = "22222222-2222-4222-8222-222222222222";
    let ask = |path: &str| Client::new().request("GET", &gate.url(path)).header("x-request-id", id).send();
    let received = assert_allowed(&gate, || ask("/health"));
    assert_eq!(received.header("x-request-id"), Some(id));
    assert_eq!(ask("/x").unwrap().status, 401);
    assert!(wait_until(BOUND, || gate.envoy().log().contains(&format!("request={id}"))));
}
