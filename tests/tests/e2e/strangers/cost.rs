//! The work of Redis and the provider, and which clients cause it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::{Endpoint, Grant};
use oidc_gate_testkit::redis::{Command, Monitor};
use oidc_gate_tests::Gate;

/// Connections to Redis that no command belongs to: those of the health check.
pub const OWN: u64 = 20;

/// The work since [`Cost::begin`].
pub struct Cost {
    monitor: Monitor,
    began: Instant,
    known_sessions: BTreeSet<String>,
    connections_before: u64,
    codes_before: u64,
    refreshes_before: u64,
    /// How long it was counted.
    pub took: Duration,
    /// Connections to Redis: in total, and the highest number at the same time.
    pub connections: u64,
    pub most_connections: u64,
    /// Commands that Redis ran.
    pub commands: u64,
    /// Calls for unauthenticated clients. The next field counts those for live sessions and for the gate itself.
    pub strangers: u64,
    pub people: u64,
    /// The most calls about a single unknown session.
    pub about_one: u64,
    pub most_keys: u64,
    pub new_keys_of_codes: u64,
    /// Token requests with a code: in total, and the highest number at the same time; refreshes; all other requests to
    /// the provider.
    pub codes: u64,
    pub codes_at_once: u64,
    refreshes: u64,
    others: u64,
    /// Requests to Redis or the provider that Envoy refused to send.
    pub overflows: u64,
}

impl Cost {
    pub fn begin(gate: &Gate) -> Self {
        Self {
            monitor: gate.redis().monitor().unwrap(),
            began: Instant::now(),
            known_sessions: sessions(gate),
            connections_before: statistics(gate)["cluster.redis.upstream_cx_total"],
            codes_before: number(gate.provider.count(Grant::AuthorizationCode)),
            refreshes_before: number(gate.provider.count(Grant::RefreshToken)),
            took: Duration::ZERO,
            connections: 0,
            most_connections: 0,
            commands: 0,
            strangers: 0,
            people: 0,
            about_one: 0,
            most_keys: 0,
            new_keys_of_codes: keys_of_codes(gate),
            codes: 0,
            codes_at_once: 0,
            refreshes: 0,
            others: others(gate),
            overflows: 0,
        }
    }

    /// Samples until `over` returns true, at most for `bound`.
    pub fn watch(&mut self, gate: &Gate, bound: Duration, mut over: impl FnMut() -> bool) {
        wait_until(bound, || {
            let active = statistics(gate)["cluster.redis.upstream_cx_active"];
            self.most_connections = self.most_connections.max(active);
            self.most_keys = self.most_keys.max(gate.redis().query(&["DBSIZE"]).unwrap());
            over()
        });
    }

    pub fn end(&mut self, gate: &Gate) {
        self.took = self.began.elapsed();
        let after = statistics(gate);
        self.connections = after["cluster.redis.upstream_cx_total"] - self.connections_before;
        self.overflows = after.iter().filter(|(name, _)| name.ends_with("_overflow")).map(|(_, n)| n).sum();
        self.codes = number(gate.provider.count(Grant::AuthorizationCode)) - self.codes_before;
        self.codes_at_once = number(gate.provider.most_at_once(Grant::AuthorizationCode));
        self.refreshes = number(gate.provider.count(Grant::RefreshToken)) - self.refreshes_before;
        self.others = others(gate) - self.others;
        self.new_keys_of_codes = keys_of_codes(gate) - self.new_keys_of_codes;
        self.known_sessions.extend(sessions(gate));
        let commands = self.monitor.commands().unwrap();
        self.commands = number(commands.len());
        let mut about = BTreeMap::<String, u64>::new();
        for call in calls(commands) {
            let of_strangers = call.into_iter().flat_map(|command| command.words).find(|word| {
                word.starts_with("mlflow:code:")
                    || (word.starts_with("mlflow:s:") && !self.known_sessions.contains(word))
            });
            match of_strangers {
                Some(key) => *about.entry(key).or_default() += 1,
                None => self.people += 1,
            }
        }
        self.strangers = about.values().sum();
        self.about_one = about.into_values().max().unwrap_or_default();
    }
}

/// The commands of each call. A call is one connection and ends with the gate's ECHO.
fn calls(commands: Vec<Command>) -> Vec<Vec<Command>> {
    let mut open = BTreeMap::<String, Vec<Command>>::new();
    let mut calls = Vec::new();
    for command in commands {
        let from = command.from.clone();
        let ends = command.name() == "ECHO";
        open.entry(from.clone()).or_default().push(command);
        if ends {
            calls.extend(open.remove(&from));
        }
    }
    calls
}

fn sessions(gate: &Gate) -> BTreeSet<String> {
    gate.redis().keys("mlflow:s:*").unwrap().into_iter().collect()
}

fn others(gate: &Gate) -> u64 {
    number(gate.provider.count(Endpoint::Discovery) + gate.provider.count(Endpoint::Jwks))
}

fn keys_of_codes(gate: &Gate) -> u64 {
    number(gate.redis().keys("mlflow:code:*").unwrap().len())
}

fn statistics(gate: &Gate) -> BTreeMap<String, u64> {
    let text = gate.envoy().admin("GET", "/stats?filter=cluster.(redis|keycloak).upstream_").unwrap().text();
    let statistic = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(statistic).collect()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap()
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Redis: {} connections ({} at once), {} commands; {} calls for strangers ({} \
             about the same), {} for others; {} keys, {} new \
             ones of codes",
            self.connections,
            self.most_connections,
            self.commands,
            self.strangers,
            self.about_one,
            self.people,
            self.most_keys,
            self.new_keys_of_codes
        )?;
        writeln!(
            f,
            "provider: {} codes ({} at once), {} refreshes, {} others",
            self.codes, self.codes_at_once, self.refreshes, self.others
        )
    }
}
