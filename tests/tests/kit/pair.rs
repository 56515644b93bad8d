//! A primary and its replica behind HAProxy, which always forwards to the primary.

use std::time::Duration;

use oidc_gate_testkit::process::{required_path, wait_until};
use oidc_gate_testkit::redis::{HaProxy, Pair};

const BOUND: Duration = Duration::from_secs(10);

fn write(port: u16, password: &str, key: &str) -> bool {
    let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{port}/")).unwrap();
    let connection = client.get_connection_with_timeout(Duration::from_secs(2));
    connection.is_ok_and(|mut connection| redis::cmd("SET").arg(key).arg(1).exec(&mut connection).is_ok())
}

#[test]
fn the_front_leads_to_whoever_is_primary() {
    let pair = Pair::start(&required_path("OIDC_GATE_REDIS").unwrap()).unwrap();
    let haproxy = required_path("OIDC_GATE_HAPROXY").unwrap();
    let front = HaProxy::start(&haproxy, &pair.ports(), pair.password()).unwrap();
    let works = |key: &str| wait_until(BOUND, || write(front.port(), pair.password(), key));
    assert!(works("before"), "{}", front.log());
    assert!(!write(pair.replica().port(), pair.password(), "x"), "the replica takes no writes");
    pair.wait_until_replicated().unwrap();
    let first = pair.primary().port();
    pair.hand_over().unwrap();
    assert_ne!(pair.primary().port(), first);
    assert!(works("handed-over"), "{}", front.log());
    pair.wait_until_replicated().unwrap();
    pair.fail_over().unwrap();
    assert_eq!(pair.primary().port(), first);
    assert!(works("failed-over"), "{}", front.log());
    assert_eq!(pair.primary().keys("*").unwrap(), ["before", "failed-over", "handed-over"]);
    pair.rejoin().unwrap();
    assert!(works("rejoined"), "{}", front.log());
    pair.wait_until_replicated().unwrap();
    assert_eq!(pair.replica().keys("*").unwrap().len(), 4);
}
