//! The events of a run in order: always as a hash, and as text only on request.
//!
//! A run is hashed while it runs. If it fails, the same seed runs again with text. Both runs must have the same hash,
//! which also proves that a seed replays exactly.

use std::cell::{Cell, RefCell};

use crate::executor::Moment;

/// Most lines that are kept. Older ones are dropped.
const KEPT: usize = 4000;

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: Cell<u64>,
    events: Cell<u64>,
    lines: Option<RefCell<std::collections::VecDeque<String>>>,
}

/// Whether text is recorded, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Only the hash.
    Hash,
    /// The hash, and the last lines as text.
    Text,
}

impl Trace {
    /// An empty trace.
    pub fn new(detail: Detail) -> Self {
        let lines = (detail == Detail::Text).then(RefCell::default);
        Self { hash: Cell::new(0xcbf2_9ce4_8422_2325), events: Cell::default(), lines }
    }

    /// Records an event. `text` is called only if text is recorded, so it must have no side effects.
    pub fn event(&self, at: Moment, what: &'static str, number: u64, text: impl FnOnce() -> String) {
        let mut hash = self.hash.get();
        let bytes = what.bytes().chain(at.micros().to_le_bytes()).chain(number.to_le_bytes());
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.hash.set(hash);
        self.events.set(self.events.get() + 1);
        if let Some(lines) = &self.lines {
            let mut lines = lines.borrow_mut();
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(format!("{at} {what}: {}", text()));
        }
    }

    /// The hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// The number of events.
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// The recorded text; empty if only the hash is recorded.
    pub fn lines(&self) -> Vec<String> {
        self.lines.as_ref().map(|lines| lines.borrow().iter().cloned().collect()).unwrap_or_default()
    }
}
