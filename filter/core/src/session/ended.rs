//! Sessions that ended on this Envoy, told to all its workers at once through shared data, so that none of them goes on
//! answering from its cache.

use std::cell::Cell;
use std::rc::Rc;

use crate::host::Host;

/// Endings that are remembered; more than ever happen between two requests of one worker.
const KEPT: usize = 64;
/// How often a write is tried again when another worker wrote first.
const TRIES: u32 = 8;

/// A ticket's fingerprint.
pub type Fingerprint = [u8; 32];

/// The list of endings, as one worker sees it.
pub struct Ended {
    host: Rc<dyn Host>,
    key: String,
    seen: Cell<u64>,
}

/// What ended since the worker last looked.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// These.
    Ended(Vec<Fingerprint>),
    /// More than the list holds: anything may have.
    TooMany,
}

impl Ended {
    /// `tenant` keeps apart what has nothing to do with each other.
    pub fn new(host: Rc<dyn Host>, tenant: &str) -> Self {
        Self { host, key: format!("oidc-gate.ended.{tenant}"), seen: Cell::default() }
    }

    /// Tells everybody that a session ended.
    pub fn add(&self, fingerprint: &Fingerprint) {
        for _ in 0..TRIES {
            if self.host.shared_get(&self.key).is_none() {
                // Compare-and-swap needs something to compare with.
                let _ = self.host.shared_set(&self.key, &encode(0, &[]), None);
            }
            let Some((bytes, version)) = self.host.shared_get(&self.key) else { return };
            let (count, mut entries) = decode(&bytes);
            entries.push(*fingerprint);
            let surplus = entries.len().saturating_sub(KEPT);
            entries.drain(..surplus);
            if self
                .host
                .shared_set(&self.key, &encode(count.wrapping_add(1), &entries), Some(version))
                .is_ok()
            {
                return;
            }
        }
    }

    /// What ended since this was last asked.
    pub fn news(&self) -> News {
        let Some((bytes, _)) = self.host.shared_get(&self.key) else { return News::Ended(Vec::new()) };
        let (count, entries) = decode(&bytes);
        let new = usize::try_from(count.wrapping_sub(self.seen.replace(count))).unwrap_or(usize::MAX);
        match entries.len().checked_sub(new).and_then(|first| entries.get(first..)) {
            Some(latest) => News::Ended(latest.to_vec()),
            None => News::TooMany,
        }
    }

    /// Whether this session is among the latest endings.
    pub fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.host.shared_get(&self.key).is_some_and(|(bytes, _)| decode(&bytes).1.contains(fingerprint))
    }
}

/// How many there ever were, then the latest, oldest first.
fn encode(count: u64, entries: &[Fingerprint]) -> Vec<u8> {
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.extend(entries.iter().flatten());
    bytes
}

fn decode(bytes: &[u8]) -> (u64, Vec<Fingerprint>) {
    match bytes.split_first_chunk::<8>() {
        Some((count, rest)) => (u64::from_be_bytes(*count), rest.as_chunks::<32>().0.to_vec()),
        None => (0, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_worker_hears_of_every_ending_once() {
        let host = TestHost::new();
        let [one, other] = [(); 2].map(|()| Ended::new(host.clone(), "t"));
        assert_eq!(one.news(), News::Ended(vec![]));
        one.add(&[1; 32]);
        other.add(&[2; 32]);
        assert_eq!(one.news(), News::Ended(vec![[1; 32], [2; 32]]));
        assert_eq!(one.news(), News::Ended(vec![]));
        assert_eq!(other.news(), News::Ended(vec![[1; 32], [2; 32]]));
        assert!(other.contains(&[1; 32]) && !other.contains(&[3; 32]));
        assert!(!Ended::new(host, "another").contains(&[1; 32]));
    }

    #[test]
    fn whoever_misses_too_many_is_told_so() {
        let host = TestHost::new();
        let ended = Ended::new(host.clone(), "t");
        for number in 0..=u8::try_from(KEPT).unwrap() {
            ended.add(&[number; 32]);
        }
        assert_eq!(ended.news(), News::TooMany);
        assert_eq!(ended.news(), News::Ended(vec![]));
        assert!(host.shared_get("oidc-gate.ended.t").unwrap().0.len() <= 8 + KEPT * 32, "bounded");
    }
}
