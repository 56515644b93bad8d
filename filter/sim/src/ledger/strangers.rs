//! What strangers may cost: nothing where the gate can tell by itself, and no more than a limit where it can't.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::{Ledger, Rule};
use crate::client::flood::MADE_UP;
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::world::{CALLBACKS, UNKNOWN_TICKETS, World};

/// How a session's key in Redis begins.
const SESSION_KEY: &[u8] = b"mlflow:s:";
/// 43 base64url characters follow.
const NAME_LEN: usize = 43;

/// What strangers sent, and what it has cost.
#[derive(Default)]
pub(super) struct Strangers {
    forged: RefCell<BTreeSet<String>>,
    guessed: RefCell<BTreeSet<String>>,
    looked_for: RefCell<BTreeMap<WorkerId, u64>>,
    exchanged: RefCell<BTreeMap<WorkerId, u64>>,
    /// A worker that starts knows of nobody.
    starts: RefCell<BTreeMap<WorkerId, u64>>,
}

impl Ledger {
    /// Somebody sends a ticket under this name that the gate can tell from its own.
    pub fn forged(&self, name: &str) {
        self.strangers.forged.borrow_mut().insert(name.to_owned());
    }

    /// Somebody sends a ticket under this name that only Redis can tell about.
    pub fn guessed(&self, name: &str) {
        self.strangers.guessed.borrow_mut().insert(name.to_owned());
    }

    /// A worker starts once more.
    pub(super) fn worker_starts(&self, worker: WorkerId) {
        *self.strangers.starts.borrow_mut().entry(worker).or_default() += 1;
    }

    /// A worker asks Redis.
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

    /// A worker asks the provider.
    pub fn asks_provider(&self, world: &World, from: WorkerId, body: &[u8], now: Moment) {
        if body.windows(MADE_UP.len()).any(|window| window == MADE_UP.as_bytes()) {
            self.cost(world, &self.strangers.exchanged, from, CALLBACKS, now, "made-up codes presented");
        }
    }

    /// All strangers come from one network, which gets half of what there is.
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
        // A clock that jumps ahead fills what there is, once more.
        if *count > most && world.faults.clocks_were_right() {
            let what = format!("{from}: {count} {what}, and {most} may be");
            self.violate(Rule::StrangersCostLittle, now, what);
        }
    }
}
