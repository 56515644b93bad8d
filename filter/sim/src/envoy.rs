//! An Envoy: its clock, the data that its workers share, and the workers.

use std::cell::Cell;
use std::fmt;

use oidc_gate_envoy_model::SharedData;

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
    /// What its workers share. A restart clears it.
    pub shared: SharedData,
    /// The difference of its wall clock from the true one, in milliseconds.
    offset: Cell<i64>,
    healthy_offset: i64,
}

impl Envoy {
    /// An Envoy without a running worker.
    pub fn new(envoy: usize, workers: usize, offset: i64) -> Self {
        Self {
            workers: (0..workers).map(|worker| Worker::new(WorkerId { envoy, worker })).collect(),
            shared: SharedData::default(),
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

    /// The difference of its wall clock from the true one, in milliseconds.
    pub fn clock_offset(&self) -> i64 {
        self.offset.get()
    }
}
