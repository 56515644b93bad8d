//! The provider's clock.

/// A point in time. Keycloak counts whole seconds in tokens and in "not before".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Since 1970.
    micros: i64,
}

const SECOND: i64 = 1_000_000;

impl Time {
    /// Microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// Seconds since 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Self { micros: secs.saturating_mul(SECOND) }
    }

    /// Whole seconds since 1970.
    pub const fn secs(self) -> i64 {
        self.micros.div_euclid(SECOND)
    }

    /// Later by this many seconds.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        Self { micros: self.micros.saturating_add(secs.saturating_mul(SECOND)) }
    }

    /// The whole seconds from now to `later`.
    pub const fn secs_until(self, later: Self) -> i64 {
        later.micros.saturating_sub(self.micros).div_euclid(SECOND)
    }
}
