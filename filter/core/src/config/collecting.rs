//! A serde deserializer that continues after an error. An error affects only the field in which it occurs.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use super::environment::Node;
use super::error::{Place, closest, quote};

/// Deserializes one node. Errors are reported at `place`.
pub(super) struct Collecting<'a, 'r> {
    node: &'a Node,
    place: Place<'r>,
}

impl<'a, 'r> Collecting<'a, 'r> {
    /// For a node and its place.
    pub(super) fn new(node: &'a Node, place: Place<'r>) -> Self {
        Self { node, place }
    }
}

/// Why a value could not be read.
#[derive(Debug)]
pub(super) enum Error {
    /// Not reported yet.
    Mistake(String),
    /// Reported.
    Reported,
}

impl Error {
    fn report(self, place: &Place<'_>) -> Self {
        if let Self::Mistake(message) = self {
            place.refuse(message);
        }
        Self::Reported
    }

    fn unknown_choice(name: &str, variants: &[&str]) -> Self {
        let hint =
            closest(name, variants).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        Self::Mistake(format!("expected {}, found {}{hint}", OneOf(variants), quote(name)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistake(message) => f.write_str(message),
            Self::Reported => f.write_str("reported"),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Mistake(message.to_string())
    }

    /// Prints only the types, because the value may be a secret in the wrong field.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map | Unexpected::StructVariant => "an object",
            _ => "text",
        };
        Self::Mistake(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

impl<'de> de::Deserializer<'de> for Collecting<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { node, place } = self;
        match node {
            Node::Refused => Err(Error::Reported),
            Node::Null => visitor.visit_unit(),
            Node::Flag(flag) => visitor.visit_bool(*flag),
            Node::Number(number) => visitor.visit_f64(*number),
            Node::Text(text) => visitor.visit_str(text),
            Node::List(items) => visitor.visit_seq(Items { items, next: 0, place: &place }),
            // Expected objects go through `deserialize_struct`, so an object here is always an error.
            Node::Object(_) => {
                visitor.visit_map(Members { rest: &[], fields: &[], value: None, place: &place })
            }
        }
        .map_err(|error| error.report(&place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.node, Node::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    /// Unknown members are reported and then skipped.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = match self.node {
            Node::Object(members) => members,
            // Derived code would accept a list as the fields in order.
            Node::List(_) => {
                return Err(Error::report(de::Error::invalid_type(Unexpected::Seq, &visitor), &self.place));
            }
            _ => return self.deserialize_any(visitor),
        };
        for (name, _) in members {
            if !fields.contains(&name.as_str()) {
                self.place.refuse_unknown(name, fields);
            }
        }
        let known = Members { rest: members, fields, value: None, place: &self.place };
        visitor.visit_map(known).map_err(|error| error.report(&self.place))
    }

    /// Accepts `name` or `{name: value}`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self { node, place } = self;
        let expected = OneOf(variants);
        let variant = match node {
            Node::Text(text) => Ok((text.as_str(), None)),
            Node::Object(members) => match members.as_slice() {
                [(name, value)] => Ok((name.as_str(), Some(value))),
                [] => Err(Error::Mistake(format!("expected {expected}, found an empty object"))),
                _ => Err(Error::Mistake(format!("expected {expected}, found several members"))),
            },
            Node::Refused => Err(Error::Reported),
            Node::Null => Err(de::Error::invalid_type(Unexpected::Unit, &expected)),
            Node::Flag(flag) => Err(de::Error::invalid_type(Unexpected::Bool(*flag), &expected)),
            Node::Number(number) => Err(de::Error::invalid_type(Unexpected::Float(*number), &expected)),
            Node::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &expected)),
        };
        variant
            .and_then(|(name, value)| match variants.contains(&name) {
                true => visitor.visit_enum(Variant { name, value, place: &place }),
                false => Err(Error::unknown_choice(name, variants)),
            })
            .map_err(|error| error.report(&place))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct OneOf<'a>(&'a [&'a str]);

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => f.write_str(only),
            several => write!(f, "one of {}", several.join(", ")),
        }
    }
}

impl de::Expected for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Items<'a, 'p, 'r> {
    items: &'a [Node],
    next: usize,
    place: &'p Place<'r>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let place = self.place.index(self.next);
        self.next = self.next.saturating_add(1);
        seed.deserialize(Collecting { node, place }).map(Some)
    }
}

/// The known members of an object.
struct Members<'a, 'p, 'r> {
    rest: &'a [(String, Node)],
    fields: &'static [&'static str],
    value: Option<(&'a str, &'a Node)>,
    place: &'p Place<'r>,
}

impl<'de> de::MapAccess<'de> for Members<'_, '_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        while let Some(((name, node), rest)) = self.rest.split_first() {
            self.rest = rest;
            if self.fields.contains(&name.as_str()) {
                self.value = Some((name, node));
                return seed
                    .deserialize(IntoDeserializer::<Error>::into_deserializer(name.as_str()))
                    .map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        match self.value.take() {
            Some((name, node)) => seed.deserialize(Collecting { node, place: self.place.field(name) }),
            None => Err(de::Error::custom("a value was read before its name")),
        }
    }
}

