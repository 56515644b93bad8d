//! What workers of one Envoy tell each other.

use super::*;
use crate::session::ticket::Ticket;
use crate::testing::TestHost;
use crate::testing::test;

const ISSUER: &str = "https://idp.example";

fn revocation_keys(subject: &str, sid: Option<&str>, issued: u64) -> RevocationKeys {
    RevocationKeys::new(ISSUER, &subject.into(), sid.map(Sid::from).as_ref(), Timestamp::from_secs(issued))
}

fn provider_session(sid: &str) -> Revocation {
    Revocation::provider_session(ISSUER, &sid.into())
}

#[test]
fn every_worker_hears_of_every_ending_once() {
    let host = TestHost::new();
    let name = Ticket::generate(&*host, &crate::session::ticket::tests::keys()).unwrap().record_name();
    let [one, other] = [(); 2].map(|()| Revocations::new(host.clone(), "t", ISSUER));
    assert_eq!(one.catch_up(), Forget::Sessions(vec![]));
    one.announce(&[Revocation::session(&name), provider_session("sid")]);
    other.announce(&[Revocation::changed(&name)]);
    let key = session_id_hash(&name);
    assert_eq!(one.catch_up(), Forget::Sessions(vec![key, key]));
    assert_eq!(one.catch_up(), Forget::Sessions(vec![]));
    assert_eq!(other.catch_up(), Forget::Sessions(vec![key, key]));
    for worker in [&one, &other] {
        assert!(
            worker.is_revoked(&revocation_keys("a", Some("sid"), 1))
                && !worker.is_revoked(&revocation_keys("a", Some("sid2"), 1))
        );
        assert!(worker.is_revoked(&revocation_keys("b", None, 1).of_session(&name)));
    }
    let stranger = Revocations::new(host, "another", ISSUER);
    let _ = stranger.catch_up();
    assert!(!stranger.is_revoked(&revocation_keys("a", Some("sid"), 1)), "ss12: another tenant");
}

#[test]
fn lo13_what_was_issued_later_or_to_others_or_by_others_goes_on() {
    let revocations = Revocations::new(TestHost::new(), "t", ISSUER);
    revocations.announce(&[Revocation::user(ISSUER, &"mona".into(), Timestamp::from_secs(100))]);
    revocations.announce(&[Revocation::user(ISSUER, &"mona".into(), Timestamp::from_secs(50))]);
    let _ = revocations.catch_up();
    assert!(revocations.is_revoked(&revocation_keys("mona", Some("x"), 99)), "the later of two counts");
    assert!(!revocations.is_revoked(&revocation_keys("mona", Some("x"), 100)));
    assert!(!revocations.is_revoked(&revocation_keys("lisa", Some("x"), 1)));
    assert!(!revocations.is_revoked(&RevocationKeys::new(
        "https://other",
        &"mona".into(),
        None,
        Timestamp::from_secs(1)
    )));
    revocations.announce(&[Revocation::everyone(ISSUER, Timestamp::from_secs(200))]);
    let _ = revocations.catch_up();
    assert!(
        revocations.is_revoked(&revocation_keys("lisa", None, 199))
            && !revocations.is_revoked(&revocation_keys("lisa", None, 200))
    );
}

#[test]
fn whoever_was_away_for_long_reads_the_whole_list_and_forgets_everything() {
    let host = TestHost::new();
    let [busy, away] = [(); 2].map(|()| Revocations::new(host.clone(), "t", ISSUER));
    for number in 0..=RING {
        busy.announce(&[provider_session(&number.to_string())]);
    }
    assert_eq!(away.catch_up(), Forget::Everything);
    assert!(
        away.is_revoked(&revocation_keys("a", Some("0"), 1))
            && away.is_revoked(&revocation_keys("a", Some("128"), 1))
    );
    assert_eq!(away.catch_up(), Forget::Sessions(vec![]));
    assert!(host.shared_get("oidc-gate.endings.t.ring").unwrap().0.len() <= 8 + RING * ENCODED, "bounded");
    busy.announce(&[Revocation::missed()]);
    assert_eq!(away.catch_up(), Forget::Everything);
}

