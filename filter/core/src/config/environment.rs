//! Replaces `{env: NAME, default: …}` by environment variables, before any value gets a type.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::error::{Place, Reported};

/// How deep objects and lists may be nested. The format needs about ten levels.
const MAX_DEPTH: usize = 32;

/// All members that a reference may have.
const REFERENCE_FIELDS: [&str; 2] = ["env", "default"];

/// A JSON value without references. It may contain secrets, so it is never printed, and its strings are erased on drop.
pub(super) enum Node {
    /// A reference without a value, or a value nested too deep. The error has been reported.
    Refused,
    Null,
    Flag(bool),
    Number(f64),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Replaces every reference in `value`. If a variable is unset or empty and has no default, this is reported at its
/// place.
pub(super) fn expand(value: Value, place: &Place<'_>, environment: &dyn Fn(&str) -> Option<String>) -> Node {
    Expansion { environment }.node(value, place, MAX_DEPTH)
}

struct Expansion<'e> {
    environment: &'e dyn Fn(&str) -> Option<String>,
}

impl Expansion<'_> {
    /// Recurses no deeper than `depth` allows.
    fn node(&self, value: Value, place: &Place<'_>, depth: usize) -> Node {
        let Some(depth) = depth.checked_sub(1) else {
            place.refuse("is nested too deeply");
            return Node::Refused;
        };
        match value {
            Value::Null => Node::Null,
            Value::Bool(flag) => Node::Flag(flag),
            Value::Number(number) => Node::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Node::Text(Zeroizing::new(text)),
            Value::Array(items) => Node::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| self.node(item, &place.index(index), depth))
                    .collect(),
            ),
            Value::Object(members) if members.contains_key("env") => self.reference(members, place, depth),
            Value::Object(members) => Node::Object(
                members
                    .into_iter()
                    .map(|(name, member)| {
                        let node = self.node(member, &place.field(&name), depth);
                        (name, node)
                    })
                    .collect(),
            ),
        }
    }

    fn reference(&self, mut members: Map<String, Value>, place: &Place<'_>, depth: usize) -> Node {
        let variable = members.remove("env");
        let default = members.remove("default");
        let unknown: Vec<Reported> =
            members.keys().map(|name| place.refuse_unknown(name, &REFERENCE_FIELDS)).collect();
        let text = variable_name(variable, &place.field("env")).map(|name| self.variable(&name).ok_or(name));
        match (text, default) {
            _ if !unknown.is_empty() => Node::Refused,
            (Err(Reported), _) => Node::Refused,
            (Ok(Ok(text)), _) => Node::Text(text),
            (Ok(Err(_)), Some(default)) => self.node(default, place, depth),
            (Ok(Err(name)), None) => {
                place.refuse(format!(
                    "environment variable {name} is not set or empty, and there is no default (Envoy passes on only \
                     what vm_config.environment_variables.host_env_keys lists)"
                ));
                Node::Refused
            }
        }
    }

    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let text = Zeroizing::new((self.environment)(name)?);
        (!text.trim().is_empty()).then_some(text)
    }
}

/// Prints only text that looks like a variable name, because someone may have pasted a secret here.
fn variable_name(variable: Option<Value>, place: &Place<'_>) -> Result<String, Reported> {
    match variable {
        Some(Value::String(name)) if is_variable_name(&name) => Ok(name),
        _ => Err(place.refuse("expected the name of an environment variable (letters, digits and _)")),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.len() <= 256
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::error::Report;
    use super::*;
    use crate::testing::test;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".to_owned()),
            "EMPTY" => Some(String::new()),
            "BLANK" => Some(" \n".to_owned()),
            _ => None,
        }
    }

    fn expanded(value: Value) -> Result<Value, String> {
        let report = Report::default();
        let node = expand(value, &report.root(), &environment);
        report.finish(Ok(back(&node))).map(|(value, _)| value).map_err(|errors| errors.to_string())
    }

    fn back(node: &Node) -> Value {
        match node {
            Node::Refused => json!("refused"),
            Node::Null => Value::Null,
            Node::Flag(flag) => json!(flag),
            Node::Number(number) => json!(number),
            Node::Text(text) => json!(text.as_str()),
            Node::List(items) => items.iter().map(back).collect(),
            Node::Object(members) => {
                Value::Object(members.iter().map(|(name, member)| (name.clone(), back(member))).collect())
            }
        }
    }

    #[test]
    fn a_reference_may_stand_wherever_a_value_may() {
        for (written, read) in [
            (json!({"env": "HOST"}), json!("example.com")),
            (json!({"a": {"env": "HOST"}}), json!({"a": "example.com"})),
            (json!([1.5, {"env": "HOST"}, true, null]), json!([1.5, "example.com", true, null])),
            (json!({"env": "HOST", "default": "other"}), json!("example.com")),
            (json!({"env": "UNSET", "default": "other"}), json!("other")),
            (json!({"env": "EMPTY", "default": ["a", "b"]}), json!(["a", "b"])),
            (json!({"env": "BLANK", "default": false}), json!(false)),
            (json!({"env": "UNSET", "default": null}), json!(null)),
            (json!({"env": "UNSET", "default": {"env": "HOST"}}), json!("example.com")),
            (json!({"env": "UNSET", "default": {"a": {"env": "HOST"}}}), json!({"a": "example.com"})),
        ] {
            assert_eq!(expanded(written.clone()), Ok(read), "{written}");
        }
    }

    #[test]
    fn a_variable_that_is_missing_or_empty_is_named_at_its_place() {
        for name in ["UNSET", "EMPTY", "BLANK"] {
            let errors = expanded(json!({"client": {"secret": {"env": name}}})).unwrap_err();
            // F405: the variable may be set, but Envoy does not pass it on.
            let expected = format!(
                "client.secret: environment variable {name} is not set or empty, and there is no default (Envoy \
                 passes on only what vm_config.environment_variables.host_env_keys lists)"
            );
            assert_eq!(errors, expected);
        }
    }

    #[test]
    fn what_is_no_variable_name_is_refused_and_never_printed() {
        for wrong in [
            json!("sEcReT!value"),
            json!(""),
            json!("1A"),
            json!("A=B"),
            json!(5.0),
            json!(null),
            json!(["A"]),
        ] {
            let errors = expanded(json!({"keys": [{"env": wrong}]})).unwrap_err();
            let expected =
                "keys[0].env: expected the name of an environment variable (letters, digits and _)";
            assert_eq!(errors, expected);
        }
    }

    #[test]
    fn a_reference_has_no_other_members() {
        let errors = expanded(json!({"a": {"env": "UNSET", "defualt": "x"}})).unwrap_err();
        assert_eq!(errors, "a.defualt: is not a known field; did you mean \"default\"?");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested =
            |levels: usize, wrap: fn(Value) -> Value| (0..levels).fold(json!(1.5), |inner, _| wrap(inner));
        let wraps: [fn(Value) -> Value; 3] = [
            |inner| json!([inner]),
            |inner| json!({"a": inner}),
            |inner| json!({"env": "UNSET", "default": inner}),
        ];
        for wrap in wraps {
            assert!(expanded(nested(MAX_DEPTH - 1, wrap)).is_ok());
            assert!(expanded(nested(MAX_DEPTH, wrap)).unwrap_err().ends_with(": is nested too deeply"));
        }
    }
}
