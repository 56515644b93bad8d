//! Durations with their defaults and bounds, in one place for the checks, the schema and the test of the documentation.

use std::time::Duration;

use crate::config::error::Reported;
use crate::config::field::Field;
use crate::config::scalar::Span;

/// Default and bounds of one duration. Both bounds are allowed values.
#[derive(Clone, Copy)]
pub(in crate::config) struct Timing {
    pub(in crate::config) default: Option<Duration>,
    least: Duration,
    most: Duration,
}

impl Timing {
    const fn new(default: Duration, least: Duration, most: Duration) -> Self {
        Self { default: Some(default), least, most }
    }

    /// The duration, or its default.
    pub(super) fn read(self, field: Field<'_, Span>) -> Result<Duration, Reported> {
        Ok(self.read_optional(field)?.or(self.default).unwrap_or_default())
    }

    /// The duration, if there is one.
    pub(super) fn read_optional(self, field: Field<'_, Span>) -> Result<Option<Duration>, Reported> {
        field.optional(|Span(duration), place| {
            if duration < self.least || duration > self.most {
                let found = humantime::format_duration(duration);
                return Err(place.refuse(format!("must be {}, is {found}", self.range())));
            }
            Ok(duration)
        })
    }

    /// `30s to 1day`.
    pub(in crate::config) fn range(self) -> String {
        let [least, most] = [self.least, self.most].map(humantime::format_duration);
        format!("{least} to {most}")
    }
}

/// The durations that can be configured.
pub(in crate::config) mod limits {
    use std::time::Duration;

    use crate::config::validate::timing::Timing;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const DAY: Duration = secs(24 * 60 * 60);
    const MONTH: Duration = secs(30 * 24 * 60 * 60);
    /// The length of a year in humantime.
    const YEAR: Duration = secs(31_557_600);

    pub(in crate::config) const ISSUER_TIMEOUT: Timing =
        Timing::new(secs(5), Duration::from_millis(100), secs(60));
    pub(in crate::config) const STARTUP_WAIT: Timing = Timing::new(secs(5), secs(0), secs(60));
    pub(in crate::config) const REFRESH_INTERVAL: Timing = Timing::new(secs(300), secs(30), DAY);
    pub(in crate::config) const MAX_STALE: Timing = Timing::new(DAY, secs(60), secs(7 * 24 * 60 * 60));
    pub(in crate::config) const LOGIN_TIMEOUT: Timing = Timing::new(secs(600), secs(30), secs(600));
    pub(in crate::config) const IDLE_TIMEOUT: Timing = Timing::new(secs(3600), secs(1), MONTH);
    pub(in crate::config) const ABSOLUTE_TIMEOUT: Timing = Timing::new(secs(12 * 3600), secs(1), MONTH);
    pub(in crate::config) const CACHE_TTL: Timing = Timing::new(secs(5), secs(0), secs(60));
    pub(in crate::config) const REDIS_TIMEOUT: Timing =
        Timing::new(secs(2), Duration::from_millis(10), secs(30));
    pub(in crate::config) const MAX_LIFETIME: Timing = Timing { default: None, least: secs(1), most: YEAR };
    pub(in crate::config) const REFRESH_AHEAD: Timing = Timing::new(secs(30), secs(0), secs(3600));
    pub(in crate::config) const CHECK_INTERVAL: Timing = Timing { default: None, least: secs(1), most: DAY };
    /// A longer leeway would accept expired tokens rather than compensate for clocks.
    pub(in crate::config) const CLOCK_LEEWAY: Timing = Timing::new(secs(60), secs(0), secs(300));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::config::setting::Setting;
    use crate::testing::test;

    fn read(timing: Timing, setting: Setting<Span>) -> Result<Duration, String> {
        checked(|place| timing.read(Field { setting, place: place.clone() }))
    }

    #[test]
    fn bounds_belong_to_the_range_and_are_named() {
        let timing = limits::REFRESH_INTERVAL;
        for secs in [30, 300, 24 * 60 * 60] {
            let duration = Duration::from_secs(secs);
            assert_eq!(read(timing, Setting::Given(Span(duration))), Ok(duration));
        }
        let below = Span(Duration::from_millis(29_999));
        let expected = "here: must be 30s to 1day, is 29s 999ms";
        assert_eq!(read(timing, Setting::Given(below)), Err(expected.to_owned()));
        assert!(read(timing, Setting::Given(Span(Duration::from_secs(24 * 60 * 60 + 1)))).is_err());
    }

    #[test]
    fn absent_means_the_default() {
        assert_eq!(read(limits::CLOCK_LEEWAY, Setting::Absent), Ok(Duration::from_secs(60)));
    }

    #[test]
    fn it28_the_leeway_is_five_minutes_at_most() {
        assert_eq!(limits::CLOCK_LEEWAY.range(), "0s to 5m");
    }
}
