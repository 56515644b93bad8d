//! A field together with its place, so that a check can report there.

use super::error::{Place, Reported};
use super::scalar::Text;
use super::setting::Setting;

/// A field with its place. [`field!`] creates it.
pub(super) struct Field<'r, T> {
    pub(super) setting: Setting<T>,
    pub(super) place: Place<'r>,
}

/// `field!(raw.cluster, place)` is the field `cluster` of the section `raw` at `place`.
macro_rules! field {
    ($section:ident.$name:ident, $place:expr) => {
        $crate::config::field::Field { setting: $section.$name, place: $place.field(stringify!($name)) }
    };
}
pub(super) use field;

impl<'r, T> Field<'r, T> {
    /// Checks the value. If it is absent, this reports an error.
    pub(super) fn required<U>(
        self,
        check: impl FnOnce(T, &Place<'r>) -> Result<U, Reported>,
    ) -> Result<U, Reported> {
        check(self.setting.required(&self.place)?, &self.place)
    }

    /// Checks the value, if it is present.
    pub(super) fn optional<U>(
        self,
        check: impl FnOnce(T, &Place<'r>) -> Result<U, Reported>,
    ) -> Result<Option<U>, Reported> {
        self.setting.optional()?.map(|value| check(value, &self.place)).transpose()
    }

    /// Checks the value. If it is absent, checks `default` instead.
    pub(super) fn or<U>(
        self,
        default: impl Into<T>,
        check: impl FnOnce(T, &Place<'r>) -> Result<U, Reported>,
    ) -> Result<U, Reported> {
        check(self.setting.or_else(|| Ok(default.into()))?, &self.place)
    }
}

impl<'r> Field<'r, Text> {
    /// The field as a `String`.
    pub(super) fn text(self) -> Field<'r, String> {
        let setting = match self.setting {
            Setting::Absent => Setting::Absent,
            Setting::Refused(reported) => Setting::Refused(reported),
            Setting::Given(Text(text)) => Setting::Given(text),
        };
        Field { setting, place: self.place }
    }
}
