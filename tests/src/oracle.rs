//! The checks that follow every refused request, besides its status:
//!
//! - O1 the application was not reached;
//! - O3 every worker still forwards a valid request, and no VM has failed or was reloaded;
//! - O4 the response contains no secret (nor does the log, which [`Gate`] checks at the end of each test);
//! - O5 the gate's own responses have `Cache-Control: no-store`.
//!
//! O2 checks the identity headers of forwarded requests: [`assert_allowed`].

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::echo::Received;
use oidc_gate_testkit::envoy::Envoy;
use oidc_gate_testkit::process::Trouble;

use crate::Gate;
use crate::fixture::CANARY;

/// How many connections are tried before a worker that got none counts as dead. With two workers, this fails by chance
/// with a probability of 10⁻¹⁵.
const MAX_CONNECTIONS: usize = 50;

/// What refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// The filter. Its responses have `Cache-Control: no-store`.
    Gate,
    /// Envoy itself, before the request reaches the filter.
    Envoy,
}

/// Sends a request that must be refused with `status`, and makes all checks.
///
/// # Panics
/// If one fails. The message has the response and the end of Envoy's log.
#[track_caller]
pub fn assert_refused(
    gate: &Gate,
    status: u16,
    stimulus: impl FnOnce() -> Result<Response, Trouble>,
) -> Response {
    assert_refused_by(gate, RefusedBy::Gate, status, stimulus)
}

/// Like [`assert_refused`], for a refusal by the filter or by Envoy.
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

/// Sends a request that must not reach the application, and gets one of these statuses. `what` describes it. For many
/// requests in a row: the other checks of [`assert_refused`] are left out.
///
/// # Panics
/// If it does.
#[track_caller]
pub fn assert_stopped(
    gate: &Gate,
    statuses: &[u16],
    what: impl std::fmt::Debug,
    stimulus: impl FnOnce() -> Result<Response, Trouble>,
) -> Response {
    let reached = gate.echo.count();
    let response = stimulus().unwrap_or_else(|trouble| panic!("{what:?}: {trouble}"));
    assert!(statuses.contains(&response.status), "{what:?}: {response}");
    assert_eq!(gate.echo.count(), reached, "{what:?}: let through");
    response
}

/// Sends a request that must reach the application. Returns the request as the application received it. O2: each
/// identity header is present once, or not at all.
///
/// # Panics
/// If the request was refused, or an identity header is repeated.
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

/// Asserts that every worker of every Envoy forwards a request with a valid bearer token, and that no VM has failed
/// since Envoy started. A token needs neither Redis nor the provider at that moment.
///
/// # Panics
/// If a worker does not, or was not reached by any of 50 connections.
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

/// The whole response, without the URL, which the client chose itself.
fn shown(response: &Response) -> String {
    let headers = response.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let lines = headers.map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
    lines.chain([response.text()]).collect()
}

fn connections(envoy: &Envoy) -> std::collections::BTreeMap<String, u64> {
    envoy.connections_by_worker().unwrap_or_else(|trouble| panic!("{trouble}"))
}

/// What the Wasm host has counted as failures and reloads. `None` if there were none.
pub(crate) fn incidents(envoy: &Envoy) -> Option<String> {
    let health = match envoy.wasm_health() {
        Ok(health) => health,
        Err(trouble) => return Some(trouble.to_string()),
    };
    let moved: Vec<_> = health.incidents.iter().filter(|(_, count)| **count > 0).collect();
    (!moved.is_empty()).then(|| format!("{moved:?}"))
}
