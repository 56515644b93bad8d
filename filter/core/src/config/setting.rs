//! The state of a field while it is read: absent, refused or given.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Visitor};

use super::error::{Place, Reported};

/// One field as written.
#[derive(Default)]
pub(super) enum Setting<T> {
    /// Absent or null.
    #[default]
    Absent,
    /// Present but wrong. The error has been reported.
    Refused(Reported),
    /// Present and of the right type.
    Given(T),
}

impl<T> Setting<T> {
    /// The value. If it is absent, this reports an error.
    pub(super) fn required(self, place: &Place<'_>) -> Result<T, Reported> {
        self.or_else(|| Err(place.refuse("is missing")))
    }

    /// The value, if it is present.
    pub(super) fn optional(self) -> Result<Option<T>, Reported> {
        match self {
            Self::Absent => Ok(None),
            Self::Refused(reported) => Err(reported),
            Self::Given(value) => Ok(Some(value)),
        }
    }

    /// The value, or this default.
    pub(super) fn or_else(self, default: impl FnOnce() -> Result<T, Reported>) -> Result<T, Reported> {
        self.optional()?.map_or_else(default, Ok)
    }

    /// The value, if it is present and of the right type.
    pub(super) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    /// Whether nothing was written.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Setting<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Present<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Present<T> {
            type Value = Setting<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Setting::Absent)
            }

            fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                // Every error arises inside a method of `Collecting`, which has reported it.
                Ok(T::deserialize(deserializer).map_or(Setting::Refused(Reported), Setting::Given))
            }
        }

        deserializer.deserialize_option(Present(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::{Report, checked};
    use super::*;
    use crate::testing::test;

    #[test]
    fn only_an_absence_is_reported_when_a_field_is_required() {
        assert_eq!(checked(|place| Setting::Given(1).required(place)), Ok(1));
        assert_eq!(
            checked(|place| Setting::<u8>::Absent.required(place)),
            Err("here: is missing".to_owned())
        );
        let report = Report::default();
        assert!(Setting::<u8>::Refused(Reported).required(&report.root()).is_err());
        assert_eq!(report.finish(Ok(())), Ok(((), vec![])), "its mistake has been reported already");
    }

    #[test]
    fn a_default_stands_in_for_what_is_absent_and_never_for_what_is_refused() {
        assert!(matches!(Setting::Absent.or_else(|| Ok(2)), Ok(2)));
        assert!(matches!(Setting::Given(1).or_else(|| Ok(2)), Ok(1)));
        assert!(Setting::Refused(Reported).or_else(|| Ok(2)).is_err());
    }
}