struct Variant<'a, 'p, 'r> {
    name: &'a str,
    value: Option<&'a Node>,
    place: &'p Place<'r>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, '_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name = IntoDeserializer::<Error>::into_deserializer(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(Error::Mistake(format!("{0} takes no value: write {0} alone", self.name))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        match self.value {
            Some(node) => seed.deserialize(Collecting { node, place: self.place.field(self.name) }),
            None => Err(Error::Mistake(format!("{0} needs a value: write {{{0}: …}}", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::invalid_type(Unexpected::TupleVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::invalid_type(Unexpected::StructVariant, &visitor))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::super::environment::expand;
    use super::super::error::Report;
    use super::super::setting::Setting;
    use super::*;
    use crate::testing::test;

    #[derive(Deserialize)]
    struct Outer {
        name: Setting<String>,
        inner: Setting<Inner>,
        items: Setting<Vec<Setting<String>>>,
        choice: Setting<Choice>,
    }

    #[derive(Deserialize)]
    struct Inner {
        flag: Setting<bool>,
    }

    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        PlainOne,
        WithText(String),
    }

    fn read(value: Value) -> (Result<Outer, Error>, String) {
        let report = Report::default();
        let node = expand(value, &report.root(), &|_| None);
        let outer = Outer::deserialize(Collecting::new(&node, report.root()));
        let errors = report.finish(Ok(())).map_or_else(|errors| errors.to_string(), |_| String::new());
        (outer, errors)
    }

    #[test]
    fn fields_are_absent_or_given() {
        let (outer, errors) = read(json!({"name": "n", "inner": null, "items": ["a", "b"]}));
        let outer = outer.unwrap();
        assert_eq!(errors, "");
        assert!(matches!(outer.name, Setting::Given(name) if name == "n"));
        assert!(outer.inner.is_absent() && outer.choice.is_absent());
        assert!(matches!(outer.items, Setting::Given(items) if items.len() == 2));
    }

    #[test]
    fn every_mistake_is_reported_once_and_the_rest_is_read() {
        let (outer, errors) = read(json!({
            "name": 1.0,
            "inner": {"flag": "x", "flg": true, "other": 1.0},
            "items": ["a", 2.0, {"env": "UNSET"}, "d"],
            "choice": "plain_on",
        }));
        let expected = [
            "items[2]: environment variable UNSET is not set or empty, and there is no default \
             (Envoy passes on only what vm_config.environment_variables.host_env_keys lists)",
            "choice: expected one of plain_one, with_text, found \"plain_on\"; did you mean plain_one?",
            "inner.flg: is not a known field; did you mean \"flag\"?",
            "inner.other: is not a known field; known here: flag",
            "inner.flag: expected a boolean, found text",
            "items[1]: expected a string, found a number",
            "name: expected a string, found a number",
        ];
        assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
        let outer = outer.unwrap();
        assert!(matches!(outer.name, Setting::Refused(_)) && matches!(outer.choice, Setting::Refused(_)));
        assert!(matches!(outer.inner, Setting::Given(inner) if matches!(inner.flag, Setting::Refused(_))));
        let Setting::Given(items) = outer.items else { panic!("no items") };
        assert_eq!(items.iter().filter(|item| matches!(item, Setting::Given(_))).count(), 2);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_never_quoted() {
        for secret in [json!("hunter2"), json!(["hunter2"]), json!(5.0), json!(true)] {
            let (outer, errors) = read(json!({"inner": secret}));
            assert!(matches!(outer.unwrap().inner, Setting::Refused(_)));
            assert!(
                errors.starts_with("inner: expected struct Inner, found ") && !errors.contains("hunter2")
            );
        }
    }

    #[test]
    fn the_whole_must_be_an_object() {
        for (value, found) in [(json!([]), "a list"), (json!("x"), "text"), (json!(null), "nothing")] {
            let (outer, errors) = read(value);
            assert!(outer.is_err());
            assert_eq!(errors, format!("configuration: expected struct Outer, found {found}"));
        }
    }

    #[test]
    fn choices_are_a_name_or_a_name_with_its_value() {
        for (written, choice) in [
            (json!("plain_one"), Choice::PlainOne),
            (json!({"with_text": "t"}), Choice::WithText("t".to_owned())),
        ] {
            let (outer, errors) = read(json!({"choice": written}));
            assert_eq!(errors, "");
            assert!(matches!(outer.unwrap().choice, Setting::Given(given) if given == choice));
        }
        for (written, error) in [
            (json!({"plain_one": 1.0}), "choice: plain_one takes no value: write plain_one alone"),
            (json!("with_text"), "choice: with_text needs a value: write {with_text: …}"),
            (json!({"with_text": 1.0}), "choice.with_text: expected a string, found a number"),
            (json!({"x": 1.0}), "choice: expected one of plain_one, with_text, found \"x\""),
            (json!({}), "choice: expected one of plain_one, with_text, found an empty object"),
            (
                json!({"a": 1.0, "b": 1.0}),
                "choice: expected one of plain_one, with_text, found several members",
            ),
            (json!(1.0), "choice: expected one of plain_one, with_text, found a number"),
            (
                json!({"with_text": {"env": "UNSET"}}),
                "choice.with_text: environment variable UNSET is not set or empty, and there is no default \
             (Envoy passes on only what vm_config.environment_variables.host_env_keys lists)",
            ),
        ] {
            let (outer, errors) = read(json!({"choice": written}));
            assert!(matches!(outer.unwrap().choice, Setting::Refused(_)));
            assert_eq!(errors, error);
        }
    }
}
