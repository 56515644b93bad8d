//! The cost of strangers: nothing if the gate can reject their credentials itself, and otherwise no more than the
//! limit.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::{Ledger, Rule};
use crate::client::flood::MADE_UP;
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::world::{CALLBACKS, UNKNOWN_TICKETS, World};

/// The prefix of a session's key in Redis.
const SESSION_KEY: &[u8] = b"mlflow:s:";
/// 43 base64url characters follow.
const NAME_LEN: usize = 43;

/// The credentials that strangers sent, and their cost.
#[derive(Default)]
pub(super) struct Strangers {
    forged: RefCell<BTreeSet<String>>,
    guessed: RefCell<BTreeSet<String>>,
    looked_for: RefCell<BTreeMap<WorkerId, u64>>,
    exchanged: RefCell<BTreeMap<WorkerId, u64>>,
    /// A worker that starts has full limits and knows no addresses.
    starts: RefCell<BTreeMap<WorkerId, u64>>,
}

impl Ledger {
    /// Somebody sends a ticket with this record name that the gate can reject itself.
    pub fn forged(&self, name: &str) {
        self.strangers.forged.borrow_mut().insert(name.to_owned());
    }

    /// Somebody sends a ticket with this record name that only Redis can verify.
    pub fn guessed(&self, name: &str) {
        self.strangers.guessed.borrow_mut().insert(name.to_owned());
    }

    /// A worker starts again.
    pub(super) fn worker_starts(&self, worker: WorkerId) {
        *self.strangers.starts.borrow_mut().entry(worker).or_default() += 1;
    }

    /// A worker sends a request to Redis.
    pub fn asks_redis(&self, world: &World, from: WorkerId, body: &[u8], now: Moment) {
        let strangers = &self.strangers;
        if strangers.forged.borrow().is_empty() && strangers.guessed.borrow().is_empty() {
            return;
        }
        let Some(at) = body.windows(SESSION_KEY.len()).position(|window| window == SESSION_KEY) else {
            return;
        };
        let name = body.get(at + SESSION_KEY.len()..).and_then(|rest| rest.get(..NAME_LEN));
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        if strangers.forged.borrow().contains(&*name) {
            self.violate(Rule::StrangersCostLittle, now, format!("{from} asks Redis about a forged ticket"));
        }
        if strangers.guessed.borrow().contains(&*name) {
            self.cost(world, &strangers.looked_for, from, UNKNOWN_TICKETS, now, "unknown tickets looked for");
        }
    }

    /// A worker sends a request to the provider.
    pub fn asks_provider(&self, world: &World, from: WorkerId, body: &[u8], now: Moment) {
        if body.windows(MADE_UP.len()).any(|window| window == MADE_UP.as_bytes()) {
            self.cost(world, &self.strangers.exchanged, from, CALLBACKS, now, "made-up codes presented");
        }
    }

    /// Counts one request. All strangers come from one network, which may use half of the limit.
    fn cost(
        &self,
        world: &World,
        counts: &RefCell<BTreeMap<WorkerId, u64>>,
        from: WorkerId,
        (burst, per_second): (u32, u32),
        now: Moment,
        what: &str,
    ) {
        let mut counts = counts.borrow_mut();
        let count = counts.entry(from).or_default();
        *count += 1;
        let lives = self.strangers.starts.borrow().get(&from).copied().unwrap_or_default() + 1;
        let seconds = now.micros() / 1_000_000 + 1;
        let most = (u64::from(burst) * lives + u64::from(per_second) * seconds) / 2 + 1;
        // A clock that jumps ahead refills the limit.
        if *count > most && world.faults.clocks_were_right() {
            let what = format!("{from}: {count} {what}, and {most} may be");
            self.violate(Rule::StrangersCostLittle, now, what);
        }
    }
}
