//! What workers of one Envoy tell each other.

use super::*;
use crate::session::ticket::Ticket;
use crate::testing::TestHost;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ISSUER: &str = "https://idp.example";

fn marks(subject: &str, sid: Option<&str>, issued: u64) -> Marks {
    Marks::new(ISSUER, subject, sid, Timestamp::from_secs(issued))
}

#[test]
fn every_worker_hears_of_every_ending_once() {
    let host = TestHost::new();
    let name = Ticket::generate(&*host, &crate::session::ticket::tests::keys()).unwrap().record_name();
    let [one, other] = [(); 2].map(|()| Endings::new(host.clone(), "t", ISSUER));
    assert_eq!(one.catch_up(), Forget::Sessions(vec![]));
    one.announce(&[Ending::session(&name), Ending::provider_session(ISSUER, "sid")]);
    other.announce(&[Ending::changed(&name)]);
    let key = session_key(&name);
    assert_eq!(one.catch_up(), Forget::Sessions(vec![key, key]));
    assert_eq!(one.catch_up(), Forget::Sessions(vec![]));
    assert_eq!(other.catch_up(), Forget::Sessions(vec![key, key]));
    for worker in [&one, &other] {
        assert!(worker.cover(&marks("a", Some("sid"), 1)) && !worker.cover(&marks("a", Some("sid2"), 1)));
        assert!(worker.cover(&marks("b", None, 1).of_session(&name)));
    }
    let stranger = Endings::new(host, "another", ISSUER);
    let _ = stranger.catch_up();
    assert!(!stranger.cover(&marks("a", Some("sid"), 1)), "ss12: another tenant");
}

#[test]
fn lo13_what_was_issued_later_or_to_others_or_by_others_goes_on() {
    let endings = Endings::new(TestHost::new(), "t", ISSUER);
    endings.announce(&[Ending::user(ISSUER, "mona", Timestamp::from_secs(100))]);
    endings.announce(&[Ending::user(ISSUER, "mona", Timestamp::from_secs(50))]);
    let _ = endings.catch_up();
    assert!(endings.cover(&marks("mona", Some("x"), 99)), "the later of two counts");
    assert!(!endings.cover(&marks("mona", Some("x"), 100)));
    assert!(!endings.cover(&marks("lisa", Some("x"), 1)));
    assert!(!endings.cover(&Marks::new("https://other", "mona", None, Timestamp::from_secs(1))));
    endings.announce(&[Ending::everyone(ISSUER, Timestamp::from_secs(200))]);
    let _ = endings.catch_up();
    assert!(endings.cover(&marks("lisa", None, 199)) && !endings.cover(&marks("lisa", None, 200)));
}

#[test]
fn whoever_was_away_for_long_reads_the_whole_list_and_forgets_everything() {
    let host = TestHost::new();
    let [busy, away] = [(); 2].map(|()| Endings::new(host.clone(), "t", ISSUER));
    for number in 0..=RING {
        busy.announce(&[Ending::provider_session(ISSUER, &number.to_string())]);
    }
    assert_eq!(away.catch_up(), Forget::Everything);
    assert!(away.cover(&marks("a", Some("0"), 1)) && away.cover(&marks("a", Some("128"), 1)));
    assert_eq!(away.catch_up(), Forget::Sessions(vec![]));
    assert!(host.shared_get("oidc-gate.endings.t.ring").unwrap().0.len() <= 8 + RING * ENCODED, "bounded");
    busy.announce(&[Ending::missed()]);
    assert_eq!(away.catch_up(), Forget::Everything);
}

#[test]
fn many_endings_at_once_are_known_to_whoever_looks_next() {
    let host = TestHost::new();
    let [busy, away] = [(); 2].map(|()| Endings::new(host.clone(), "t", ISSUER));
    let all = |numbers: std::ops::Range<u32>| -> Vec<Ending> {
        numbers.map(|number| Ending::provider_session(ISSUER, &number.to_string())).collect()
    };
    busy.announce(&[Ending::everyone(ISSUER, Timestamp::from_secs(10))]);
    busy.announce(&all(0..1000));
    assert_eq!(away.catch_up(), Forget::Everything);
    for number in 0..1000 {
        assert!(away.cover(&marks("a", Some(&number.to_string()), 20)), "{number}");
    }
    assert!(away.cover(&marks("a", None, 9)) && !away.cover(&marks("a", None, 10)));
    // One that knows little adds to what is there and takes nothing away.
    let late = Endings::new(host.clone(), "t", ISSUER);
    late.announce(&all(1000..1200));
    let last = Endings::new(host, "t", ISSUER);
    assert_eq!(last.catch_up(), Forget::Everything);
    for number in 0..1200 {
        assert!(last.cover(&marks("a", Some(&number.to_string()), 20)), "{number}");
    }
}

#[test]
fn when_there_are_too_many_it_is_the_oldest_that_every_worker_forgets() {
    let host = TestHost::new();
    let [busy, idle, stale] = [(); 3].map(|()| Endings::new(host.clone(), "t", ISSUER));
    let ending = |number: usize| Ending::provider_session(ISSUER, &number.to_string());
    let knows = |worker: &Endings, number: usize| worker.cover(&marks("a", Some(&number.to_string()), 20));
    let (many, more) = (MAX_KNOWN + 3 * RING, 5 * RING);
    for number in 0..many {
        busy.announce(&[ending(number)]);
        if number == MAX_KNOWN {
            let _ = stale.catch_up();
        }
    }
    // One that begins late, and one that has not looked for a while, announce something themselves, one by one or all
    // at once.
    let batch: Vec<Ending> = (many..many + more).map(ending).collect();
    batch.chunks(1).take(RING).for_each(|one| idle.announce(one));
    stale.announce(&batch[RING..]);
    let late = Endings::new(host, "t", ISSUER);
    for (who, worker) in [("busy", &busy), ("idle", &idle), ("stale", &stale), ("late", &late)] {
        let _ = worker.catch_up();
        let forgotten = (many + more - MAX_KNOWN + RING..many + more).find(|number| !knows(worker, *number));
        assert_eq!(forgotten, None, "{who}");
        assert!(!knows(worker, 0), "{who}: bounded");
    }
}

#[test]
fn what_is_no_ending_is_none() {
    let good = Ending::missed().encode();
    assert_eq!(Ending::decode(&good), Some(Ending::missed()));
    for len in 0..good.len() {
        assert_eq!(Ending::decode(&good[..len]), None);
    }
    assert_eq!(Ending::decode(&[b'x'; ENCODED]), None);
}

/// Whoever can write to Redis can announce anything.
#[test]
fn f1001_made_up_issuers_take_no_place_from_ours() {
    let host = TestHost::new();
    let [one, other] = [(); 2].map(|()| Endings::new(host.clone(), "t", ISSUER));
    let made_up: Vec<Ending> = (0..100)
        .map(|number| Ending::everyone(&format!("https://{number}.example"), Timestamp::from_secs(100)))
        .collect();
    one.announce(&made_up);
    one.announce(&[Ending::everyone(ISSUER, Timestamp::from_secs(200))]);
    let _ = other.catch_up();
    let late = Endings::new(host, "t", ISSUER);
    let _ = late.catch_up();
    for worker in [&one, &other, &late] {
        assert!(worker.cover(&marks("mona", None, 199)) && !worker.cover(&marks("mona", None, 200)));
        assert_eq!(worker.everyone.borrow().len(), 1, "bounded");
    }
}
