//! The log of revocations in a Redis that somebody else can write to, or that is not there yet.

use std::time::Duration;

use serde_json::json;

use super::back_channel::{logout, sleep};
use super::forwarded;
use crate::encoding::base64url;
use crate::gate::Decision;
use crate::host::{CalloutError, Host as _};
use crate::metrics::{self, LogRead};
use crate::revocation::memory::Revocation;
use crate::testing::provider::ISSUER;
use crate::testing::world::{World, replied};
use crate::time::Timestamp;

const MAX: (u64, u64) = (u64::MAX, u64::MAX);

fn junk() -> Vec<Vec<u8>> {
    vec![b"e".to_vec(), b"x".to_vec()]
}

fn entry(revocation: &Revocation) -> Vec<Vec<u8>> {
    vec![b"e".to_vec(), base64url(revocation.encode()).into_bytes()]
}

fn counted(world: &World, what: LogRead) -> u64 {
    world.host.counted(metrics::log_read(what))
}

fn is_good(world: &World, sid: &str) -> bool {
    matches!(world.bearer(json!({ "sid": sid })), Decision::Forward { .. })
}

/// Ends a provider session at one Envoy. True if the other Envoy applies that within a second.
fn is_heard_of(here: &World, there: &World, sid: &str) -> bool {
    assert!(is_good(there, sid));
    assert_eq!(logout(here, json!({"sid": sid, "jti": sid})).status, 200);
    there.host.advance(here.host.now().duration_since(there.host.now()));
    sleep(there, 1);
    !is_good(there, sid)
}

/// Two Envoys that have read the log.
fn two_envoys() -> (World, World) {
    let here = World::signed_in();
    let there = here.other_envoy();
    assert!(is_heard_of(&here, &there, "before"));
    (here, there)
}

fn millis(world: &World) -> u64 {
    world.host.now_millis()
}

#[test]
fn f1001_an_entry_with_the_largest_id_hides_no_revocation() {
    let (here, there) = two_envoys();
    here.redis.poison_log(MAX, &junk());
    sleep(&there, 1);
    assert!(is_heard_of(&here, &there, "meanwhile"), "nothing could be added behind it");
    assert!(counted(&here, LogRead::Ahead) + counted(&there, LogRead::Ahead) >= 1);
    assert!(there.said("ids ahead of Redis' clock") + here.said("ids ahead of Redis' clock") >= 1);
    assert!(is_heard_of(&here, &there, "afterwards"));
    let late = here.other_envoy();
    sleep(&late, 1);
    for sid in ["before", "meanwhile", "afterwards"] {
        assert!(!is_good(&late, sid), "{sid}: an Envoy that starts later hears of all");
    }
    assert!(here.is_in(), "nobody else");
}

/// Redis continues from the last id that it assigned, even if that entry was deleted.
#[test]
fn f1001_a_largest_id_that_was_deleted_again_keeps_nothing_from_being_added() {
    let (here, there) = two_envoys();
    here.redis.poison_log(MAX, &junk());
    here.redis.delete_from_log(MAX);
    assert!(is_heard_of(&here, &there, "next"));
    assert_eq!(counted(&here, LogRead::Ahead), 1, "found by the one that writes");
    let ahead = (millis(&here) + 3_600_000, 7);
    here.redis.poison_log(ahead, &junk());
    here.redis.delete_from_log(ahead);
    assert!(is_heard_of(&here, &there, "the one after"));
}

/// The stream is deleted with the poisoned entry, as an operator would do who notices it.
#[test]
fn f1001_after_the_poisoned_stream_was_deleted_the_next_revocation_arrives_within_a_second() {
    let (here, there) = two_envoys();
    here.redis.refuse(b"XADD");
    here.redis.poison_log(MAX, &junk());
    sleep(&there, 3);
    here.redis.drop_log();
    here.redis.refuse_nothing();
    sleep(&there, 1);
    assert_eq!((counted(&there, LogRead::Reset), there.said("was reset or trimmed")), (1, 1));
    assert!(is_heard_of(&here, &there, "next"));
}

