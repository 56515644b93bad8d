//! The errors of a configuration and their places. Every error is reported exactly once.

use std::cell::{Cell, RefCell};
use std::fmt;

/// How many errors are listed. The rest is only counted, so that the log stays readable.
const MAX_LISTED: usize = 100;

/// Longest name that gets a suggestion. All field names are much shorter.
const MAX_SUGGESTED_LEN: usize = 40;

/// All errors of a configuration, at least one. `Display` prints one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The place: `policy.rules[2].path.regex`, or `configuration` for the whole.
    pub path: String,
    /// What is wrong and, where it helps, how to correct it. One line without secrets.
    pub message: String,
}

impl ConfigErrors {
    /// A single error that prevents all further checks.
    pub(super) fn one(message: String) -> Self {
        Self(vec![ConfigError { path: ROOT.to_owned(), message }])
    }

    /// The errors, in the order in which they were found.
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

/// Collects errors and warnings while a configuration is read.
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    left_off: Cell<usize>,
    warnings: RefCell<Vec<String>>,
}

/// Stands for a value whose error is already in the [`Report`]. Code that receives it reports nothing more, so each
/// error appears only once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

impl Report {
    /// The place of the whole configuration.
    pub(super) fn root(&self) -> Place<'_> {
        Place { path: String::new(), report: self }
    }

    /// The value with its warnings, or all errors.
    pub(super) fn finish<T>(self, read: Result<T, Reported>) -> Result<(T, Vec<String>), ConfigErrors> {
        let mut errors = self.errors.into_inner();
        match read {
            Ok(value) if errors.is_empty() => Ok((value, self.warnings.into_inner())),
            _ => {
                let summary = match (self.left_off.get(), errors.is_empty()) {
                    (0, false) => None,
                    // `Reported` without a reported error should be impossible. If it happens, loading must still fail.
                    (0, true) => Some("cannot be read".to_owned()),
                    (left_off, _) => Some(format!("has {left_off} more errors")),
                };
                errors.extend(summary.map(|message| ConfigError { path: ROOT.to_owned(), message }));
                Err(ConfigErrors(errors))
            }
        }
    }
}

/// A place in the configuration, at which errors can be reported.
#[derive(Clone)]
pub(super) struct Place<'r> {
    path: String,
    report: &'r Report,
}

impl Place<'_> {
    /// The place of a member of the object here.
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

    /// The place of an item of the list here, counted from 0.
    pub(super) fn index(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), report: self.report }
    }

    /// Reports an error.
    pub(super) fn refuse(&self, message: impl Into<String>) -> Reported {
        let mut errors = self.report.errors.borrow_mut();
        if errors.len() < MAX_LISTED {
            errors.push(ConfigError { path: self.name(), message: message.into() });
        } else {
            self.report.left_off.set(self.report.left_off.get().saturating_add(1));
        }
        Reported
    }

    /// Reports a setting that is allowed but worth knowing.
    pub(super) fn warn(&self, message: &str) {
        self.report.warnings.borrow_mut().push(format!("{}: {message}", self.name()));
    }

    /// Reports an unknown member of the object here.
    pub(super) fn refuse_unknown(&self, name: &str, known: &[&str]) -> Reported {
        let hint = match closest(name, known) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.field(name).refuse(format!("is not a known field; {hint}"))
    }

    fn name(&self) -> String {
        if self.path.is_empty() { ROOT.to_owned() } else { self.path.clone() }
    }
}

/// A value for a message: quoted, on one line, and shortened. Never for a secret.
pub(super) fn quote(value: &str) -> String {
    const MAX_CHARS: usize = 80;
    crate::quote::quote(value, MAX_CHARS)
}

/// The entry of `known` that is closest to a mistyped `name`.
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

/// Runs a check at the place `here`. Returns the value, or the errors as text.
#[cfg(test)]
pub(super) fn checked<T>(check: impl FnOnce(&Place<'_>) -> Result<T, Reported>) -> Result<T, String> {
    let report = Report::default();
    let read = check(&report.root().field("here"));
    report.finish(read).map(|(value, _)| value).map_err(|errors| errors.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

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
