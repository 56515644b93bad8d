//! Limits how much unauthenticated clients can make the gate do, and shares the limit fairly: one network gets at most
//! half of the total, one address a quarter. A client that turns out to be legitimate gets back what it used, so the
//! limits need not match the number of users. From then on its address no longer competes with unknown addresses. All
//! proven addresses share a second total of the same size.

use std::cell::RefCell;
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::caller::Caller;
use crate::time::Timestamp;

/// How many addresses, and how many networks, are remembered. The least recently used one is dropped.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// The share of one network and of one address: a half and a quarter.
const NETWORK_SHARE: u64 = 2;
const ADDRESS_SHARE: u64 = 4;
/// Levels are counted in millionths.
const ONE: u64 = 1_000_000;

/// A token bucket: its size, and how fast it is refilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many tries are possible at once after a long pause.
    pub burst: u32,
    /// How many tries are added each second.
    pub per_second: u32,
}

/// A rate that several callers share.
pub struct FairLimit {
    rate: Rate,
    all: RefCell<Bucket>,
    all_proven: RefCell<Bucket>,
    networks: RefCell<LruCache<[u8; 16], Bucket>>,
    addresses: RefCell<LruCache<[u8; 16], Bucket>>,
    /// Addresses from which a legitimate client came.
    proven: RefCell<LruCache<[u8; 16], ()>>,
}

/// Permission for one try.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    caller: Caller,
    taken_from: TakenFrom,
}

/// Which buckets a pass was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenFrom {
    /// Those of the address, its network and all unknown addresses.
    All,
    /// Those of the address and all proven addresses.
    Proven,
}

#[derive(Clone, Copy)]
struct Bucket {
    level: u64,
    filled: Timestamp,
}

impl FairLimit {
    /// A limit with full buckets.
    pub fn new(rate: Rate) -> Self {
        Self {
            all: RefCell::new(rate.full(1)),
            all_proven: RefCell::new(rate.full(1)),
            networks: RefCell::new(LruCache::new(MAX_REMEMBERED)),
            addresses: RefCell::new(LruCache::new(MAX_REMEMBERED)),
            proven: RefCell::new(LruCache::new(MAX_REMEMBERED)),
            rate,
        }
    }

    /// A pass for this caller. `None` if the limit of its address, its network or the total is used up.
    pub fn take(&self, caller: Caller, now: Timestamp) -> Option<Pass> {
        let is_proven = self.proven.borrow_mut().get(&caller.address().key()).is_some();
        let from = if is_proven { TakenFrom::Proven } else { TakenFrom::All };
        self.each(caller, from, |rate, share, bucket| bucket.refill(rate, share, now));
        let mut is_left = true;
        self.each(caller, from, |_, _, bucket| is_left &= bucket.level >= ONE);
        if !is_left {
            return None;
        }
        self.each(caller, from, |_, _, bucket| bucket.level = bucket.level.saturating_sub(ONE));
        Some(Pass { caller, taken_from: from })
    }

    /// Returns a pass that was not used.
    pub fn give_back(&self, Pass { caller, taken_from }: Pass) {
        self.each(caller, taken_from, |rate, share, bucket| {
            bucket.level = bucket.level.saturating_add(ONE).min(rate.most(share));
        });
    }

    /// Returns the pass of a legitimate client, and counts its address as proven from now on.
    pub fn recognise(&self, pass: Pass) {
        self.proven.borrow_mut().put(pass.caller.address().key(), ());
        self.give_back(pass);
    }

    fn each(&self, caller: Caller, from: TakenFrom, mut change: impl FnMut(Rate, u64, &mut Bucket)) {
        let rate = self.rate;
        let mut of = |buckets: &RefCell<LruCache<[u8; 16], Bucket>>, key, share| {
            let mut buckets = buckets.borrow_mut();
            change(rate, share, buckets.get_or_insert_mut(key, || rate.full(share)));
        };
        of(&self.addresses, caller.address().key(), ADDRESS_SHARE);
        if from == TakenFrom::All {
            of(&self.networks, caller.network().key(), NETWORK_SHARE);
            change(rate, 1, &mut self.all.borrow_mut());
        } else {
            change(rate, 1, &mut self.all_proven.borrow_mut());
        }
    }
}

impl Rate {
    fn most(self, share: u64) -> u64 {
        u64::from(self.burst).saturating_mul(ONE).checked_div(share).unwrap_or_default().max(ONE)
    }

    fn full(self, share: u64) -> Bucket {
        Bucket { level: self.most(share), filled: Timestamp::default() }
    }
}

impl Bucket {
    fn refill(&mut self, rate: Rate, share: u64, now: Timestamp) {
        // If the clock was set back, nobody knows how much time has passed: as much as it was set back by.
        let millis = now.as_millis().abs_diff(self.filled.as_millis());
        // Millionths per millisecond.
        let gain =
            u64::from(rate.per_second).saturating_mul(ONE / 1000).checked_div(share).unwrap_or_default();
        self.level = self.level.saturating_add(gain.saturating_mul(millis)).min(rate.most(share));
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use std::time::Duration;

    const RATE: Rate = Rate { burst: 40, per_second: 8 };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_secs(1_767_225_600).saturating_add(Duration::from_millis(millis))
    }

