//! A configuration of type `google.protobuf.Struct`: Envoy hands the filter its serialised form, not JSON.

use prost_types::Struct;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

/// The members of a serialised `Struct`; `None` when the bytes are none. Nesting is bounded by the decoder (100).
pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    let decoded = <Struct as prost::Message>::decode(bytes).ok()?;
    Some(object(decoded))
}

fn object(message: Struct) -> Value {
    let members = message.fields.into_iter().map(|(name, member)| (name, value(member)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn value(message: prost_types::Value) -> Value {
    match message.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        // Struct knows doubles only; JSON has no infinity.
        Some(Kind::NumberValue(number)) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StructValue(inner)) => object(inner),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn encode(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(flag) => Kind::BoolValue(*flag),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(items) => {
                Kind::ListValue(prost_types::ListValue { values: items.iter().map(encode).collect() })
            }
            Value::Object(members) => Kind::StructValue(Struct {
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
    fn rx02_what_is_no_struct_is_refused_however_deep_or_cut() {
        let whole = bytes(&json!({"a": {"b": ["c"]}}));
        for end in 1..whole.len() {
            assert_eq!(decode(&whole[..end]), None, "cut at {end}");
        }
        // Written by hand: an encoder would recurse itself.
        let mut deep = vec![4 << 3, 1];
        for _ in 0..5000 {
            deep = field(6, &field(1, &deep));
        }
        let message = field(1, &[field(1, b"a"), field(2, &deep)].concat());
        assert_eq!(decode(&message), None);
        assert_eq!(decode(b"{\"a\": 1}"), None);
    }
}
