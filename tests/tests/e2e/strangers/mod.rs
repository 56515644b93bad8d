//! Floods of unauthenticated clients while users work. No signed-in user is refused, and the work of Redis and the
//! provider stays within the limits of docs/production.md, "What strangers can have done".
//!
//! A flood has some thousand requests and continues until every session was refreshed. `OIDC_GATE_FLOOD_SECONDS` sets
//! its duration.

mod cost;
mod flood;
mod people;
mod proxy;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::netns::isolated;
use oidc_gate_testkit::provider::Grant;
use oidc_gate_tests::{Gate, assert_workers_alive};

use self::cost::Cost;
use self::flood::{Attack, Callbacks, Cookies, Flood};
use self::people::People;

const WORKERS: u32 = 2;
/// The limits in docs/production.md that apply to each worker.
const LOOKS: Rate = Rate { at_once: 400, per_second: 8 };
const CODES: Rate = Rate { at_once: 160, per_second: 8 };
const CODES_UNDER_WAY: u64 = 16;
const CALLS_FOR_A_CODE: u64 = 2;
/// After how many seconds a worker reads an ended session again, and how many attempts per second to sign out of it
/// make it read at once.
const ENDED_AGAIN: u64 = 5;
const ENDED_SIGN_OUTS: u64 = 8;

/// How many requests a flood without a set duration has, and its time limit on a slow machine.
const ENOUGH: u64 = 4000;
const BOUND: Duration = Duration::from_secs(240);
const SECONDS: &str = "OIDC_GATE_FLOOD_SECONDS";

/// Ports for outgoing connections. Each can be used once per minute, as between two machines. If every forged cookie
/// needed a connection to Redis, the ports would run out.
const PORTS: &str = "50000 56999";

#[derive(Clone, Copy)]
struct Rate {
    at_once: u64,
    per_second: u64,
}

impl Rate {
    /// The largest number allowed in all workers for this share: 2 stands for a half.
    fn most(self, took: Duration, share: u64) -> u64 {
        u64::from(WORKERS) * (self.at_once + self.per_second * (took.as_secs() + 1)) / share
    }
}

fn seconds() -> Option<Duration> {
    let seconds = std::env::var(SECONDS).ok()?;
    Some(Duration::from_secs(seconds.parse().unwrap_or_else(|_| panic!("{SECONDS}={seconds}"))))
}

/// This many addresses in this many networks. None of them is near those of [`People`].
fn strangers(networks: u8, addresses: u8) -> Vec<IpAddr> {
    let address = |number| Ipv4Addr::new(127, 66 + number % networks, 0, 1 + number / networks).into();
    (0..addresses).map(address).collect()
}

/// Sets long connect timeouts, because the flood keeps the machine busy.
fn patient(config: EnvoyConfig) -> EnvoyConfig {
    config.edit_cluster("redis", |cluster| cluster["connect_timeout"] = "5s".into())
}

/// Stops everything that is running when one thread ends, even by a failure.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Users work during the flood. `meanwhile` runs after the first refusal because of a limit.
fn beside_people(
    addresses: &[IpAddr],
    attack: impl FnOnce(&Gate) -> Box<dyn Attack> + Send,
    meanwhile: impl FnOnce(&Gate) + Send,
    check: impl FnOnce(&Gate, &Cost, &Flood) + Send,
) {
    let run = || {
        for (setting, value) in [("tcp_tw_reuse", "0"), ("ip_local_port_range", PORTS)] {
            std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).unwrap();
        }
        let gate = Gate::builder().workers(WORKERS).quiet().envoy(patient).start();
        let people = People::sign_in(&gate);
        let attack = attack(&gate);
        let (stop, flood) = (AtomicBool::new(false), Flood::default());
        let mut cost = Cost::begin(&gate);
        let began = Instant::now();
        let work = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let _stop = Stop(&stop);
                people.work(&gate, &stop)
            });
            for first in 0..flood::AT_ONCE {
                let (stop, flood, attack, gate) = (&stop, &flood, &*attack, &gate);
                scope.spawn(move || {
                    let _stop = Stop(stop);
                    flood.go_on(gate, first, addresses, attack, stop);
                });
            }
            let _stop = Stop(&stop);
            let mut meanwhile = Some(meanwhile);
            cost.watch(&gate, seconds().unwrap_or_default() + BOUND, || {
                if flood.over_limit() > 0
                    && let Some(meanwhile) = meanwhile.take()
                {
                    meanwhile(&gate);
                }
                let enough = match seconds() {
                    Some(seconds) => began.elapsed() >= seconds,
                    None => flood.sent() >= ENOUGH,
                };
                let renewed = gate.provider.granted(Grant::RefreshToken) >= people::USERS;
                stop.load(Ordering::SeqCst) || (enough && renewed && meanwhile.is_none())
            });
            assert!(!stop.load(Ordering::SeqCst) && meanwhile.is_none(), "{flood}{cost}");
            drop(_stop);
            work.join()
        });
        let work = work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        cost.end(&gate);
        println!("{:?}\n{flood}{cost}{work}", began.elapsed());

        assert_eq!(work.refusals, [""; 0], "somebody who is signed in was refused");
        assert!(work.requests > 0);
        assert_eq!(gate.provider.refused(Grant::RefreshToken), []);
        assert_eq!(gate.provider.spent_twice(), 0);
        assert_eq!(cost.overflows, 0, "a circuit breaker opened");
        check(&gate, &cost, &flood);
        assert_workers_alive(&gate);
    };
    isolated(&[], run).unwrap();
}

