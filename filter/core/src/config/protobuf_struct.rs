//! A configuration of type `google.protobuf.Struct`. Envoy passes it to the filter in serialised form, not as JSON.
//!
//! The fields of a `Struct` are a map, which is encoded as a list of entries (protobuf, "Maps"). The generated type
//! keeps only the last of two entries with the same name. The messages here keep both, so that duplicates can be
//! reported.

use prost::Message;
use serde_json::{Number, Value as Json};

use super::tree::Tree;

#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Flag(bool),
    #[prost(message, tag = "5")]
    Object(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

/// The members of a serialised `Struct`. `None` if the bytes are not one. The decoder limits nesting to 100.
pub(super) fn decode(bytes: &[u8]) -> Option<Tree> {
    Struct::decode(bytes).ok().map(object)
}

fn object(message: Struct) -> Tree {
    let members = message.fields.into_iter().map(|entry| (entry.key, value(entry.value.unwrap_or_default())));
    Tree::Object(members.collect())
}

fn value(message: Value) -> Tree {
    Tree::Scalar(match message.kind {
        None | Some(Kind::Null(_)) => Json::Null,
        // `Struct` has only doubles, and JSON has no infinity.
        Some(Kind::Number(number)) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Some(Kind::Text(text)) => Json::String(text),
        Some(Kind::Flag(flag)) => Json::Bool(flag),
        Some(Kind::Object(inner)) => return object(inner),
        Some(Kind::List(list)) => return Tree::List(list.values.into_iter().map(value).collect()),
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::test;
    use prost_types::value::Kind;
    use serde_json::json;

    use super::super::error::{Report, Reported};
    use super::{Json as Value, Message as _};

    fn decode(bytes: &[u8]) -> Option<Value> {
        let report = Report::default();
        let value = super::decode(bytes)?.into_value(&report.root());
        report.finish(Ok::<_, Reported>(value)).ok().map(|(value, _)| value)
    }

    fn encode(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(flag) => Kind::BoolValue(*flag),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(items) => {
                Kind::ListValue(prost_types::ListValue { values: items.iter().map(encode).collect() })
            }
            Value::Object(members) => Kind::StructValue(prost_types::Struct {
                fields: members.iter().map(|(name, member)| (name.clone(), encode(member))).collect(),
            }),
        };
        prost_types::Value { kind: Some(kind) }
    }

    fn bytes(value: &Value) -> Vec<u8> {
        match encode(value).kind {
            Some(Kind::StructValue(message)) => message.encode_to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// A length-delimited field.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![(number << 3) | 2];
        prost::encode_length_delimiter(bytes.len(), &mut message).unwrap();
        message.extend_from_slice(bytes);
        message
    }

    #[test]
    fn what_is_written_by_hand_is_a_struct_as_long_as_it_is_flat() {
        let nested = field(6, &field(1, &[4 << 3, 1]));
        let message = field(1, &[field(1, b"a"), field(2, &nested)].concat());
        assert_eq!(decode(&message), Some(json!({"a": [true]})));
    }

    #[test]
    fn a_struct_becomes_the_json_it_was_written_as() {
        let value = json!({"a": "x", "b": [1.5, true, null, {"c": "é"}], "d": {}});
        assert_eq!(decode(&bytes(&value)), Some(value));
    }

    #[test]
    fn f205_a_repeated_entry_of_the_map_is_reported_at_its_place() {
        let text = |text: &str| field(3, text.as_bytes());
        let entry =
            |name: &str, value: &[u8]| field(1, &[field(1, name.as_bytes()), field(2, value)].concat());
        let twice = [entry("clock_leeway", &text("10s")), entry("clock_leeway", &text("50s"))].concat();
        for (message, place) in [
            (twice.clone(), "clock_leeway"),
            (entry("a", &field(6, &field(1, &field(5, &twice)))), "a[0].clock_leeway"),
        ] {
            let report = Report::default();
            super::decode(&message).unwrap().into_value(&report.root());
            let errors = report.finish::<()>(Err(Reported)).unwrap_err().to_string();
            assert_eq!(errors, format!("{place}: is set more than once: only one of them would take effect"));
        }
    }

    #[test]
    fn rx02_what_is_no_struct_is_refused_however_deep_or_cut() {
        let whole = bytes(&json!({"a": {"b": ["c"]}}));
        for end in 1..whole.len() {
            assert_eq!(decode(&whole[..end]), None, "cut at {end}");
        }
        // Encoded by hand, because an encoder would recurse too.
        let mut deep = vec![4 << 3, 1];
        for _ in 0..5000 {
            deep = field(6, &field(1, &deep));
        }
        let message = field(1, &[field(1, b"a"), field(2, &deep)].concat());
        assert_eq!(decode(&message), None);
        assert_eq!(decode(b"{\"a\": 1}"), None);
    }
}
