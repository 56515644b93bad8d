//! A worker's own memory of sessions and of verified tokens: least recently used goes first, every entry has an end.

use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;

use crate::time::Timestamp;

/// Keyed by a hash of the whole credential.
pub struct Cache<V> {
    entries: LruCache<[u8; 32], (Timestamp, Rc<V>)>,
}

impl<V> Cache<V> {
    /// Holds `capacity` entries at most.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { entries: LruCache::new(capacity) }
    }

    /// The value, while it may still be used.
    pub fn get(&mut self, key: &[u8; 32], now: Timestamp) -> Option<Rc<V>> {
        match self.entries.get(key) {
            Some((until, value)) if now < *until => Some(value.clone()),
            Some(_) => {
                self.entries.pop(key);
                None
            }
            None => None,
        }
    }

    /// Remembers a value until `until`.
    pub fn put(&mut self, key: [u8; 32], value: Rc<V>, until: Timestamp) {
        self.entries.put(key, (until, value));
    }

    /// Forgets one value.
    pub fn remove(&mut self, key: &[u8; 32]) {
        self.entries.pop(key);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn ss10_the_least_recently_used_goes_first_and_nothing_outlives_its_end() {
        let mut cache = Cache::new(NonZeroUsize::new(2).unwrap());
        let at = Timestamp::from_secs;
        cache.put([1; 32], Rc::new('a'), at(10));
        cache.put([2; 32], Rc::new('b'), at(20));
        assert!(cache.get(&[1; 32], at(9)).is_some());
        cache.put([3; 32], Rc::new('c'), at(20));
        assert!(cache.get(&[2; 32], at(9)).is_none(), "evicted");
        assert!(cache.get(&[1; 32], at(10)).is_none(), "ended");
        assert_eq!(cache.get(&[3; 32], at(10)).as_deref(), Some(&'c'));
    }
}
