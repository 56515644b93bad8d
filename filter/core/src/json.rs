//! A JSON reader with a limit of depth. [`parse_object`] also refuses duplicate members, which two parsers could read
//! differently. The configuration keeps them, to report each at its place.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[cfg(test)]
pub use members::MAX_LIST_ENTRY_LEN;
pub use members::{
    ClaimError, ClaimProblem, MAX_LIST_ENTRIES, at, bounded, is_empty, is_there, list, member, numeric_date,
    object, string, string_list, string_or_list,
};

mod members;

/// How deep objects and arrays may be nested, the outermost included. The stack of a Wasm worker is small.
pub const MAX_DEPTH: usize = 16;

/// Why a text is not an acceptable JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than the caller's limit.
    #[error("longer than allowed")]
    TooLong,
    /// Not JSON (RFC 8259), not UTF-8, or a number outside the range of a double.
    #[error("not well-formed JSON")]
    Syntax,
    /// An object has two members of the same name. Readers differ in which value they use (RFC 8259 4).
    #[error("duplicate member")]
    DuplicateMember,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested too deeply")]
    TooDeep,
    /// Valid JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
}

impl JsonError {
    /// Stable name for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooLong => "json_too_long",
            Self::Syntax => "json_syntax",
            Self::DuplicateMember => "json_duplicate_member",
            Self::TooDeep => "json_too_deep",
            Self::NotAnObject => "json_not_an_object",
        }
    }
}

/// Parses one JSON object of at most `max_len` bytes.
///
/// Numbers become `u64`, `i64` or `f64`. They are never NaN or infinite.
///
/// # Errors
/// See [`JsonError`]. Each check covers all levels of the text, not only the outermost.
pub fn parse_object(bytes: &[u8], max_len: usize) -> Result<Map<String, Value>, JsonError> {
    if bytes.len() > max_len {
        return Err(JsonError::TooLong);
    }
    let finding = Cell::new(None);
    match read(bytes, MAX_DEPTH, &finding) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(JsonError::NotAnObject),
        Err(_) => Err(finding.get().unwrap_or(JsonError::Syntax)),
    }
}

/// What a JSON text is read into.
pub(crate) trait Document: Sized + From<Value> + From<Vec<Self>> + From<Self::Members> {
    /// The members of an object.
    type Members: Default;

    /// Whether the object already has a member of this name, and that makes the text unacceptable.
    fn refuses(members: &Self::Members, name: &str) -> bool;

    /// Adds a member.
    fn add(members: &mut Self::Members, name: String, value: Self);
}

impl Document for Value {
    type Members = Map<String, Value>;

    fn refuses(members: &Self::Members, name: &str) -> bool {
        members.contains_key(name)
    }

    fn add(members: &mut Self::Members, name: String, value: Self) {
        members.insert(name, value);
    }
}

/// Reads one JSON text. An error that serde's own error type cannot carry is also stored in `finding`.
///
/// # Errors
/// The error of the parser, which names line and column.
pub(crate) fn read<T: Document>(
    bytes: &[u8],
    max_depth: usize,
    finding: &Cell<Option<JsonError>>,
) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let document = Builder { depth_left: max_depth, finding, document: PhantomData };
    let document = document.deserialize(&mut deserializer)?;
    deserializer.end().map(|()| document)
}

/// Builds a [`Document`].
struct Builder<'a, T> {
    depth_left: usize,
    finding: &'a Cell<Option<JsonError>>,
    document: PhantomData<T>,
}

impl<T> Clone for Builder<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Builder<'_, T> {}

impl<T> Builder<'_, T> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| self.refuse(JsonError::TooDeep))?;
        Ok(Self { depth_left, ..self })
    }

    fn refuse<E: serde::de::Error>(self, error: JsonError) -> E {
        self.finding.set(Some(error));
        E::custom(error)
    }
}

