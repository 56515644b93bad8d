//! Turns at the token endpoint for callbacks. Anybody can begin a login and come back with a made-up code, so what that
//! costs us and the provider is limited, and renewals of sessions never wait behind it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::caller::Caller;
use crate::host::Host;
use crate::limit::{FairLimit, Pass, Rate};
use crate::sync::{Event, Room, within};

/// Most code exchanges in progress in one worker, and most of them for one address.
const MAX_AT_ONCE: usize = 16;
const MAX_OF_ONE: usize = 8;
/// Most callbacks that wait for a slot.
const MAX_WAITING: usize = 64;

/// The code exchanges of one worker.
pub struct Exchanges {
    limit: FairLimit,
    under_way: RefCell<Vec<Caller>>,
    waiting: Room,
    ended: Event,
}

/// Permission for one exchange. Dropping it frees the slot.
pub struct Turn {
    pass: Option<Pass>,
    slot: Slot,
}

impl Exchanges {
    /// `rate` limits codes that the provider does not accept.
    pub fn new(rate: Rate) -> Rc<Self> {
        Rc::new(Self {
            limit: FairLimit::new(rate),
            under_way: RefCell::default(),
            waiting: Room::new(MAX_WAITING),
            ended: Event::default(),
        })
    }

    /// Waits for a slot. `None` if the limit of this caller or of all callers is used up, or no slot becomes free
    /// within `patience`.
    pub async fn turn(self: &Rc<Self>, host: &dyn Host, caller: Caller, patience: Duration) -> Option<Turn> {
        let pass = self.limit.take(caller, host.now())?;
        match self.slot(host, caller.address(), patience).await {
            Some(slot) => Some(Turn { pass: Some(pass), slot }),
            None => {
                self.limit.give_back(pass);
                None
            }
        }
    }

    async fn slot(self: &Rc<Self>, host: &dyn Host, address: Caller, patience: Duration) -> Option<Slot> {
        if let Some(slot) = self.free(address) {
            return Some(slot);
        }
        let _place = self.waiting.take()?;
        let freed = async {
            loop {
                let ended = self.ended.next();
                if let Some(slot) = self.free(address) {
                    return slot;
                }
                ended.await;
            }
        };
        within(host, patience, freed).await
    }

    fn free(self: &Rc<Self>, address: Caller) -> Option<Slot> {
        let mut under_way = self.under_way.borrow_mut();
        let of_one = under_way.iter().filter(|other| **other == address).count();
        if under_way.len() >= MAX_AT_ONCE || of_one >= MAX_OF_ONE {
            return None;
        }
        under_way.push(address);
        Some(Slot { exchanges: self.clone(), address })
    }
}

impl Turn {
    /// The provider accepted the code, so the caller is legitimate and gets its pass back.
    pub fn accepted(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.slot.exchanges.limit.recognise(pass);
        }
    }
}

/// One exchange in progress.
struct Slot {
    exchanges: Rc<Exchanges>,
    address: Caller,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut under_way = self.exchanges.under_way.borrow_mut();
        if let Some(at) = under_way.iter().position(|other| *other == self.address) {
            under_way.swap_remove(at);
        }
        drop(under_way);
        self.exchanges.ended.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::testing::TestHost;
    use crate::testing::test;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn exchanges() -> Rc<Exchanges> {
        Exchanges::new(Rate { burst: 4000, per_second: 8 })
    }

    fn caller(address: &str) -> Caller {
        Caller::parse(address.as_bytes())
    }

    #[test]
    fn f902_one_address_has_half_of_what_is_under_way_and_its_next_turn_when_one_has_ended() {
        let (host, exchanges) = (TestHost::new(), exchanges());
        let turn = |address: &str| host.run(exchanges.turn(&*host, caller(address), PATIENCE));
        let mut of_one: Vec<Turn> = (0..MAX_OF_ONE).map(|_| turn("192.0.2.1:1").expect("a turn")).collect();
        assert!(turn("192.0.2.1:2").is_none(), "it has as many as it gets");
        let of_others: Vec<Turn> =
            (2..10).map(|n| turn(&format!("192.0.2.{n}:1")).expect("a turn")).collect();
        assert!(turn("192.0.2.99:1").is_none(), "all turns are taken");
        of_one.pop();
        assert!(turn("192.0.2.99:1").is_some());
        drop(of_others);
        drop(of_one);
        assert!(exchanges.under_way.borrow().is_empty());
        // A caller that got no turn used up no limit.
        assert!((0..900).all(|_| turn("192.0.2.1:1").is_some_and(|mut turn| {
            turn.accepted();
            true
        })));
    }

    #[test]
    fn f902_who_waits_gets_the_next_turn_and_only_so_many_wait() {
        let (host, exchanges) = (TestHost::new(), exchanges());
        let took = Rc::new(Cell::new(0));
        let refused = Rc::new(Cell::new(0));
        for number in 0..200 {
            let (job, exchanges) = (host.clone(), exchanges.clone());
            let (took, refused) = (took.clone(), refused.clone());
            host.spawn(Box::pin(async move {
                let address = caller(&format!("10.0.{number}.1:1"));
                let Some(turn) = exchanges.turn(&*job, address, Duration::from_secs(1)).await else {
                    return refused.set(refused.get() + 1);
                };
                took.set(took.get() + 1);
                assert!(exchanges.under_way.borrow().len() <= MAX_AT_ONCE);
                job.sleep(Duration::from_millis(20)).await;
                drop(turn);
            }));
        }
        host.run(host.clone().sleep_for(Duration::from_secs(2)));
        assert_eq!((took.get(), refused.get()), (MAX_AT_ONCE + MAX_WAITING, 200 - MAX_AT_ONCE - MAX_WAITING));
        let places: Vec<_> = std::iter::from_fn(|| exchanges.waiting.take()).collect();
        assert_eq!(places.len(), MAX_WAITING, "nobody waits any more");
    }
}
