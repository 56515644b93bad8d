//! Texts and lists of texts: the rules that apply to all of them.

use vec1::Vec1;

use super::entries::each;
use crate::config::error::{Place, Reported};
use crate::config::field::Field;
use crate::config::scalar::{List, Text};

/// Longest name, in bytes.
const MAX_NAME_LEN: usize = 255;

/// A name: not empty, without surrounding white space, without control characters.
pub(super) fn name(text: String, place: &Place<'_>) -> Result<String, Reported> {
    if text.trim().is_empty() {
        Err(place.refuse("is empty"))
    } else if text.trim() != text {
        Err(place.refuse("begins or ends with white space"))
    } else if text.chars().any(char::is_control) {
        Err(place.refuse("contains control characters"))
    } else if text.len() > MAX_NAME_LEN {
        Err(place.refuse(format!("is longer than {MAX_NAME_LEN} bytes")))
    } else {
        Ok(text)
    }
}

/// Checks every item of a list, which is empty if it is absent.
pub(super) fn list<T: PartialEq>(
    field: Field<'_, List<Text>>,
    check: impl Fn(String, &Place<'_>) -> Result<T, Reported>,
) -> Result<Vec<T>, Reported> {
    field.or(List(Vec::new()), |list, place| items(list, place, check))
}

/// Checks every item of a list that must not be empty. `nobody` says what an empty list would mean.
pub(super) fn filled_list<T: PartialEq>(
    field: Field<'_, List<Text>>,
    nobody: &str,
    check: impl Fn(String, &Place<'_>) -> Result<T, Reported>,
) -> Result<Vec1<T>, Reported> {
    field.required(|list, place| filled(list, place, nobody, check))
}

/// Like [`filled_list`], but the list may be absent.
pub(super) fn optional_filled_list<T: PartialEq>(
    field: Field<'_, List<Text>>,
    nobody: &str,
    check: impl Fn(String, &Place<'_>) -> Result<T, Reported>,
) -> Result<Option<Vec1<T>>, Reported> {
    field.optional(|list, place| filled(list, place, nobody, check))
}

fn filled<T: PartialEq>(
    list: List<Text>,
    place: &Place<'_>,
    nobody: &str,
    check: impl Fn(String, &Place<'_>) -> Result<T, Reported>,
) -> Result<Vec1<T>, Reported> {
    let items = items(list, place, check)?;
    Vec1::try_from_vec(items).map_err(|_| place.refuse(format!("is empty: {nobody}")))
}

/// Checks every item. A repeated item is left out.
fn items<T: PartialEq>(
    list: List<Text>,
    place: &Place<'_>,
    check: impl Fn(String, &Place<'_>) -> Result<T, Reported>,
) -> Result<Vec<T>, Reported> {
    let mut items = Vec::new();
    for item in each(list.0, place, |_, Text(text), at| check(text, at))? {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

/// A text that is compared exactly. A `*` in it is refused, because the operator would expect a wildcard.
pub(super) fn without_wildcard(text: String, place: &Place<'_>) -> Result<String, Reported> {
    let text = name(text, place)?;
    if text.contains('*') {
        return Err(place.refuse("contains '*', but there are no wildcards here: values are compared whole"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::config::setting::Setting;
    use crate::testing::test;

    fn given(items: &[&str]) -> List<Text> {
        List(items.iter().map(|item| Setting::Given(Text((*item).to_owned()))).enumerate().collect())
    }

    #[test]
    fn names_are_neither_empty_nor_padded_nor_unprintable() {
        for good in ["a", "a b", "/dept/team", "caf\u{e9}", &"x".repeat(MAX_NAME_LEN)] {
            assert_eq!(checked(|place| name(good.to_owned(), place)).as_deref(), Ok(good));
        }
        for (wrong, error) in [
            ("", "here: is empty"),
            (" \t", "here: is empty"),
            (" a", "here: begins or ends with white space"),
            ("a\n", "here: begins or ends with white space"),
            ("a\u{0}b", "here: contains control characters"),
            ("a\u{7f}b", "here: contains control characters"),
            (&"x".repeat(MAX_NAME_LEN + 1), "here: is longer than 255 bytes"),
        ] {
            assert_eq!(checked(|place| name(wrong.to_owned(), place)), Err(error.to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn every_item_of_a_list_is_checked_and_kept_once() {
        assert_eq!(
            checked(|place| items(given(&["a", "b", "a"]), place, name)),
            Ok(vec!["a".into(), "b".into()])
        );
        let errors = checked(|place| items(given(&["*", "a", "x*"]), place, without_wildcard)).unwrap_err();
        let starts: Vec<&str> = errors.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(starts, ["here[0]", "here[2]"]);
    }

    #[test]
    fn an_empty_list_is_refused_where_it_would_mean_nobody() {
        for (setting, error) in [
            (Setting::Given(given(&[])), "here: is empty: nobody would have access"),
            (Setting::Absent, "here: is missing"),
        ] {
            let read = checked(|place| {
                filled_list(Field { setting, place: place.clone() }, "nobody would have access", name)
            });
            assert_eq!(read.map(Vec1::into_vec), Err(error.to_owned()));
        }
    }
}
