//! The types of scalar fields as an operator writes them: text, secret, flag, duration, list.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::error::quote;
use super::setting::Setting;
use crate::secret::Secret;

/// Text.
pub(super) struct Text(pub(super) String);

/// Text that is never quoted in a message.
pub(super) struct SecretText(pub(super) Secret);

/// `true` or `false`. Text is accepted too, because environment variables are text.
pub(super) struct Flag(pub(super) bool);

/// A duration with its unit.
pub(super) struct Span(pub(super) Duration);

/// A list, or one text with commas. Items keep their index; an invalid item does not invalidate the rest.
pub(super) struct List<T>(pub(super) Vec<(usize, Setting<T>)>);

/// The path of a claim: text whose dots lead into nested claims, or a list of names that are used unchanged.
pub(super) enum ClaimPath {
    /// One text with dots.
    Dotted(String),
    /// A list of names.
    Whole(Vec<(usize, Setting<Text>)>),
}

/// A type of items for [`List`].
pub(super) trait Item: Sized + for<'de> Deserialize<'de> {
    /// Creates an item from trimmed text.
    fn from_text(text: &str) -> Self;
    /// The text as written, not trimmed.
    fn as_text(&self) -> &str;
}

impl Item for Text {
    fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn as_text(&self) -> &str {
        &self.0
    }
}

impl Item for SecretText {
    fn from_text(text: &str) -> Self {
        Self(Secret::new(text))
    }

    fn as_text(&self) -> &str {
        self.0.expose_str().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(Text::from_text))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(SecretText::from_text))
    }
}

struct TextVisitor<T>(fn(&str) -> T);

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Err(E::custom("expected text, found a number; write it in quotes"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Err(E::custom("expected text, found true or false; write it in quotes"))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;

        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Flag, E> {
                match text.trim() {
                    "true" => Ok(Flag(true)),
                    "false" => Ok(Flag(false)),
                    other => Err(E::custom(format!("expected true or false, found {}", quote(other)))),
                }
            }
        }

        deserializer.deserialize_bool(FlagVisitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"90s\"")
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Span, E> {
                Err(E::custom(
                    "a duration needs its unit: write \"5s\", \"10m\" or \"1h 30m\", not a bare number",
                ))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                let text = text.trim();
                if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                    return self.visit_f64(0.0);
                }
                match humantime::parse_duration(text) {
                    Ok(duration) if text.len() <= 64 => Ok(Span(duration)),
                    _ => Err(E::custom(format!(
                        "expected a duration such as \"90s\", \"10m\" or \"1h 30m\", found {}",
                        quote(text)
                    ))),
                }
            }
        }

        deserializer.deserialize_str(SpanVisitor)
    }
}

impl<'de, T: Item> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Item> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or text with commas")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<List<T>, E> {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(List(items.map(|item| Setting::Given(T::from_text(item))).enumerate().collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                let mut index = 0_usize;
                while let Some(setting) = sequence.next_element::<Setting<T>>()? {
                    match setting {
                        Setting::Given(item) => {
                            let text = item.as_text().trim();
                            if !text.is_empty() {
                                items.push((index, Setting::Given(T::from_text(text))));
                            }
                        }
                        Setting::Refused(reported) => items.push((index, Setting::Refused(reported))),
                        Setting::Absent => {}
                    }
                    index = index.saturating_add(1);
                }
                Ok(List(items))
            }
        }

        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathVisitor;

        impl<'de> Visitor<'de> for PathVisitor {
            type Value = ClaimPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a claim, or a list of names")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ClaimPath, E> {
                Ok(ClaimPath::Dotted(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ClaimPath, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = sequence.next_element::<Setting<Text>>()? {
                    names.push((names.len(), name));
                }
                Ok(ClaimPath::Whole(names))
            }
        }

        deserializer.deserialize_any(PathVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::collecting::Collecting;
    use super::super::environment::expand;
    use super::super::error::{Report, Reported, checked};
    use super::*;
    use crate::testing::test;

    fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, String> {
        let node = expand(value, &Report::default().root(), &|_| None);
        checked(|place| T::deserialize(Collecting::new(&node, place.clone())).map_err(|_| Reported))
    }

    fn error<T: for<'de> Deserialize<'de>>(value: Value) -> String {
        read::<T>(value).err().expect("an error")
    }

    fn items(list: List<Text>) -> Vec<(usize, String)> {
        let given = |(index, setting)| match setting {
            Setting::Given(Text(text)) => (index, text),
            _ => panic!("item {index} is not given"),
        };
        list.0.into_iter().map(given).collect()
    }

    #[test]
    fn durations_have_a_unit() {
        for (written, millis) in [
            ("90s", 90_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
            (" 5m ", 300_000),
            ("12h", 43_200_000),
            ("0s", 0),
        ] {
            assert_eq!(read::<Span>(json!(written)).unwrap().0, Duration::from_millis(millis), "{written}");
        }
        for bare in [json!(5.0), json!("5"), json!("1.5"), json!("")] {
            assert!(error::<Span>(bare).contains("needs its unit"));
        }
        for wrong in ["soon", "5 parsecs", "-5s", "99999999999999999999s", "5s5", &" 1s".repeat(40)] {
            assert!(error::<Span>(json!(wrong)).starts_with("here: expected a duration such as"), "{wrong}");
        }
        assert_eq!(
            error::<Span>(json!(true)),
            "here: expected a duration such as \"90s\", found true or false"
        );
    }

    #[test]
    fn flags_may_be_text() {
        for (written, flag) in [(json!(true), true), (json!("true"), true), (json!("false"), false)] {
            assert_eq!(read::<Flag>(written).unwrap().0, flag);
        }
        assert_eq!(error::<Flag>(json!("yes")), "here: expected true or false, found \"yes\"");
        assert_eq!(error::<Flag>(json!(1.0)), "here: expected true or false, found a number");
        assert_eq!(error::<Flag>(json!([true])), "here: expected true or false, found a list");
    }

    #[test]
    fn lists_are_lists_or_text_with_commas() {
        let two = vec![(0, "a".to_owned()), (1, "b".to_owned())];
        assert_eq!(items(read(json!("a, b")).unwrap()), two);
        assert_eq!(items(read(json!(" a ,, b, ")).unwrap()), two);
        assert_eq!(items(read(json!([" a ", "b"])).unwrap()), two);
        // In a list, a comma is part of the name.
        assert_eq!(items(read(json!(["", "a,b", null])).unwrap()), [(1, "a,b".to_owned())]);
        assert_eq!(items(read(json!(" , ")).unwrap()), []);
        assert_eq!(
            error::<List<Text>>(json!(5.0)),
            "here: expected a list, or text with commas, found a number"
        );
        assert_eq!(
            error::<List<Text>>(json!(["a", 5.0, ["b"]])),
            "here[1]: expected text, found a number; write it in quotes\nhere[2]: expected text, found a list"
        );
    }

    #[test]
    fn text_is_not_guessed_from_other_types() {
        assert_eq!(read::<Text>(json!("12")).unwrap().0, "12");
        assert_eq!(error::<Text>(json!(12.0)), "here: expected text, found a number; write it in quotes");
        assert_eq!(error::<Text>(json!({"a": 1.0})), "here: expected text, found an object");
    }

    #[test]
    fn secrets_are_not_quoted() {
        for wrong in [json!(["hunter2"]), json!({"hunter2": "x"}), json!(7.25)] {
            let error = error::<SecretText>(wrong);
            assert!(!error.contains("hunter2") && !error.contains("7.25"), "{error}");
        }
    }
}
