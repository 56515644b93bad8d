//! A configuration as written, before values are interpreted. An object keeps duplicate members, of which parsers use
//! either the first or the last.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::Place;

/// A value with all of its members. It may contain secrets, so it is never printed.
pub(super) enum Tree {
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    /// A scalar.
    Scalar(Value),
}

impl Tree {
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

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;

        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Scalar(Value::Null))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
                Ok(Tree::Scalar(Value::Bool(flag)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Scalar(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Scalar(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Scalar(Number::from_f64(number).map_or(Value::Null, Value::Number)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar(text.into()))
            }

            fn visit_string<E>(self, text: String) -> Result<Tree, E> {
                Ok(Tree::Scalar(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = entries.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }

            // Compares names after resolving their escapes: `\u0061` is `a`.
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }

        deserializer.deserialize_any(TreeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::{Report, Reported};
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn read(text: &str) -> Result<Value, String> {
        let tree: Tree = serde_json::from_str(text).map_err(|error| error.to_string())?;
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
