//! What is wrong with a configuration, and where: every mistake is reported, and none of them twice.

use std::cell::{Cell, RefCell};
use std::fmt;

/// More errors than this are counted, not listed: the log has to stay readable.
const MAX_LISTED: usize = 100;

/// Names longer than this get no suggestion; no field's name comes near.
const MAX_SUGGESTED_LEN: usize = 40;

/// Everything that is wrong with a configuration; never empty. Displays as one line per error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is: `policy.rules[2].path.regex`; `configuration` for the whole.
    pub path: String,
    /// What is wrong there and, where it helps, what to write instead. One line; no secret in it.
    pub message: String,
}

impl ConfigErrors {
    /// For a mistake that leaves nothing else to look at.
    pub(super) fn one(message: String) -> Self {
        Self(vec![ConfigError { path: ROOT.to_owned(), message }])
    }

    /// The mistakes, in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

const ROOT: &str = "configuration";

/// Where mistakes and warnings are collected while a configuration is read.
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    left_off: Cell<usize>,
    warnings: RefCell<Vec<String>>,
}

/// Stands for a value that can't be used, and whose mistake is in the [`Report`] already. Whoever meets it says nothing
/// more, so that one mistake makes one error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

impl Report {
    /// The place of the whole configuration.
    pub(super) fn root(&self) -> Place<'_> {
        Place { path: String::new(), report: self }
    }

    /// What was read together with the warnings about it, or all errors.
    pub(super) fn finish<T>(self, read: Result<T, Reported>) -> Result<(T, Vec<String>), ConfigErrors> {
        let mut errors = self.errors.into_inner();
        match read {
            Ok(value) if errors.is_empty() => Ok((value, self.warnings.into_inner())),
            _ => {
                let summary = match (self.left_off.get(), errors.is_empty()) {
                    (0, false) => None,
                    // Nothing is `Reported` without a report; should it ever be, there must still be an error.
                    (0, true) => Some("cannot be read".to_owned()),
                    (left_off, _) => Some(format!("has {left_off} more errors")),
                };
                errors.extend(summary.map(|message| ConfigError { path: ROOT.to_owned(), message }));
                Err(ConfigErrors(errors))
            }
        }
    }
}

/// A place in the configuration, and the way to say what is wrong there.
#[derive(Clone)]
pub(super) struct Place<'r> {
    path: String,
    report: &'r Report,
}

impl Place<'_> {
    /// A member of the object at this place.
    pub(super) fn field(&self, name: &str) -> Self {
        let plain = name.len() <= MAX_SUGGESTED_LEN
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let path = match (self.path.is_empty(), plain) {
            (true, true) => name.to_owned(),
            (false, true) => format!("{}.{name}", self.path),
            (_, false) => format!("{}[{}]", self.path, quote(name)),
        };
        Self { path, report: self.report }
    }

    /// An item of the list at this place; the first is 0.
    pub(super) fn index(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), report: self.report }
    }

    /// Reports a mistake.
    pub(super) fn refuse(&self, message: impl Into<String>) -> Reported {
        let mut errors = self.report.errors.borrow_mut();
        if errors.len() < MAX_LISTED {
            errors.push(ConfigError { path: self.name(), message: message.into() });
        } else {
            self.report.left_off.set(self.report.left_off.get().saturating_add(1));
        }
        Reported
    }

    /// Reports something that is allowed, but that the operator should know.
    pub(super) fn warn(&self, message: &str) {
        self.report.warnings.borrow_mut().push(format!("{}: {message}", self.name()));
    }

    /// Reports a member that the object at this place does not have.
    pub(super) fn refuse_unknown(&self, name: &str, known: &[&str]) -> Reported {
        let hint = match closest(name, known) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.field(name).refuse(format!("is no known field; {hint}"))
    }

    fn name(&self) -> String {
        if self.path.is_empty() { ROOT.to_owned() } else { self.path.clone() }
    }
}

/// A value as it may stand in a message: in quotes, on one line, not too long. Never for a secret.
pub(super) fn quote(value: &str) -> String {
    const MAX_CHARS: usize = 80;
    crate::quote::quote(value, MAX_CHARS)
}

/// The one of `known` that a person who wrote `name` most likely meant.
pub(super) fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > MAX_SUGGESTED_LEN {
        return None;
    }
    let folded = name.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(&folded, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).clamp(1, 2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What a check says of a value at the place `here`: the value, or the errors as they print.
#[cfg(test)]
pub(super) fn checked<T>(check: impl FnOnce(&Place<'_>) -> Result<T, Reported>) -> Result<T, String> {
    let report = Report::default();
    let read = check(&report.root().field("here"));
    report.finish(read).map(|(value, _)| value).map_err(|errors| errors.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn errors(report: Report) -> String {
        report.finish::<()>(Err(Reported)).unwrap_err().to_string()
    }

    #[test]
    fn errors_print_one_line_each_with_their_path() {
        let report = Report::default();
        report.root().refuse("is wrong");
        report.root().field("policy").field("rules").index(2).field("path").refuse("is wrong too");
        assert_eq!(errors(report), "configuration: is wrong\npolicy.rules[2].path: is wrong too");
    }

    #[test]
    fn names_that_could_break_the_line_are_quoted() {
        let report = Report::default();
        report.root().field("a\nb").field("x").refuse("is wrong");
        assert_eq!(errors(report), "[\"a\\nb\"].x: is wrong");
    }

    #[test]
    fn a_flood_of_errors_is_counted_instead_of_listed() {
        let report = Report::default();
        for index in 0..250 {
            report.root().index(index).refuse("is wrong");
        }
        let errors = report.finish::<()>(Err(Reported)).unwrap_err();
        assert_eq!(errors.iter().count(), MAX_LISTED + 1);
        assert_eq!(errors.iter().last().unwrap().to_string(), "configuration: has 150 more errors");
    }

    #[test]
    fn an_error_anywhere_means_that_nothing_was_read() {
        let report = Report::default();
        report.root().warn("is notable");
        assert_eq!(report.finish(Ok(1)), Ok((1, vec!["configuration: is notable".to_owned()])));
        let report = Report::default();
        report.root().refuse("is wrong");
        assert!(report.finish(Ok(1)).is_err());
    }

    #[test]
    fn a_name_close_to_a_known_one_brings_a_suggestion() {
        let known = ["idle_timeout", "absolute_timeout", "keys", "id"];
        for (written, meant) in [
            ("idle_timout", Some("idle_timeout")),
            ("idle-timeout", Some("idle_timeout")),
            ("Keys", Some("keys")),
            ("key", Some("keys")),
            ("ttl", None),
            ("", None),
            ("something_entirely_different", None),
        ] {
            assert_eq!(closest(written, &known), meant, "{written}");
        }
        assert_eq!(closest(&"x".repeat(1 << 20), &known), None);
    }
}