#[test]
fn f1001_ids_ahead_of_the_clock_are_no_position_and_what_they_say_is_heard_once() {
    let (here, there) = two_envoys();
    let ahead = millis(&here) + 61_000;
    here.redis.poison_log((ahead, 0), &entry(&Revocation::provider_session(ISSUER, &"late".into())));
    here.redis.poison_log((ahead + 1, 0), &junk());
    assert!(is_good(&there, "late"));
    sleep(&there, 1);
    assert!(!is_good(&there, "late"), "it was given an id of now");
    let heard = there.host.shared_get("oidc-gate.endings.redis.mlflow").unwrap().0;
    sleep(&there, 5);
    assert_eq!(there.host.shared_get("oidc-gate.endings.redis.mlflow").unwrap().0, heard, "once");
    assert!(is_heard_of(&here, &there, "next"));
}

/// Redis' clock was set back by an hour, so its earlier ids are ahead of the clock.
#[test]
fn f1001_a_redis_whose_clock_was_set_back_goes_on_and_forgets_nothing() {
    let (here, there) = two_envoys();
    let (ours, theirs) = (here.redis.clone(), there.redis.clone());
    assert!(std::rc::Rc::ptr_eq(&ours, &theirs));
    ours.set_clock_back(Duration::from_secs(3600));
    assert!(is_heard_of(&here, &there, "next"));
    let late = here.other_envoy();
    sleep(&late, 1);
    assert!(!is_good(&late, "before") && !is_good(&late, "next"));
}

#[test]
fn f1001_a_stream_that_is_deleted_again_and_again_is_noticed_and_heals() {
    let (here, there) = two_envoys();
    assert!(is_good(&there, "in between"));
    for round in 0..20 {
        if round == 10 {
            assert_eq!(logout(&here, json!({"sid": "in between", "jti": "in between"})).status, 200);
        }
        here.redis.drop_log();
        for world in [&here, &there] {
            world.sleep(Duration::from_millis(300));
        }
    }
    assert!(counted(&there, LogRead::Reset) >= 1 && there.said("was reset or trimmed") >= 1);
    assert!(counted(&there, LogRead::Reset) <= 20, "no more often than somebody deletes it");
    // The Envoy that wrote it has noticed that it may be lost.
    sleep(&here, 6);
    sleep(&there, 1);
    assert!(!is_good(&there, "in between"));
    assert!(is_heard_of(&here, &there, "next"));
}

/// `SET mlflow:revoked x`: the key may hold somebody else's data, so the gate does not delete it.
#[test]
fn f1001_another_type_in_its_place_is_a_read_that_fails_and_not_an_answer() {
    let (here, there) = two_envoys();
    here.redis.replace_log();
    assert!(is_good(&there, "meanwhile"));
    assert_eq!(logout(&here, json!({"sid": "meanwhile", "jti": "m"})).status, 400, "it is not complete");
    assert!(!is_good(&here, "meanwhile"), "but counts here");
    sleep(&there, 7);
    assert!(is_good(&there, "meanwhile"), "as documented for an Envoy that can't read");
    assert_eq!(there.said("Error revocation stream can't be read"), 1);
    assert!(there.said("WRONGTYPE") >= 1 && counted(&there, LogRead::Failed) > 5);
    here.redis.drop_log();
    sleep(&here, 6);
    there.host.advance(here.host.now().duration_since(there.host.now()));
    sleep(&there, 1);
    assert!(!is_good(&there, "meanwhile") && is_heard_of(&here, &there, "next"));
}

/// After a long time without a read, the stream is read from its start, because it may have been replaced.
#[test]
fn f1001_a_log_that_could_not_be_read_for_long_is_read_from_its_beginning() {
    let (here, there) = two_envoys();
    there.redis.refuse(b"XREVRANGE");
    sleep(&there, 7);
    // Meanwhile the stream was replaced by one with an older entry that nobody has read.
    let old = millis(&here) - 600_000;
    here.redis.drop_log();
    here.redis.poison_log((old, 0), &entry(&Revocation::provider_session(ISSUER, &"old".into())));
    here.redis.poison_log((millis(&here) + 30_000, 0), &junk());
    there.redis.refuse_nothing();
    sleep(&there, 1);
    assert!(!is_good(&there, "old"));
    assert_eq!(there.said("can be read again: reading it from the start"), 1);
}