#[test]
fn f901_a_flood_of_forged_session_cookies_has_little_done_and_refuses_nobody_who_is_signed_in() {
    let attack = |gate: &Gate| -> Box<dyn Attack> { Box::new(Cookies::new(gate)) };
    beside_people(
        &strangers(8, 64),
        attack,
        |_| {},
        |gate, cost, flood| {
            assert_eq!(flood.over_limit_of(&Cookies::NEVER_LOOKED_FOR), 0, "{flood}");
            let seconds = cost.took.as_secs() + 1;
            let ended = u64::from(WORKERS) * (seconds / ENDED_AGAIN + 1 + seconds * ENDED_SIGN_OUTS);
            assert!(cost.about_one <= ended, "{ended} are allowed\n{cost}");
            let most = LOOKS.most(cost.took, 1);
            assert!(cost.strangers - cost.about_one <= most, "{most} are allowed\n{cost}");
            // Every connection is accounted for.
            assert!(cost.connections <= cost.people + cost.strangers + cost::OWN, "{cost}");
            assert_eq!((cost.codes, cost.new_keys_of_codes), (0, 0), "{cost}");
            assert_eq!(gate.redis().keys("mlflow:s:*").unwrap().len(), people::USERS, "{cost}");
        },
    );
}

fn callbacks(networks: u8, share: u64, meanwhile: impl FnOnce(&Gate) + Send) {
    let attack = |gate: &Gate| -> Box<dyn Attack> { Box::new(Callbacks::new(gate)) };
    beside_people(&strangers(networks, 8), attack, meanwhile, |_, cost, flood| {
        let most = CODES.most(cost.took, share);
        assert!(cost.codes <= most, "{most} are allowed\n{flood}{cost}");
        assert!(cost.new_keys_of_codes <= most, "{most} are allowed\n{flood}{cost}");
        assert!(cost.strangers <= CALLS_FOR_A_CODE * most, "{flood}{cost}");
        assert!(cost.codes_at_once <= u64::from(WORKERS) * CODES_UNDER_WAY, "{cost}");
        assert!(cost.connections <= cost.people + cost.strangers + cost::OWN, "{cost}");
    });
}

#[test]
fn f902_a_flood_of_made_up_callbacks_from_one_network_keeps_nobody_from_working_or_signing_in() {
    callbacks(1, 2, |gate| {
        for _ in 0..3 {
            gate.sign_in(&Client::at(Ipv4Addr::new(127, 30, 0, 1)), "mlflow_admin", "/");
        }
    });
}

#[test]
fn f902_a_flood_of_made_up_callbacks_from_everywhere_has_little_done_and_refuses_nobody_who_is_signed_in() {
    callbacks(8, 1, |_| {});
}

#[test]
fn f902_the_limits_that_floods_are_held_to_are_those_of_the_documentation() {
    let page = include_str!("../../../../docs/production.md");
    for text in [
        format!("{} looks at once, then {} in a second", LOOKS.at_once, LOOKS.per_second),
        format!("{} token requests at once, then {} in a second", CODES.at_once, CODES.per_second),
        format!("{CODES_UNDER_WAY} under way at the same time"),
        format!("one look in Redis in {ENDED_AGAIN} seconds"),
        format!("{ENDED_SIGN_OUTS} of these in a second count"),
        format!("{CALLS_FOR_A_CODE} connections to Redis at most for each"),
    ] {
        assert!(page.contains(&text), "{text}");
    }
}
