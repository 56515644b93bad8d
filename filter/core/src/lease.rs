//! A lease in the data that the workers of one Envoy share: one of them does the work, the others wait. The lease
//! expires, so a worker that dies does not keep it.

use std::rc::Rc;
use std::time::Duration;

use crate::host::{Host, shared_or};
use crate::time::Timestamp;

/// The right of one worker to do a task. A pause can follow before the next one gets it.
pub struct Lease {
    host: Rc<dyn Host>,
    key: String,
}

impl Lease {
    /// A lease under this key of the shared data.
    pub fn new(host: Rc<dyn Host>, key: String) -> Self {
        Self { host, key }
    }

    /// Takes the lease for at most `longest`. Fails if another worker holds it, or during the pause after it was
    /// released.
    pub fn take(&self, longest: Duration) -> bool {
        let now = self.host.now();
        let Some((bytes, version)) = shared_or(&*self.host, &self.key, b"0") else { return false };
        let until = parse(&bytes);
        // If the clock was set back, the lease must not last longer than it was granted for.
        if now < until && until.duration_since(now) <= longest {
            return false;
        }
        let until = now.saturating_add(longest).as_millis().to_string();
        self.host.shared_set(&self.key, until.as_bytes(), Some(version)).is_ok()
    }

    /// Releases the lease. No worker gets it for another `pause`.
    pub fn release_after(&self, pause: Duration) {
        let until = self.host.now().saturating_add(pause).as_millis().to_string();
        let _ = self.host.shared_set(&self.key, until.as_bytes(), None);
    }
}

fn parse(bytes: &[u8]) -> Timestamp {
    let millis = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    Timestamp::from_millis(millis.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;
    use crate::testing::test;

    const LONGEST: Duration = Duration::from_secs(3);

    #[test]
    fn one_worker_has_it_until_it_is_given_back_or_its_time_is_over() {
        let host = TestHost::new();
        let [one, other] = [(); 2].map(|()| Lease::new(host.clone(), "lease".into()));
        assert!(one.take(LONGEST) && !other.take(LONGEST) && !one.take(LONGEST));
        one.release_after(Duration::from_millis(500));
        assert!(!other.take(LONGEST), "put off");
        host.advance(Duration::from_millis(500));
        assert!(other.take(LONGEST));
        host.advance(LONGEST);
        assert!(one.take(LONGEST), "its holder is gone");
    }
}
