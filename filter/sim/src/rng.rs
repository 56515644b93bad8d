//! The only source of randomness: everything that a seed decides is drawn from here.

use std::cell::Cell;

/// splitmix64: small, fast, and the same everywhere.
#[derive(Debug)]
pub struct Rng(Cell<u64>);

impl Rng {
    /// Starts from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// A separate random stream. What is drawn for one purpose then does not shift what is drawn for another.
    pub fn fork(&self, purpose: &str) -> Self {
        let mut state = self.next();
        for byte in purpose.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        Self::new(state)
    }

    /// A random 64-bit number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        mix(state)
    }

    /// A number from `0` to `end - 1`; zero if `end` is zero.
    pub fn below(&self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// A random index into a list of this length.
    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// A number in the range, both ends included.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True in this many of 1000 cases.
    pub fn permille(&self, cases: u64) -> bool {
        self.below(1000) < cases
    }

    /// A random item.
    ///
    /// # Panics
    /// If the list is empty.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// A random item, unless the list is empty.
    pub fn pick_any<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        (!items.is_empty()).then(|| self.pick(items))
    }

    /// Fills a buffer with random bytes.
    pub fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

const fn mix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
