//! What has to be true after every refused request, besides its status:
//!
//! - O1 the application was not reached;
//! - O3 every worker still lets a good request through, and no VM failed or was loaded anew;
//! - O4 no secret in the answer (and none in the log: [`Gate`](crate::Gate) looks at the end of each test);
//! - O5 the gate's own answers carry `Cache-Control: no-store`.
//!
//! O2, the identity headers of what is let through, is [`assert_allowed`].

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::echo::Received;
use oidc_gate_testkit::envoy::Envoy;
use oidc_gate_testkit::process::Trouble;

use crate::Gate;
use crate::fixture::CANARY;

/// Connections after which a worker that got none counts as dead: with two workers, chance fails once in 10¹⁵.
const MAX_CONNECTIONS: usize = 50;

/// Who refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// The filter; its answers say `Cache-Control: no-store`.
    Gate,
    /// Envoy itself, before the filter sees the request.
    Envoy,
}

/// Sends something that must be refused with `status`, and checks everything that follows from it.
///
/// # Panics
/// When it is not so; with the answer and the tail of Envoy's log.
#[track_caller]
pub fn assert_refused(
    gate: &Gate,
    status: u16,
    stimulus: impl FnOnce() -> Result<Response, Trouble>,
) -> Response {
    assert_refused_by(gate, RefusedBy::Gate, status, stimulus)
}

/// As [`assert_refused`], by whoever is named.
///
/// # Panics
/// As [`assert_refused`].
#[track_caller]
pub fn assert_refused_by(
    gate: &Gate,
    by: RefusedBy,
    status: u16,
    stimulus: impl FnOnce() -> Result<Response, Trouble>,
) -> Response {
    let reached = gate.echo.count();
    let response = stimulus().unwrap_or_else(|trouble| {
        panic!("{}", gate.envoy().trouble(&format!("left a client with {trouble}")))
    });
    let wrong = |what: &str| -> ! { panic!("{what}: {response}\n{}", gate.envoy().trouble("is asked why")) };
    if response.status != status {
        wrong(&format!("expected {status}"));
    }
    if gate.echo.count() != reached {
        wrong("O1: the application was reached");
    }
    if let Some(leak) = gate.find_secret_in(&shown(&response)) {
        wrong(&format!("O4: the answer shows {leak}"));
    }
    if by == RefusedBy::Gate && response.header("cache-control") != Some("no-store") {
        wrong("O5: no Cache-Control: no-store");
    }
    assert_workers_alive(gate);
    response
}

/// Sends something that must reach the application, and returns what the application saw: O2 is that each identity
/// header is there once, or not at all.
///
/// # Panics
/// When it was not let through, or an identity header came twice.
#[track_caller]
pub fn assert_allowed(gate: &Gate, stimulus: impl FnOnce() -> Result<Response, Trouble>) -> Received {
    let reached = gate.echo.count();
    let response = stimulus().unwrap_or_else(|trouble| {
        panic!("{}", gate.envoy().trouble(&format!("left a client with {trouble}")))
    });
    assert!(
        response.status == 200 && gate.echo.count() == reached + 1,
        "not let through: {response}\n{}",
        gate.envoy().trouble("is asked why")
    );
    let Some(received) = gate.echo.last() else {
        panic!("the application was reached, but has seen nothing")
    };
    for name in
        ["x-forwarded-user", "x-forwarded-preferred-username", "x-forwarded-email", "x-forwarded-groups"]
    {
        assert!(received.values(name).len() <= 1, "O2: {name} came more than once: {received:?}");
    }
    received
}

/// Every worker of every Envoy lets a good bearer token through, and no VM has failed since Envoy started. (A token,
/// because it needs neither Redis nor the provider at that moment.)
///
/// # Panics
/// When a worker does not, or none of 50 connections reached it.
#[track_caller]
pub fn assert_workers_alive(gate: &Gate) {
    for (number, envoy) in gate.envoys() {
        assert_workers_of(gate, number, envoy);
    }
}

#[track_caller]
fn assert_workers_of(gate: &Gate, number: usize, envoy: &Envoy) {
    let client = Client::new();
    let token = gate.provider.access_token(CANARY);
    let before = connections(envoy);
    for _ in 0..MAX_CONNECTIONS {
        let answer = client.request("GET", &gate.url_at(number, "/canary")).bearer(&token).send();
        match answer {
            Ok(response) if response.status == 200 => {}
            Ok(response) => {
                panic!("O3: a good request is refused: {response}\n{}", envoy.trouble("is asked why"))
            }
            Err(trouble) => panic!("O3: a good request fails: {trouble}\n{}", envoy.trouble("is asked why")),
        }
        let after = connections(envoy);
        let moved = after.iter().filter(|(worker, count)| before.get(*worker) != Some(*count)).count();
        if moved == envoy.workers() as usize {
            if let Some(incidents) = incidents(envoy) {
                panic!("O3: {incidents}\n{}", envoy.trouble("is asked why"));
            }
            return;
        }
    }
    panic!(
        "O3: {MAX_CONNECTIONS} connections did not reach every worker: {before:?} → {:?}",
        connections(envoy)
    );
}

/// All that an answer says; the address it answers is the client's own.
fn shown(response: &Response) -> String {
    let headers = response.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let lines = headers.map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
    lines.chain([response.text()]).collect()
}

fn connections(envoy: &Envoy) -> std::collections::BTreeMap<String, u64> {
    envoy.connections_by_worker().unwrap_or_else(|trouble| panic!("{trouble}"))
}

/// What the Wasm host counted of failures and reloads; `None` when there was nothing.
pub(crate) fn incidents(envoy: &Envoy) -> Option<String> {
    let health = match envoy.wasm_health() {
        Ok(health) => health,
        Err(trouble) => return Some(trouble.to_string()),
    };
    let moved: Vec<_> = health.incidents.iter().filter(|(_, count)| **count > 0).collect();
    (!moved.is_empty()).then(|| format!("{moved:?}"))
}
