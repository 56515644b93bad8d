//! Typed access to the members of a JSON object. A null member counts as absent, because many serialisers write absent
//! values this way. A member of any other wrong type is an error, never "absent".

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// Most entries of a list.
pub const MAX_LIST_ENTRIES: usize = 10_000;
/// Longest entry of a list, in bytes.
pub const MAX_LIST_ENTRY_LEN: usize = 1024;

/// 9999-12-31T23:59:59Z. A later time is not a real date, and could make arithmetic overflow.
const LAST_SECOND: u64 = 253_402_300_799;

/// A member that cannot be used. The error has its name but not its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{claim}: {problem}")]
pub struct ClaimError {
    /// The name of the member. A nested member has the names on its path, joined by dots.
    pub claim: Cow<'static, str>,
    /// What is wrong with it.
    pub problem: ClaimProblem,
}

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimProblem {
    /// Required, but absent.
    Missing,
    /// Another JSON type than the specification demands.
    WrongType,
    /// A number outside the accepted range.
    OutOfRange,
    /// A string that is longer than allowed.
    TooLong,
    /// A list with more than [`MAX_LIST_ENTRIES`].
    TooMany,
    /// A string that is empty or contains control characters, where the member must not.
    Malformed,
}

impl ClaimProblem {
    /// Stable name for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "claim_missing",
            Self::WrongType => "claim_wrong_type",
            Self::OutOfRange => "claim_out_of_range",
            Self::TooLong => "claim_too_long",
            Self::TooMany => "claim_too_many_entries",
            Self::Malformed => "claim_malformed",
        }
    }

    /// This problem, for the named member.
    pub fn of(self, claim: impl Into<Cow<'static, str>>) -> ClaimError {
        ClaimError { claim: claim.into(), problem: self }
    }
}

impl fmt::Display for ClaimProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::WrongType => "wrong type",
            Self::OutOfRange => "out of range",
            Self::TooLong => "too long",
            Self::TooMany => "too many entries",
            Self::Malformed => "malformed",
        })
    }
}

/// A string.
///
/// # Errors
/// Wrong type.
pub fn string<'a>(
    members: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, ClaimError> {
    typed(members, name, Value::as_str)
}

/// An object.
///
/// # Errors
/// Wrong type.
pub fn object<'a>(
    members: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a Map<String, Value>>, ClaimError> {
    typed(members, name, Value::as_object)
}

/// A number of seconds. Fractions are cut off.
///
/// # Errors
/// Wrong type (a string of digits too), negative, or later than the year 9999.
pub fn seconds(members: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, ClaimError> {
    let Some(number) = typed(members, name, Value::as_number)? else { return Ok(None) };
    let seconds = match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => whole,
        // `as` saturates. The limit below refuses a saturated number.
        (None, Some(float)) if float.is_finite() && float >= 0.0 => float as u64,
        _ => return Err(ClaimProblem::OutOfRange.of(name)),
    };
    if seconds > LAST_SECOND { Err(ClaimProblem::OutOfRange.of(name)) } else { Ok(Some(seconds)) }
}

/// A NumericDate (RFC 7519 2).
///
/// # Errors
/// As [`seconds`].
pub fn numeric_date(
    members: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<Timestamp>, ClaimError> {
    Ok(seconds(members, name)?.map(Timestamp::from_secs))
}

/// One string or a list of strings, like `aud` (RFC 7519 4.1.3). An empty list remains a list.
///
/// # Errors
/// Wrong type of the member or an entry; a list or an entry beyond the limits.
pub fn string_or_list<'a>(
    members: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<Vec<&'a str>>, ClaimError> {
    match member(members, name) {
        None => Ok(None),
        Some(Value::String(one)) => Ok(Some(vec![bounded(one, &name)?])),
        Some(other) => list(other, &name).map(Some),
    }
}

/// A list of strings.
///
/// # Errors
/// Wrong type of the member (a single string too) or an entry; a list or an entry beyond the limits.
pub fn string_list<'a>(
    members: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<Vec<&'a str>>, ClaimError> {
    member(members, name).map(|value| list(value, &name)).transpose()
}

/// Whether the member is present, with any type. Null counts as absent.
pub fn is_there(members: &Map<String, Value>, name: &str) -> bool {
    member(members, name).is_some()
}

/// A member of any type. Null counts as absent.
pub fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

/// The value at the end of a path of member names. `None` if it, or an object on the path, is absent.
///
/// # Errors
/// A value on the path is not an object.
pub fn at<'a>(members: &'a Map<String, Value>, path: &[String]) -> Result<Option<&'a Value>, ClaimProblem> {
    let Some((last, objects)) = path.split_last() else { return Ok(None) };
    let mut within = members;
    for step in objects {
        match member(within, step) {
            None => return Ok(None),
            Some(Value::Object(object)) => within = object,
            Some(_) => return Err(ClaimProblem::WrongType),
        }
    }
    Ok(member(within, last))
}

/// Whether a value is an empty string, list or object.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn typed<'a, T>(
    members: &'a Map<String, Value>,
    name: &'static str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, ClaimError> {
    member(members, name).map(|value| read(value).ok_or_else(|| ClaimProblem::WrongType.of(name))).transpose()
}

/// Reads a value as a list of strings. `name` is for the error.
///
/// # Errors
/// Wrong type of the value or an entry; a list or an entry beyond the limits.
pub fn list<'a>(value: &'a Value, name: &(impl ToString + ?Sized)) -> Result<Vec<&'a str>, ClaimError> {
    let wrong_type = || ClaimProblem::WrongType.of(name.to_string());
    let entries = value.as_array().ok_or_else(wrong_type)?;
    if entries.len() > MAX_LIST_ENTRIES {
        return Err(ClaimProblem::TooMany.of(name.to_string()));
    }
    entries.iter().map(|entry| bounded(entry.as_str().ok_or_else(wrong_type)?, name)).collect()
}

