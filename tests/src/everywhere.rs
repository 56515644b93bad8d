//! Sends the same request to every worker of every Envoy.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Request;
use oidc_gate_testkit::browser::load::burst;
use oidc_gate_testkit::process::wait_until;

use crate::Gate;

/// How many connections are made to each Envoy. With two workers, all reach the same one with a probability of 10⁻⁶.
const CONNECTIONS: usize = 20;
const AT_ONCE: usize = 10;
/// Long enough for a busy machine. Usually it takes about a second.
pub const BOUND: Duration = Duration::from_secs(20);

/// All statuses that the workers of all Envoys return. 0 stands for no response. `ask` gets the URL of `path` at each
/// Envoy.
pub fn statuses(gate: &Gate, path: &str, ask: impl Fn(&str) -> Request) -> BTreeSet<u16> {
    gate.envoys()
        .flat_map(|(number, _)| {
            let url = gate.url_at(number, path);
            burst(CONNECTIONS, AT_ONCE, |_| ask(&url))
        })
        .map(|answer| answer.map_or(0, |response| response.status))
        .collect()
}

/// Asserts that every worker of every Envoy returns this status now.
///
/// # Panics
/// If one does not. The message has the end of Envoy's log.
#[track_caller]
pub fn assert_everywhere(gate: &Gate, status: u16, path: &str, ask: impl Fn(&str) -> Request) {
    let found = statuses(gate, path, ask);
    assert!(
        found == BTreeSet::from([status]),
        "expected {status} everywhere, not {found:?}: {}",
        gate.envoy().trouble("is asked why")
    );
}

/// Waits until every worker of every Envoy returns this status. Returns how long that took, only for information: the
/// time depends on how busy the machine is.
///
/// # Panics
/// If it does not happen within 20 s. The message has the end of Envoy's log.
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

/// Waits until a token or session from `since` has reached this age.
pub fn wait_for_age(since: Instant, age: Duration) {
    wait_until(age.saturating_add(BOUND), || since.elapsed() >= age);
}
