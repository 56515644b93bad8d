//! A worker's own memory of sessions and of verified tokens: least recently used goes first, every entry has an end,
//! and all of them together have a size.

use std::hash::Hash;
use std::ops::Range;
use std::rc::Rc;

use lru::LruCache;

use crate::time::Timestamp;

/// Memory per entry besides its value, in bytes: key, list and table.
const OVERHEAD: usize = 128;

/// A value whose size in memory is known.
pub trait Weigh {
    /// Its approximate size in bytes.
    fn weight(&self) -> usize;
}

/// An LRU cache bounded in bytes.
pub struct Cache<K: Hash + Eq, V> {
    entries: LruCache<K, (Range<Timestamp>, Rc<V>)>,
    latest: Timestamp,
    weight: usize,
    capacity: usize,
}

impl<K: Hash + Eq, V: Weigh> Cache<K, V> {
    /// `capacity` is in bytes.
    pub fn new(capacity: usize) -> Self {
        Self { entries: LruCache::unbounded(), latest: Timestamp::default(), weight: 0, capacity }
    }

    /// The value, if it has not expired. A clock that was set back clears the cache, since the age of its entries is
    /// unknown.
    pub fn get(&mut self, key: &K, now: Timestamp) -> Option<Rc<V>> {
        if now < std::mem::replace(&mut self.latest, now) {
            self.clear();
        }
        let (good, value) = self.entries.get(key)?;
        good.contains(&now).then(|| value.clone())
    }

    /// The value, even if it has expired.
    pub fn stale(&mut self, key: &K) -> Option<Rc<V>> {
        self.entries.get(key).map(|(_, value)| value.clone())
    }

    /// Stores a value for a period of validity.
    pub fn put(&mut self, key: K, value: Rc<V>, good: Range<Timestamp>) {
        self.weight = self.weight.saturating_add(cost(&*value));
        if let Some((_, (_, replaced))) = self.entries.push(key, (good, value)) {
            self.weight = self.weight.saturating_sub(cost(&*replaced));
        }
        while self.weight > self.capacity {
            let Some((_, (_, oldest))) = self.entries.pop_lru() else { return };
            self.weight = self.weight.saturating_sub(cost(&*oldest));
        }
    }

    /// Removes one value.
    pub fn remove(&mut self, key: &K) {
        if let Some((_, value)) = self.entries.pop(key) {
            self.weight = self.weight.saturating_sub(cost(&*value));
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.weight = 0;
    }
}

fn cost(value: &impl Weigh) -> usize {
    value.weight().saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    impl Weigh for &'static str {
        fn weight(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn ss10_the_least_recently_used_goes_first_and_nothing_outlives_its_end() {
        let mut cache = Cache::new(2 * (OVERHEAD + 1));
        let at = Timestamp::from_secs;
        cache.put(1, Rc::new("a"), at(5)..at(10));
        cache.put(2, Rc::new("b"), at(5)..at(20));
        assert!(cache.get(&1, at(9)).is_some());
        cache.put(3, Rc::new("c"), at(5)..at(20));
        assert!(cache.get(&2, at(9)).is_none(), "evicted");
        assert!(cache.get(&1, at(10)).is_none(), "ended");
        assert_eq!(cache.stale(&1).as_deref(), Some(&"a"), "but still known");
        assert_eq!(cache.get(&3, at(10)).as_deref(), Some(&"c"));
        assert!(cache.get(&3, at(9)).is_none(), "the clock was set back");
        assert!(cache.get(&3, at(10)).is_none());
    }

    #[test]
    fn ss10_its_size_counts_bytes_and_not_entries() {
        let mut cache = Cache::new(1000);
        let good = || Timestamp::default()..Timestamp::from_secs(1);
        for key in 0..100 {
            cache.put(key, Rc::new("0123456789"), good());
            cache.put(key, Rc::new("01234"), good());
        }
        assert!(cache.weight <= 1000 && cache.entries.len() == 1000 / (OVERHEAD + 5));
        cache.remove(&99);
        cache.remove(&99);
        let weight: usize = cache.entries.iter().map(|(_, (_, value))| value.len() + OVERHEAD).sum();
        assert_eq!(cache.weight, weight);
        let huge: &'static str = Box::leak("x".repeat(2000).into_boxed_str());
        cache.put(1, Rc::new(huge), good());
        assert!(cache.entries.is_empty() && cache.weight == 0, "too large to be kept");
    }
}
