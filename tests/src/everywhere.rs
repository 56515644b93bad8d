//! The same question to every worker of every Envoy.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Request;
use oidc_gate_testkit::browser::load::burst;
use oidc_gate_testkit::process::wait_until;

use crate::Gate;

/// Connections to each Envoy: with two workers, all of them go to one of the two in one of 10⁶ times.
const CONNECTIONS: usize = 20;
const AT_ONCE: usize = 10;
/// Long enough for a loaded machine; what is waited for takes about a second.
pub const BOUND: Duration = Duration::from_secs(20);

/// Every status with which any worker of any Envoy answers; 0 stands for no answer. `ask` is given the address of
/// `path` at each Envoy.
pub fn statuses(gate: &Gate, path: &str, ask: impl Fn(&str) -> Request) -> BTreeSet<u16> {
    gate.envoys()
        .flat_map(|(number, _)| {
            let url = gate.url_at(number, path);
            burst(CONNECTIONS, AT_ONCE, |_| ask(&url))
        })
        .map(|answer| answer.map_or(0, |response| response.status))
        .collect()
}

/// Every worker of every Envoy answers with this status, now.
///
/// # Panics
/// When one does not; with the tail of Envoy's log.
#[track_caller]
pub fn assert_everywhere(gate: &Gate, status: u16, path: &str, ask: impl Fn(&str) -> Request) {
    let found = statuses(gate, path, ask);
    assert!(
        found == BTreeSet::from([status]),
        "expected {status} everywhere, not {found:?}: {}",
        gate.envoy().trouble("is asked why")
    );
}

/// Every worker of every Envoy comes to answer with this status; how long it took. The time is for people to read: what
/// the machine does besides is in it.
///
/// # Panics
/// When it does not within 20 s; with the tail of Envoy's log.
#[track_caller]
pub fn assert_soon_everywhere(
    gate: &Gate,
    status: u16,
    path: &str,
    ask: impl Fn(&str) -> Request,
) -> Duration {
    let started = Instant::now();
    let mut found = BTreeSet::new();
    let settled = wait_until(BOUND, || {
        found = statuses(gate, path, &ask);
        found == BTreeSet::from([status])
    });
    assert!(
        settled,
        "expected {status} everywhere within {BOUND:?}, not {found:?}: {}",
        gate.envoy().trouble("is asked why")
    );
    started.elapsed()
}

/// Waits until so much time has passed since `since`: a token or a session of that age.
pub fn wait_for_age(since: Instant, age: Duration) {
    wait_until(age.saturating_add(BOUND), || since.elapsed() >= age);
}
