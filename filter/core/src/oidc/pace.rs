//! When the provider may be asked again after a failure: one schedule for all workers of an Envoy, in shared data.
//!
//! The pause starts at 1 s and doubles up to 30 s, with jitter, so that a provider that is down is left alone. While a
//! request waits that can't be answered without the provider, the next try follows after [`AWAITED_PAUSE`], once for
//! the whole Envoy.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Outlook, Trouble};
use crate::host::Host;
use crate::time::Timestamp;

/// The pause after the first failure. It doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The pause while a request waits that cannot be answered without the provider. It bounds the delay after the
/// provider's recovery to a second.
pub const AWAITED_PAUSE: Duration = Duration::from_millis(900);
/// How often the same problem is logged.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The last try, if it failed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Failure {
    /// When it failed.
    pub failed: Timestamp,
    /// Before this time, only a waiting request causes the next try.
    next: Timestamp,
    /// How many tries in a row have failed.
    count: u32,
    lasting: bool,
    detail: String,
    /// When this problem was last logged.
    said: Timestamp,
}

/// The reason for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A request waits for it, or a worker has just started.
    Awaited,
    /// The periodic refresh.
    Background,
}

impl Failure {
    /// Whether the next try is allowed now.
    pub fn allows(&self, now: Timestamp, urgency: Urgency) -> bool {
        // A clock that was set back must not delay it.
        if self.failed > now || self.next.duration_since(now) > MAX_PAUSE.saturating_mul(2) {
            return true;
        }
        let awaited = urgency == Urgency::Awaited && now >= self.failed.saturating_add(AWAITED_PAUSE);
        now >= self.next || awaited
    }

    /// The problem.
    pub fn trouble(&self) -> Trouble {
        let outlook = if self.lasting { Outlook::Lasting } else { Outlook::Passing };
        Trouble { detail: self.detail.as_str().into(), outlook }
    }
}

/// The retry schedule of one provider.
pub struct Pace {
    host: Rc<dyn Host>,
    key: String,
}

impl Pace {
    /// `key` is the key in the shared data.
    pub fn new(host: Rc<dyn Host>, key: String) -> Self {
        Self { host, key }
    }

    /// The last try of any worker, if it failed, and its version in the shared data.
    pub fn last(&self) -> Option<(Failure, u32)> {
        let (bytes, version) = self.host.shared_get(&self.key)?;
        Some((serde_json::from_slice(&bytes).ok()?, version))
    }

    /// Records a failure. True if it should be logged: it is a different problem, or was not logged lately.
    pub fn failed(&self, trouble: &Trouble) -> bool {
        let now = self.host.now();
        let last = self.last().map(|(last, _)| last);
        let count = last.as_ref().map_or(1, |last| last.count.saturating_add(1));
        let say = last.as_ref().is_none_or(|last| {
            *last.detail != *trouble.detail || now.duration_since(last.said) >= SAY_AGAIN || last.said > now
        });
        let pause = FIRST_PAUSE.saturating_mul(1 << count.saturating_sub(1).min(5)).min(MAX_PAUSE);
        let failure = Failure {
            failed: now,
            next: now.saturating_add(self.jittered(pause)),
            count,
            lasting: trouble.outlook == Outlook::Lasting,
            detail: trouble.detail.to_string(),
            said: if say { now } else { last.map_or(now, |last| last.said) },
        };
        if let Ok(bytes) = serde_json::to_vec(&failure) {
            let _ = self.host.shared_set(&self.key, &bytes, None);
        }
        say
    }

    /// Records a success.
    pub fn succeeded(&self) {
        if self.last().is_some() {
            let _ = self.host.shared_set(&self.key, b"", None);
        }
    }

    /// Between three and five quarters of the pause, so that Envoys that lost the provider together do not return
    /// together.
    fn jittered(&self, pause: Duration) -> Duration {
        let mut byte = [128];
        // Without randomness there is no jitter, which is harmless.
        let _ = self.host.random(&mut byte);
        let quarters = pause.saturating_mul(byte.first().copied().unwrap_or(128).into()).checked_div(510);
        pause.saturating_mul(3).checked_div(4).unwrap_or(pause).saturating_add(quarters.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;
    use crate::testing::test;

    #[test]
    fn f703_the_pause_grows_with_jitter_and_who_waits_is_served_sooner() {
        let host = TestHost::new();
        let [one, other] = [(); 2].map(|()| Pace::new(host.clone(), "pace".into()));
        assert!(one.last().is_none());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            one.failed(&Trouble::passing("away"));
            let (failure, _) = other.last().unwrap();
            let failed = host.now();
            assert!(!failure.allows(failed, Urgency::Awaited));
            assert!(failure.allows(failed.saturating_add(AWAITED_PAUSE), Urgency::Awaited));
            let waits = |millis: &u64| {
                failure.allows(failed.saturating_add(Duration::from_millis(*millis)), Urgency::Background)
            };
            pauses.push((0..60_000).find(waits).unwrap());
            host.advance(Duration::from_secs(60));
        }
        for (pause, seconds) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            assert!((750 * seconds..=1250 * seconds).contains(pause), "{pauses:?}");
        }
        let exact: Vec<u64> = [1, 2, 4, 8, 16, 30, 30, 30].map(|seconds| seconds * 1000).to_vec();
        assert_ne!(pauses, exact, "no jitter");
        one.succeeded();
        assert!(other.last().is_none());
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let host = TestHost::new();
        let pace = Pace::new(host.clone(), "pace".into());
        pace.failed(&Trouble::passing("away"));
        let (failure, _) = pace.last().unwrap();
        assert!(failure.allows(host.now().saturating_sub(Duration::from_secs(3600)), Urgency::Background));
    }

    #[test]
    fn the_same_trouble_is_said_once_a_minute_and_another_one_at_once() {
        let host = TestHost::new();
        let pace = Pace::new(host.clone(), "pace".into());
        let away = Trouble::passing("away");
        assert!(pace.failed(&away) && !pace.failed(&away));
        assert!(pace.failed(&Trouble::lasting("another issuer")));
        assert!(!pace.failed(&Trouble::lasting("another issuer")));
        host.advance(SAY_AGAIN);
        assert!(pace.failed(&Trouble::lasting("another issuer")));
    }
}