#[test]
fn many_endings_at_once_are_known_to_whoever_looks_next() {
    let host = TestHost::new();
    let [busy, away] = [(); 2].map(|()| Revocations::new(host.clone(), "t", ISSUER));
    let all = |numbers: std::ops::Range<u32>| -> Vec<Revocation> {
        numbers.map(|number| provider_session(&number.to_string())).collect()
    };
    busy.announce(&[Revocation::everyone(ISSUER, Timestamp::from_secs(10))]);
    busy.announce(&all(0..1000));
    assert_eq!(away.catch_up(), Forget::Everything);
    for number in 0..1000 {
        assert!(away.is_revoked(&revocation_keys("a", Some(&number.to_string()), 20)), "{number}");
    }
    assert!(
        away.is_revoked(&revocation_keys("a", None, 9)) && !away.is_revoked(&revocation_keys("a", None, 10))
    );
    // A worker that knows little adds to the list and removes nothing.
    let late = Revocations::new(host.clone(), "t", ISSUER);
    late.announce(&all(1000..1200));
    let last = Revocations::new(host, "t", ISSUER);
    assert_eq!(last.catch_up(), Forget::Everything);
    for number in 0..1200 {
        assert!(last.is_revoked(&revocation_keys("a", Some(&number.to_string()), 20)), "{number}");
    }
}

#[test]
fn when_there_are_too_many_it_is_the_oldest_that_every_worker_forgets() {
    let host = TestHost::new();
    let [busy, idle, stale] = [(); 3].map(|()| Revocations::new(host.clone(), "t", ISSUER));
    let revocation = |number: usize| provider_session(&number.to_string());
    let knows = |worker: &Revocations, number: usize| {
        worker.is_revoked(&revocation_keys("a", Some(&number.to_string()), 20))
    };
    let (many, more) = (MAX_KNOWN + 3 * RING, 5 * RING);
    for number in 0..many {
        busy.announce(&[revocation(number)]);
        if number == MAX_KNOWN {
            let _ = stale.catch_up();
        }
    }
    // A worker that starts late, and one that has not caught up for a while. Both announce something, one by one or all
    // at once.
    let batch: Vec<Revocation> = (many..many + more).map(revocation).collect();
    batch.chunks(1).take(RING).for_each(|one| idle.announce(one));
    stale.announce(&batch[RING..]);
    let late = Revocations::new(host, "t", ISSUER);
    for (who, worker) in [("busy", &busy), ("idle", &idle), ("stale", &stale), ("late", &late)] {
        let _ = worker.catch_up();
        let forgotten = (many + more - MAX_KNOWN + RING..many + more).find(|number| !knows(worker, *number));
        assert_eq!(forgotten, None, "{who}");
        assert!(!knows(worker, 0), "{who}: bounded");
    }
}

#[test]
fn what_is_no_ending_is_none() {
    let good = Revocation::missed().encode();
    assert_eq!(Revocation::decode(&good), Some(Revocation::missed()));
    for len in 0..good.len() {
        assert_eq!(Revocation::decode(&good[..len]), None);
    }
    assert_eq!(Revocation::decode(&[b'x'; ENCODED]), None);
}

/// Anybody who can write to Redis can announce anything.
#[test]
fn f1001_made_up_issuers_take_no_place_from_ours() {
    let host = TestHost::new();
    let [one, other] = [(); 2].map(|()| Revocations::new(host.clone(), "t", ISSUER));
    let made_up: Vec<Revocation> = (0..100)
        .map(|number| Revocation::everyone(&format!("https://{number}.example"), Timestamp::from_secs(100)))
        .collect();
    one.announce(&made_up);
    one.announce(&[Revocation::everyone(ISSUER, Timestamp::from_secs(200))]);
    let _ = other.catch_up();
    let late = Revocations::new(host, "t", ISSUER);
    let _ = late.catch_up();
    for worker in [&one, &other, &late] {
        assert!(
            worker.is_revoked(&revocation_keys("mona", None, 199))
                && !worker.is_revoked(&revocation_keys("mona", None, 200))
        );
        assert_eq!(worker.everyone.borrow().len(), 1, "bounded");
    }
}