/// Checks that a string is not longer than an entry of a list may be. `name` is for the error.
///
/// # Errors
/// It is longer.
pub fn bounded<'a>(entry: &'a str, name: &(impl ToString + ?Sized)) -> Result<&'a str, ClaimError> {
    let too_long = || ClaimProblem::TooLong.of(name.to_string());
    if entry.len() > MAX_LIST_ENTRY_LEN { Err(too_long()) } else { Ok(entry) }
}

#[cfg(test)]
mod tests {
    use crate::testing::test;
    use serde_json::json;

    use super::*;
    use ClaimProblem::{OutOfRange, TooLong, TooMany, WrongType};

    fn with(value: Value) -> Map<String, Value> {
        Map::from_iter([("x".to_owned(), value)])
    }

    /// IT24.
    #[test]
    fn f102_a_member_that_is_null_is_absent_and_one_of_another_wrong_type_is_an_error() {
        for nothing in [Map::new(), with(json!(null))] {
            assert_eq!(string(&nothing, "x"), Ok(None));
            assert_eq!(object(&nothing, "x"), Ok(None));
            assert_eq!(numeric_date(&nothing, "x"), Ok(None));
            assert_eq!(string_or_list(&nothing, "x"), Ok(None));
            assert_eq!(string_list(&nothing, "x"), Ok(None));
            assert!(!is_there(&nothing, "x"));
        }

        let samples = [json!(true), json!(1), json!("s"), json!([]), json!([1]), json!({})];
        type Refuses = fn(&Map<String, Value>) -> bool;
        let readers: [(&str, Refuses, &[usize]); 5] = [
            ("string", |m| string(m, "x") == Err(WrongType.of("x")), &[2]),
            ("object", |m| object(m, "x") == Err(WrongType.of("x")), &[5]),
            ("numeric_date", |m| numeric_date(m, "x") == Err(WrongType.of("x")), &[1]),
            ("string_or_list", |m| string_or_list(m, "x") == Err(WrongType.of("x")), &[2, 3]),
            ("string_list", |m| string_list(m, "x") == Err(WrongType.of("x")), &[3]),
        ];
        for (reader, refuses, accepted) in readers {
            for (index, sample) in samples.iter().enumerate() {
                assert_eq!(
                    refuses(&with(sample.clone())),
                    !accepted.contains(&index),
                    "{reader} of {sample}"
                );
            }
        }
    }

    /// IT24, RX03.
    #[test]
    fn a_numeric_date_is_a_second_between_1970_and_9999() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("-0.0", Ok(0)),
            ("1.5", Ok(1)),
            ("1e3", Ok(1000)),
            ("1767225600", Ok(1_767_225_600)),
            ("253402300799", Ok(253_402_300_799)),
            ("253402300799.9", Ok(253_402_300_799)),
            ("253402300800", Err(OutOfRange)),
            ("-1", Err(OutOfRange)),
            ("-0.5", Err(OutOfRange)),
            ("-1e300", Err(OutOfRange)),
            ("1e300", Err(OutOfRange)),
            ("18446744073709551615", Err(OutOfRange)),
            ("18446744073709551616", Err(OutOfRange)),
            ("-9223372036854775808", Err(OutOfRange)),
            (r#""9999999999""#, Err(WrongType)),
            (r#""1e3""#, Err(WrongType)),
        ] {
            let members = with(serde_json::from_str(text).unwrap());
            let expected =
                expected.map(|secs| Some(Timestamp::from_secs(secs))).map_err(|problem| problem.of("x"));
            assert_eq!(numeric_date(&members, "x"), expected, "{text}");
        }
    }

    #[test]
    fn an_audience_is_one_string_or_a_list_of_strings() {
        for (value, expected) in [
            (json!("us"), Ok(vec!["us"])),
            (json!(["us"]), Ok(vec!["us"])),
            (json!(["us", "other"]), Ok(vec!["us", "other"])),
            (json!([]), Ok(vec![])),
            (json!({"us": 1}), Err(WrongType)),
            (json!(["us", 1]), Err(WrongType)),
            (json!(["us", null]), Err(WrongType)),
            (json!([["us"]]), Err(WrongType)),
            (json!("u".repeat(MAX_LIST_ENTRY_LEN + 1)), Err(TooLong)),
        ] {
            let members = with(value.clone());
            let expected = expected.map(Some).map_err(|problem| problem.of("x"));
            assert_eq!(string_or_list(&members, "x"), expected, "{value}");
        }
    }

    #[test]
    fn lists_are_bounded_in_number_and_length() {
        let full = with(json!(vec!["g"; MAX_LIST_ENTRIES]));
        assert_eq!(string_list(&full, "x").map(|list| list.unwrap().len()), Ok(MAX_LIST_ENTRIES));
        let over = with(json!(vec!["g"; MAX_LIST_ENTRIES + 1]));
        assert_eq!(string_list(&over, "x"), Err(TooMany.of("x")));
        let long = with(json!(["g".repeat(MAX_LIST_ENTRY_LEN)]));
        assert!(string_list(&long, "x").is_ok());
        let longer = with(json!(["g".repeat(MAX_LIST_ENTRY_LEN + 1)]));
        assert_eq!(string_list(&longer, "x"), Err(TooLong.of("x")));
    }

    #[test]
    fn an_error_names_the_member_and_not_its_value() {
        let error = string(&with(json!(["secret"])), "x").unwrap_err();
        assert_eq!(error.to_string(), "x: wrong type");
        assert_eq!(error.problem.label(), "claim_wrong_type");
    }
}
