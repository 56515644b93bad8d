//! Remembers for five seconds which sessions have ended, so that a client that repeats a ticket does not make the gate
//! ask Redis each time.
//!
//! A sign-out with a ticket whose session is gone makes the workers of this Envoy forget what they know of it, because
//! one of them may still have the session in its cache. An Envoy does that at most eight times a second
//! (`FOR_STRANGERS` in `revocation::memory`).

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use lru::LruCache;

use crate::error::SessionEnd;
use crate::time::Timestamp;

/// How long an end is remembered. An ended session never comes back, but a Redis that had lost its data may. Then users
/// should not wait long.
const MEMORY: Duration = Duration::from_secs(5);
/// Most ends that are remembered. The one not asked about for the longest time is dropped.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The ended sessions that one worker remembers.
pub struct Ended(RefCell<LruCache<[u8; 16], Known>>);

struct Known {
    fingerprint: [u8; 32],
    during: Range<Timestamp>,
    end: SessionEnd,
}

impl Default for Ended {
    fn default() -> Self {
        Self(RefCell::new(LruCache::new(MAX_REMEMBERED)))
    }
}

impl Ended {
    /// Remembers that the session of a ticket has ended.
    pub fn remember(&self, session: [u8; 16], fingerprint: [u8; 32], end: SessionEnd, now: Timestamp) {
        let during = now..now.saturating_add(MEMORY);
        self.0.borrow_mut().put(session, Known { fingerprint, during, end });
    }

    /// How the session of a ticket ended, if that was remembered within the last [`MEMORY`].
    pub fn get(&self, session: &[u8; 16], fingerprint: &[u8; 32], now: Timestamp) -> Option<SessionEnd> {
        let mut known = self.0.borrow_mut();
        let found = known.get(session)?;
        (found.fingerprint == *fingerprint && found.during.contains(&now)).then_some(found.end)
    }

    /// Call when a session exists after all.
    pub fn forget(&self, session: &[u8; 16]) {
        self.0.borrow_mut().pop(session);
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn f901_an_end_is_remembered_of_the_whole_ticket_and_for_a_moment() {
        let ended = Ended::default();
        let at = Timestamp::from_secs;
        ended.remember([1; 16], [1; 32], SessionEnd::Unknown, at(100));
        let get = |fingerprint, secs| ended.get(&[1; 16], &[fingerprint; 32], at(secs));
        assert_eq!(get(1, 100), Some(SessionEnd::Unknown));
        assert_eq!(get(1, 104), Some(SessionEnd::Unknown));
        assert_eq!(
            [get(1, 105), get(1, 99), get(2, 100)],
            [None; 3],
            "over, a clock set back, another ticket"
        );
        ended.forget(&[1; 16]);
        assert_eq!(get(1, 100), None);
        for session in 0..10_000u64 {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&session.to_be_bytes());
            ended.remember(name, [0; 32], SessionEnd::Unknown, at(100));
        }
        assert_eq!(ended.0.borrow().len(), MAX_REMEMBERED.get());
        ended.clear();
        assert_eq!(ended.0.borrow().len(), 0);
    }
}
