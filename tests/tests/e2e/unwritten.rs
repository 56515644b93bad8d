//! A real Redis that can be read but accepts no writes.

use std::time::{Duration, Instant};

use oidc_gate_testkit::process::wait_until;
use oidc_gate_tests::{
    BOUND, Gate, assert_everywhere, assert_soon_everywhere, assert_workers_alive, wait_for_age,
};

const IDLE: Duration = Duration::from_secs(4);

/// A gate with a short idle timeout that reads every session from Redis each time.
fn gate() -> Gate {
    Gate::builder().envoys(2).set("session.cache_ttl", "0s").set("session.idle_timeout", "4s").start()
}

fn unwritten(gate: &Gate) -> u64 {
    let name = "wasmcustom.oidc_gate_session_use_total.outcome.unwritten.reason.none";
    gate.envoys().map(|(_, envoy)| envoy.stat(name).unwrap()).sum()
}

/// One way to make Redis refuse writes, and to restore it.
struct Way {
    kind: &'static str,
    take: fn(&Gate),
    give: fn(&Gate),
}

fn set(gate: &Gate, name: &str, value: &str) {
    gate.redis().command(&["CONFIG", "SET", name, value]).unwrap();
}

const WAYS: [Way; 4] = [
    Way { kind: "OOM", take: |gate| set(gate, "maxmemory", "1"), give: |gate| set(gate, "maxmemory", "0") },
    Way {
        kind: "NOREPLICAS",
        take: |gate| set(gate, "min-replicas-to-write", "1"),
        give: |gate| set(gate, "min-replicas-to-write", "0"),
    },
    Way {
        kind: "READONLY",
        // A replica without a primary. It continues to answer with its data.
        take: |gate| drop(gate.redis().command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap()),
        give: |gate| drop(gate.redis().command(&["REPLICAOF", "NO", "ONE"]).unwrap()),
    },
    Way { kind: "MISCONF", take: fill_disk, give: free_disk },
];

/// Makes Redis' snapshot fail like a full disk: a folder is in its place.
fn fill_disk(gate: &Gate) {
    let redis = gate.redis();
    std::fs::create_dir(redis.socket().with_file_name("dump.rdb")).unwrap();
    set(gate, "save", "1 1");
    redis.command(&["SET", "mlflow:something", "new"]).unwrap();
    let failed = || redis.info("persistence", "rdb_last_bgsave_status").unwrap().as_deref() == Some("err");
    assert!(wait_until(BOUND, failed), "Redis saved");
}

fn free_disk(gate: &Gate) {
    let redis = gate.redis();
    std::fs::remove_dir(redis.socket().with_file_name("dump.rdb")).unwrap();
    redis.command(&["BGSAVE"]).unwrap();
    let saved = || redis.info("persistence", "rdb_last_bgsave_status").unwrap().as_deref() == Some("ok");
    assert!(wait_until(BOUND, saved), "Redis does not save");
}

#[test]
fn f904_whoever_uses_a_session_keeps_it_while_redis_takes_no_writes() {
    for way in WAYS {
        let gate = gate();
        let browser = gate.signed_in("mlflow_user");
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
        (way.take)(&gate);
        let (since, mut served) = (Instant::now(), 0);
        let over = || {
            let answer = browser.fetch(&gate.url("/x")).unwrap();
            assert_eq!(
                answer.status,
                200,
                "{}: {answer}\n{}",
                way.kind,
                gate.envoy().trouble("is asked why")
            );
            served += 1;
            since.elapsed() >= IDLE * 3
        };
        assert!(wait_until(IDLE * 3 + BOUND, over), "{}", way.kind);
        assert!(served > 20, "{}: too few page views to tell", way.kind);
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
        assert!(unwritten(&gate) > 0, "{}: the metric does not say it", way.kind);
        let said = format!("idle timeouts are suspended: {}", way.kind);
        assert!(
            gate.envoys().any(|(_, envoy)| envoy.log().contains(&said)),
            "{}: the log does not",
            way.kind
        );
        // Signing in needs a write.
        let (stranger, callback) = gate.at_callback("mlflow_admin", "/");
        assert_eq!(stranger.navigate(&callback).unwrap().status, 503, "{}", way.kind);
        let refused = format!("detail=\"{}", way.kind);
        assert!(gate.envoys().any(|(_, envoy)| envoy.log().contains(&refused)), "{}", way.kind);
        (way.give)(&gate);
        let written = || {
            gate.envoys().any(|(_, envoy)| envoy.log().contains("last-used times are written to Redis again"))
        };
        assert!(
            wait_until(BOUND, || {
                assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200, "{}", way.kind);
                written()
            }),
            "{}: its use is not written again",
            way.kind
        );
        assert_eq!(stranger.navigate(&callback).unwrap().status, 303, "{}: the login goes on", way.kind);
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
        assert_workers_alive(&gate);
    }
}

#[test]
fn f203_a_redis_that_cannot_save_does_not_take_reads_down() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    fill_disk(&gate);
    assert!(gate.redis().command(&["PING"]).is_err(), "PING is an error");
    let checks = |gate: &Gate| gate.envoy().stat("cluster.redis.health_check.attempt").unwrap();
    let before = checks(&gate);
    assert!(wait_until(BOUND, || checks(&gate) > before + 2));
    assert_eq!(gate.envoy().stat("cluster.redis.membership_healthy").unwrap(), 1);
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    // An operator who wants to take Redis out of service sets this key.
    free_disk(&gate);
    gate.redis().command(&["SET", "mlflow:maintenance", "1"]).unwrap();
    assert_soon_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
    gate.redis().command(&["DEL", "mlflow:maintenance"]).unwrap();
    // As far as anyone knows, it was not used meanwhile: it continues, or is idle.
    let healthy = || gate.envoy().stat("cluster.redis.membership_healthy").unwrap() == 1;
    assert!(wait_until(BOUND, healthy));
}

#[test]
fn f904_an_unused_session_ends_and_is_taken_out_of_redis() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    let since = Instant::now();
    wait_for_age(since, IDLE + Duration::from_secs(1));
    assert!(!gate.redis().keys("mlflow:s:*").unwrap().is_empty(), "Redis has it still");
    assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    assert_eq!(gate.redis().keys("mlflow:s:*").unwrap(), Vec::<String>::new());
}
