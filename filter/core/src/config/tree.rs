//! A configuration as written, before values are interpreted. An object keeps duplicate members, of which parsers use
//! either the first or the last.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::error::Place;
use crate::json::{self, Document};

/// A value with all of its members. It may contain secrets, so it is never printed.
pub(super) enum Tree {
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    /// A scalar.
    Scalar(Value),
}

impl Tree {
    /// Reads JSON text.
    ///
    /// # Errors
    /// The error of the parser, which names line and column.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        // The parser refuses the 128th level, and `environment` the 33rd, with its place.
        json::read(text, usize::MAX, &Cell::new(None))
    }

    /// Converts to a JSON value. A repeated member is reported and left out. Recursion is bounded, because the parser
    /// that built the tree limits nesting.
    pub(super) fn into_value(self, place: &Place<'_>) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| item.into_value(&place.index(index)))
                .collect(),
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    let at = place.field(&name);
                    let value = member.into_value(&at);
                    if object.contains_key(&name) {
                        at.refuse("is set more than once: only one of them would take effect");
                    } else {
                        object.insert(name, value);
                    }
                }
                Value::Object(object)
            }
        }
    }
}

impl Document for Tree {
    type Members = Vec<(String, Tree)>;

    fn refuses(_: &Self::Members, _: &str) -> bool {
        false
    }

    fn add(members: &mut Self::Members, name: String, value: Self) {
        members.push((name, value));
    }
}

impl From<Value> for Tree {
    fn from(scalar: Value) -> Self {
        Self::Scalar(scalar)
    }
}

impl From<Vec<Tree>> for Tree {
    fn from(items: Vec<Tree>) -> Self {
        Self::List(items)
    }
}

impl From<Vec<(String, Tree)>> for Tree {
    fn from(members: Vec<(String, Tree)>) -> Self {
        Self::Object(members)
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::{Report, Reported};
    use super::*;
    use crate::testing::test;

    fn read(text: &str) -> Result<Value, String> {
        let tree = Tree::from_json(text.as_bytes()).map_err(|error| error.to_string())?;
        let report = Report::default();
        let value = tree.into_value(&report.root());
        report.finish(Ok::<_, Reported>(value)).map(|(value, _)| value).map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_is_there_once_comes_out_as_serde_json_reads_it() {
        let text = r#" {"s":"\u00e9","n":-1,"u":18446744073709551615,"f":1.5,"b":true,"z":null,"l":[1,{"x":[]}],"o":{}} "#;
        assert_eq!(read(text), Ok(serde_json::from_str(text).unwrap()));
        assert!(
            read(&format!("{}1{}", "[".repeat(200), "]".repeat(200))).is_err(),
            "too deep for the parser"
        );
    }

    #[test]
    fn f205_a_member_that_is_there_twice_is_reported_at_its_place() {
        for (text, places) in [
            (r#"{"a": 1, "a": 2}"#, &["a"][..]),
            (r#"{"a": 1, "a": 1}"#, &["a"]),
            (r#"{"a": 1, "\u0061": 2, "a": 3}"#, &["a", "a"]),
            (r#"{"policy": {"rules": [{}, {"paths": 1, "paths": 2}]}}"#, &["policy.rules[1].paths"]),
            (r#"{"a": {"x": 1}, "a": {"y": 1, "y": 2}}"#, &["a.y", "a"]),
            (r#"[[{"a b": 1, "a b": 2}]]"#, &[r#"[0][0]["a b"]"#]),
            (r#"{"a": {"env": "A", "default": {"b": 1, "b": 2}, "env": "B"}}"#, &["a.default.b", "a.env"]),
            (r#"{"": 1, "": 2}"#, &[""]),
        ] {
            let expected: Vec<String> = places
                .iter()
                .map(|place| {
                    let place = if place.is_empty() { "configuration" } else { place };
                    format!("{place}: is set more than once: only one of them would take effect")
                })
                .collect();
            assert_eq!(read(text), Err(expected.join("\n")), "{text}");
        }
        assert!(read(r#"{"a": {"a": 1}, "A": 1, "b": [{"a": 1}, {"a": 1}]}"#).is_ok());
    }
}