impl<'de, T: Document> DeserializeSeed<'de> for Builder<'_, T> {
    type Value = T;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Document> Visitor<'de> for Builder<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(Value::Null.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(Value::Bool(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(Value::Number(value.into()).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(Value::Number(value.into()).into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Value::Number(number).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<T, E> {
        Ok(Value::String(value.to_owned()).into())
    }

    fn visit_string<E>(self, value: String) -> Result<T, E> {
        Ok(Value::String(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<T, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(inside)? {
            list.push(entry);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<T, A::Error> {
        let inside = self.inside()?;
        let mut members = T::Members::default();
        // Compares names after resolving their escapes: `\u0073ub` is `sub`.
        while let Some(name) = entries.next_key::<String>()? {
            if T::refuses(&members, &name) {
                return Err(self.refuse(JsonError::DuplicateMember));
            }
            T::add(&mut members, name, entries.next_value_seed(inside)?);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::test;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn parse(text: &str) -> Result<Map<String, Value>, JsonError> {
        parse_object(text.as_bytes(), LIMIT)
    }

    fn nested_arrays(depth: usize) -> String {
        format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    fn nested_objects(depth: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
    }

    #[test]
    fn an_object_comes_out_as_serde_json_reads_it() {
        let text = r#" {"s":"\u00e9\ud83d\ude00","n":-1,"u":18446744073709551615,"f":1.5,"b":true,"z":null,"l":[1,{"x":[]}],"o":{}} "#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(parse(text).unwrap()), expected);
    }

    /// IT25.
    #[test]
    fn a_member_that_occurs_twice_is_refused_at_every_level() {
        for text in [
            r#"{"sub":"a","sub":"admin"}"#,
            r#"{"sub":"a","sub":"a"}"#,
            r#"{"sub":"a","\u0073ub":"admin"}"#,
            r#"{"a":{"x":1,"x":2}}"#,
            r#"{"a":[{"b":{"x":1,"y":2,"x":3}}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(parse(text), Err(JsonError::DuplicateMember), "{text}");
        }
        assert!(parse(r#"{"sub":"a","Sub":"b","o":{"sub":"c"}}"#).is_ok());
    }

    /// IT25.
    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["[]", r#"[{"sub":"a"}]"#, r#""{}""#, "1", "true", "null"] {
            assert_eq!(parse(text), Err(JsonError::NotAnObject), "{text}");
        }
    }

    /// RX03.
    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            " ",
            "{",
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a":1}{}"#,
            r#"{"a":1} x"#,
            "{\"a\":1}\0",
            "\u{feff}{}",
            "{a:1}",
            "{'a':1}",
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1e999999}"#,
            r#"{"a":-1e999999}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"a":"\x41"}"#,
            "/**/{}",
        ] {
            assert_eq!(parse(text), Err(JsonError::Syntax), "{text:?}");
        }
    }

    /// RX03.
    #[test]
    fn text_that_is_not_utf8_is_refused() {
        for bytes in [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"a\":\"\xc0\x80\"}",
            b"{\"\xed\xa0\x80\":1}",
            b"\xff{}",
            b"{\"a\":1}\xff",
            b"{\x00\"\x00a\x00\"\x00:\x001\x00}\x00",
        ] {
            assert_eq!(parse_object(bytes, LIMIT), Err(JsonError::Syntax), "{bytes:x?}");
        }
    }

    /// RX02.
    #[test]
    fn nesting_ends_at_the_limit() {
        for build in [nested_arrays, nested_objects] {
            assert!(parse(&build(MAX_DEPTH)).is_ok());
            for depth in [MAX_DEPTH + 1, 100, 127, 128, 1_000, 100_000] {
                assert_eq!(parse(&build(depth)), Err(JsonError::TooDeep), "{depth}");
            }
        }
        for unclosed in ["[".repeat(100_000), r#"{"a":"#.repeat(100_000)] {
            assert_eq!(parse(&unclosed), Err(JsonError::TooDeep));
        }
        assert!(
            parse(&format!(r#"{{"a":[{}{{}}]}}"#, "[[]],".repeat(1_000))).is_ok(),
            "breadth is not depth"
        );
    }

    /// RX03.
    #[test]
    fn numbers_of_any_size_are_numbers_or_errors() {
        let digits = "9".repeat(100_000);
        for (number, ok) in [
            ("-0", true),
            ("0", true),
            ("18446744073709551616", true),
            ("-9223372036854775809", true),
            ("1e308", true),
            ("1e-999999", true),
            ("0.00000000000000000000000000000000001", true),
            ("1e309", false),
            (digits.as_str(), false),
        ] {
            assert_eq!(
                parse(&format!(r#"{{"n":{number}}}"#)).is_ok(),
                ok,
                "{}",
                &number[..number.len().min(30)]
            );
        }
        assert!(parse(&format!(r#"{{"n":0.{digits}}}"#)).is_ok());
    }

    /// RX01.
    #[test]
    fn length_is_looked_at_before_anything_else() {
        let text = br#"{"a":1}"#;
        assert!(parse_object(text, text.len()).is_ok());
        assert_eq!(parse_object(text, text.len() - 1), Err(JsonError::TooLong));
        assert_eq!(parse_object(&[0xff; 100], 99), Err(JsonError::TooLong));
    }
}
