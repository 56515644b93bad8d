//! An Envoy: its clock, the data that its workers share, and the workers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use oidc_gate_core::host::CasMismatch;

use crate::worker::Worker;

/// Identifies a worker of an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    /// The Envoy's index.
    pub envoy: usize,
    /// The worker's index.
    pub worker: usize,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.envoy, self.worker)
    }
}

/// One Envoy.
pub struct Envoy {
    /// Its workers, each with a gate.
    pub workers: Vec<Worker>,
    shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    next_cas: Cell<u32>,
    /// The difference of its wall clock from the true one, in milliseconds.
    offset: Cell<i64>,
    healthy_offset: i64,
}

impl Envoy {
    /// An Envoy without a running worker.
    pub fn new(envoy: usize, workers: usize, offset: i64) -> Self {
        Self {
            workers: (0..workers).map(|worker| Worker::new(WorkerId { envoy, worker })).collect(),
            shared: RefCell::default(),
            next_cas: Cell::new(1),
            offset: Cell::new(offset),
            healthy_offset: offset,
        }
    }

    /// Moves the wall clock by this much from its initial offset.
    pub fn step_clock(&self, millis: i64) {
        self.offset.set(self.healthy_offset + millis);
    }

    /// Restores the wall clock's initial offset.
    pub fn repair_clock(&self) {
        self.offset.set(self.healthy_offset);
    }

    /// Whether the wall clock has its initial offset.
    pub fn clock_is_right(&self) -> bool {
        self.offset.get() == self.healthy_offset
    }

    /// Clears the shared data, as a restart does.
    pub fn forget(&self) {
        self.shared.borrow_mut().clear();
    }

    /// The difference of its wall clock from the true one, in milliseconds.
    pub fn clock_offset(&self) -> i64 {
        self.offset.get()
    }

    /// Shared data with its compare-and-swap number.
    pub fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.shared.borrow().get(key).cloned()
    }

    /// Like proxy-wasm: number 0 overwrites any version, and any number writes a key that does not exist.
    ///
    /// # Errors
    /// Another worker wrote first.
    pub fn shared_set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        let mut shared = self.shared.borrow_mut();
        if let Some((_, current)) = shared.get(key)
            && cas != 0
            && cas != *current
        {
            return Err(CasMismatch);
        }
        let next = self.next_cas.get();
        // Skip 0 after an overflow.
        self.next_cas.set(next.checked_add(1).unwrap_or(1));
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_and_swap_is_that_of_proxy_wasm() {
        let envoy = Envoy::new(0, 1, 0);
        assert_eq!(envoy.shared_set("k", b"1", 77), Ok(()), "a key that is not there takes any number");
        let cas = envoy.shared.borrow()["k"].1;
        assert_eq!(envoy.shared_set("k", b"2", cas + 1), Err(CasMismatch));
        assert_eq!(envoy.shared_set("k", b"2", cas), Ok(()));
        assert_eq!(envoy.shared_set("k", b"3", cas), Err(CasMismatch), "every write makes a new number");
        assert_eq!(envoy.shared_set("k", b"4", 0), Ok(()), "0 asks for nothing");
        envoy.forget();
        assert!(envoy.shared.borrow().is_empty());
    }
}
