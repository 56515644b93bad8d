//! The revocation stream in a Redis that others can write to, or that is not available yet.

use std::time::{Duration, Instant};

use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::Times;
use oidc_gate_testkit::redis::{Fault, On};
use oidc_gate_tests::{BOUND, Gate, Signed, assert_soon_everywhere, assert_workers_alive};

const STREAM: &str = "mlflow:revoked";
const LARGEST: &str = "18446744073709551615-18446744073709551615";

fn two_envoys() -> Gate {
    Gate::builder().envoys(2).set("session.cache_ttl", "1m").start()
}

fn redis(gate: &Gate, words: &[&str]) {
    gate.redis().command(words).unwrap();
}

/// Ends a session of the provider at the first Envoy. Returns how long the second one takes to refuse its bearer token
/// and its browser session.
fn assert_heard_of(gate: &Gate) -> Duration {
    let signed = Signed::in_as(gate, "mlflow_user");
    let answer = gate.post_logout_token(0, &signed.logout_token(gate));
    assert_eq!(answer.status, 200, "{answer}");
    let began = Instant::now();
    let refused = || signed.by_token(&gate.url_at(1, "/x")).send().is_ok_and(|answer| answer.status == 401);
    assert!(wait_until(BOUND, refused), "{}", gate.envoy_at(1).trouble("does not hear of it"));
    let took = began.elapsed();
    signed.assert_ends(gate);
    took
}

/// The sum of this counter over all Envoys.
fn counted(gate: &Gate, outcome: &str) -> u64 {
    let name = format!("wasmcustom.oidc_gate_log_reads_total.outcome.{outcome}.reason.none");
    gate.envoys().map(|(_, envoy)| envoy.stat(&name).unwrap_or_default()).sum()
}

fn said(gate: &Gate, text: &str) -> bool {
    gate.envoys().any(|(_, envoy)| envoy.log().contains(text))
}

#[track_caller]
fn assert_reported(gate: &Gate, outcome: &str, line: &str) {
    gate.wait_until("says nothing", || counted(gate, outcome) >= 1 && said(gate, line));
}

#[test]
fn f1001_an_entry_with_the_largest_id_hides_no_revocation_while_it_is_there_or_after_it_was_deleted() {
    let gate = two_envoys();
    println!("as usual: the other Envoy refuses after {:?}", assert_heard_of(&gate));
    redis(&gate, &["XADD", STREAM, LARGEST, "e", "x"]);
    println!("with the entry: after {:?}", assert_heard_of(&gate));
    assert_reported(&gate, "ahead", "ids ahead of Redis' clock");
    // Redis continues from the last id, although no entry has it any more.
    redis(&gate, &["XADD", STREAM, LARGEST, "e", "x"]);
    redis(&gate, &["XDEL", STREAM, LARGEST]);
    println!("after XDEL: after {:?}", assert_heard_of(&gate));
    redis(&gate, &["XADD", STREAM, LARGEST, "e", "x"]);
    redis(&gate, &["DEL", STREAM]);
    assert_reported(&gate, "reset", "revocation stream was reset or trimmed");
    println!("after DEL: after {:?}", assert_heard_of(&gate));
    assert_workers_alive(&gate);
}

/// Until it is gone, each Envoy is on its own. Revocations of that time are written afterwards.
#[test]
fn f1001_another_type_in_the_place_of_the_stream_is_reported_and_nothing_is_lost_when_it_is_gone() {
    let gate = two_envoys();
    assert_heard_of(&gate);
    redis(&gate, &["SET", STREAM, "x"]);
    let signed = Signed::in_as(&gate, "mlflow_user");
    let answer = gate.post_logout_token(0, &signed.logout_token(&gate));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (400, Some("5")),
        "not everywhere yet: {answer}"
    );
    assert_eq!(signed.by_token(&gate.url_at(0, "/x")).send().unwrap().status, 401, "but here");
    assert_reported(&gate, "failed", "WRONGTYPE");
    redis(&gate, &["DEL", STREAM]);
    signed.assert_ends(&gate);
    println!("the next one: after {:?}", assert_heard_of(&gate));
}

#[test]
fn f1001_a_stream_that_is_deleted_in_a_loop_is_reported_and_heals() {
    let gate = two_envoys();
    assert_heard_of(&gate);
    let signed = Signed::in_as(&gate, "mlflow_user");
    let looped = wait_until(BOUND, || {
        redis(&gate, &["DEL", STREAM]);
        counted(&gate, "reset") >= 4
    });
    assert!(looped, "{}", gate.envoy().trouble("does not notice"));
    assert_eq!(gate.post_logout_token(0, &signed.logout_token(&gate)).status, 200);
    redis(&gate, &["DEL", STREAM]);
    // An entry that was deleted is written again by the Envoy that had written it.
    assert_soon_everywhere(&gate, 401, "/x", |url| signed.by_token(url));
    println!("the next one: after {:?}", assert_heard_of(&gate));
    assert_workers_alive(&gate);
}

#[test]
fn f1001_entries_that_are_no_revocations_hide_none() {
    let gate = two_envoys();
    assert_heard_of(&gate);
    let fill = "for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'e', 'x' .. i) end \
                redis.call('XADD', KEYS[1], '*', 'e', string.rep('x', 1000000)) \
                local many = {} for i = 1, 6000 do many[i] = 'x' end \
                redis.call('XADD', KEYS[1], '*', unpack(many))";
    redis(&gate, &["EVAL", fill, "1", STREAM]);
    println!("behind 100,000 of them: after {:?}", assert_heard_of(&gate));
    assert_workers_alive(&gate);
}

/// The health check has not finished, or Redis starts later. Even then a revoked token must not be accepted.
#[test]
fn f1005_the_first_requests_after_a_start_wait_until_the_revocations_could_be_read() {
    let mut gate = Gate::builder().redis_proxy().workers(1).start();
    let (_, sid) = gate.signed_in_with_sid("mlflow_user");
    let token = gate.provider.access_token_in(&sid);
    let good = gate.provider.access_token("mlflow_admin");
    gate.provider.delete_session(&sid);
    for round in 0..3 {
        gate.kill_envoy(0);
        gate.redis_proxy().fail(On::Everything, Times::Always, Fault::Close);
        let applied = gate.redis_proxy().applied();
        gate.start_envoy_without_redis(0);
        let ended = gate.with_token("/x", &token).begin();
        gate.wait_until("does not ask Redis", || gate.redis_proxy().applied() > applied);
        gate.redis_proxy().behave();
        let ended = ended.finish().unwrap();
        assert_eq!(ended.status, 401, "{round}: {ended}\n{}", gate.envoy().trouble("lets it in"));
        let good = gate.with_token("/x", &good).send().unwrap();
        assert_eq!(good.status, 200, "{round}: {good}");
    }
}