    fn caller(address: &str) -> Caller {
        Caller::parse(address.as_bytes())
    }

    /// How many of the tries get a pass.
    fn passes(limit: &FairLimit, address: &str, now: Timestamp, tries: u32) -> usize {
        (0..tries).filter(|_| limit.take(caller(address), now).is_some()).count()
    }

    #[test]
    fn f902_one_address_gets_a_quarter_one_network_half_and_others_the_rest() {
        let limit = FairLimit::new(RATE);
        assert_eq!(passes(&limit, "192.0.2.1:1", at(0), 1000), 10, "an address");
        assert_eq!(passes(&limit, "192.0.2.2:1", at(0), 1000), 10);
        assert_eq!(passes(&limit, "192.0.2.3:1", at(0), 1000), 0, "the network has had its half");
        assert_eq!(passes(&limit, "198.51.100.1:1", at(0), 1000), 10, "another network");
        assert_eq!(passes(&limit, "[2001:db8::1]:1", at(0), 1000), 10);
        assert_eq!(passes(&limit, "203.0.113.1:1", at(0), 1000), 0, "no more in all");
        // Two of the eight that are added each second.
        assert_eq!(passes(&limit, "192.0.2.1:1", at(500), 1000), 1);
        assert_eq!(passes(&limit, "192.0.2.1:1", at(999), 1000), 0);
        assert_eq!(passes(&limit, "192.0.2.1:1", at(1000), 1000), 1);
    }

    #[test]
    fn f902_however_many_addresses_ask_there_is_no_more_than_the_whole() {
        let limit = FairLimit::new(RATE);
        let mut passed = 0;
        for second in 0..60u64 {
            for network in 0..2000u64 {
                let address = format!("[2001:db8:{network:x}:{second:x}::1]:1");
                passed += passes(&limit, &address, at(second * 1000), 1);
            }
        }
        assert_eq!(passed, 40 + 59 * 8);
        let networks = limit.networks.borrow().len();
        assert_eq!(networks, MAX_REMEMBERED.get(), "what is remembered of them is bounded");
    }

    #[test]
    fn f902_what_is_given_back_is_there_for_the_next() {
        let limit = FairLimit::new(RATE);
        for _ in 0..1000 {
            let pass = limit.take(caller("192.0.2.1:1"), at(0)).expect("the one before was given back");
            limit.give_back(pass);
        }
        assert_eq!(passes(&limit, "192.0.2.1:1", at(0), 1000), 10, "and no more than there was");
    }

    #[test]
    fn f902_an_address_of_somebody_who_signed_in_does_not_compete_with_strangers() {
        let limit = FairLimit::new(RATE);
        let pass = limit.take(caller("192.0.2.1:1"), at(0)).expect("nobody has asked yet");
        limit.recognise(pass);
        for second in 0..60u64 {
            for network in 0..100u64 {
                let _ = passes(&limit, &format!("198.51.{network}.{second}:1"), at(second * 1000), 100);
            }
            assert_eq!(passes(&limit, "192.0.2.1:1", at(second * 1000), 1), 1, "{second}");
            assert_eq!(passes(&limit, "192.0.2.2:1", at(second * 1000), 1), 0, "its neighbour is a stranger");
        }
        assert!(passes(&limit, "192.0.2.1:1", at(60_000), 1000) <= 10, "it has its own share and no more");
        // All addresses of one client that signs in from many of them share the total for proven addresses.
        let addresses: Vec<String> = (0..100).map(|n| format!("[2001:db8:1:{n:x}::1]:1")).collect();
        for address in &addresses {
            let Some(pass) = limit.take(caller(address), at(120_000)) else { continue };
            limit.recognise(pass);
        }
        let passed: usize = addresses.iter().map(|address| passes(&limit, address, at(120_000), 100)).sum();
        assert!(passed <= 2 * 40, "{passed}");
    }

    #[test]
    fn f902_a_clock_that_jumps_gives_no_more_than_a_burst() {
        let limit = FairLimit::new(RATE);
        assert_eq!(passes(&limit, "192.0.2.1:1", at(3_600_000), 1000), 10);
        assert_eq!(passes(&limit, "192.0.2.1:1", at(3_599_500), 1000), 1, "half a second back");
        assert_eq!(
            passes(&limit, "192.0.2.1:1", at(0), 1000),
            10,
            "an hour back: nobody is kept out by that"
        );
        assert_eq!(passes(&limit, "192.0.2.1:1", at(1000), 1000), 2, "and on from there");
        assert_eq!(passes(&limit, "192.0.2.1:1", at(u64::MAX / 2), 1000), 10, "far ahead");
    }
}
