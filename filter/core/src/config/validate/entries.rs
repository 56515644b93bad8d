//! Checks the entries of lists.

use crate::config::error::{Place, Reported};
use crate::config::setting::Setting;

/// Most entries of a short list.
const MAX_ENTRIES: usize = 16;

/// Checks each entry of a list at its place, which its number gives. All entries are checked before an error is
/// returned.
pub(super) fn each<R, T>(
    numbered: impl IntoIterator<Item = (usize, Setting<R>)>,
    place: &Place<'_>,
    mut check: impl FnMut(usize, R, &Place<'_>) -> Result<T, Reported>,
) -> Result<Vec<T>, Reported> {
    let checked: Vec<Result<T, Reported>> = numbered
        .into_iter()
        .map(|(index, setting)| {
            let at = place.index(index);
            setting.required(&at).and_then(|raw| check(index, raw, &at))
        })
        .collect();
    checked.into_iter().collect()
}

/// Like [`each`], but refuses a list with more than [`MAX_ENTRIES`] entries.
pub(super) fn every<R, T>(
    written: Vec<Setting<R>>,
    place: &Place<'_>,
    check: impl Fn(R, &Place<'_>) -> Result<T, Reported>,
) -> Result<Vec<T>, Reported> {
    if written.len() > MAX_ENTRIES {
        return Err(place.refuse(format!("has more than {MAX_ENTRIES} entries")));
    }
    each(written.into_iter().enumerate(), place, |_, raw, at| check(raw, at))
}