#[test]
fn f1001_any_number_of_entries_that_are_no_endings_hides_none() {
    let (here, there) = two_envoys();
    let now = millis(&here);
    let junk = [
        junk(),
        vec![b"e".to_vec(), vec![b'x'; 1000]],
        vec![b"e".to_vec(), base64url([b'u'; 24]).into_bytes()],
        vec![b"f".to_vec(), base64url(Revocation::missed().encode()).into_bytes()],
        vec![b"e".to_vec(), b"".to_vec(), b"e".to_vec(), b"".to_vec()],
    ];
    for (number, fields) in junk.iter().cycle().take(10_000).enumerate() {
        here.redis.poison_log((now + 5000, number as u64), fields);
    }
    here.redis.poison_log((now + 5001, 0), &vec![b"x".to_vec(); 100_000]);
    assert!(is_heard_of(&here, &there, "next"));
    assert!(here.is_in());
}

/// Anybody who can write to Redis can sign users out, but not for ever.
#[test]
fn f1001_an_ending_of_the_far_future_reaches_ten_minutes_ahead_at_most() {
    let (here, there) = two_envoys();
    let never = Timestamp::from_millis(u64::MAX);
    here.redis.poison_log((millis(&here) + 5000, 0), &entry(&Revocation::everyone(ISSUER, never)));
    here.redis.poison_log((millis(&here) + 5000, 1), &entry(&Revocation::user(ISSUER, &"s-1".into(), never)));
    sleep(&there, 1);
    assert!(!is_good(&there, "x"), "what is issued now");
    there.host.advance(Duration::from_secs(602));
    forwarded(there.bearer(json!({"sid": "x"})));
}

/// The Envoy has just started, and Redis' health check is not complete, or Redis starts later. A revoked token must not
/// be accepted meanwhile.
#[test]
fn f1005_the_first_requests_wait_for_a_read_of_the_log_that_succeeds() {
    let here = World::signed_in();
    assert_eq!(logout(&here, json!({"sid": "gone", "jti": "gone"})).status, 200);
    let token = here.provider.access_token(here.now(), json!({"sid": "gone"}));
    let authorization = format!("Bearer {token}");
    let starting = here.other_envoy();
    let _other_worker = starting.other_worker();
    starting.redis.set_down(Some(CalloutError::NotSent));
    let redis = starting.redis.clone();
    starting.host.spawn_after(Duration::from_secs(3), move || redis.set_down(None));
    let begin = starting.host.now();
    assert_eq!(replied(starting.send("GET", "/", &[("authorization", &authorization)])).status, 401);
    let waited = starting.host.now().duration_since(begin);
    assert!((3000..3500).contains(&waited.as_millis()), "{waited:?}: tried again at once");
    assert!((15..=60).contains(&counted(&starting, LogRead::Failed)), "and not all the time");
}

#[test]
fn f1005_a_redis_that_stays_away_holds_requests_up_once_and_for_five_seconds_at_most() {
    let here = World::signed_in();
    let starting = here.other_envoy();
    starting.redis.set_down(Some(CalloutError::NotSent));
    let waited = |changes| {
        let begin = starting.host.now();
        forwarded(starting.bearer(changes));
        starting.host.now().duration_since(begin)
    };
    let first = waited(json!({"sid": "a"}));
    assert!((4900..5300).contains(&first.as_millis()), "{first:?}");
    assert_eq!(starting.said("could not be read since the start"), 1);
    assert!(waited(json!({"sid": "b"})) < Duration::from_millis(100));
    starting.redis.set_down(None);
    assert!(is_heard_of(&here, &starting, "next"));
}

/// A first read that fails halfway does not count.
#[test]
fn f1005_half_a_first_read_is_none() {
    let here = World::signed_in();
    for number in 0..600 {
        let revocation = Revocation::provider_session(ISSUER, &format!("sid-of-{number}").as_str().into());
        here.redis.poison_log((millis(&here), number), &entry(&revocation));
    }
    let starting = here.other_envoy();
    starting.redis.fail_reads_after(1);
    let redis = starting.redis.clone();
    starting.host.spawn_after(Duration::from_secs(1), move || redis.fail_reads_after(u32::MAX));
    assert!(!is_good(&starting, "sid-of-599"));
}
