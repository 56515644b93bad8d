//! The name of a rule, and the metric label that is derived from it.

/// How many rules get a reason label in the metric. Envoy keeps each counter for its whole lifetime.
pub const MAX_RULE_REASONS: usize = 100;

/// The name of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleName {
    /// Given by the operator. It appears in the log, the metric and the refusal.
    Given {
        /// The name as written.
        name: String,
        /// The label in the metric: `a-z`, `0-9` and `_`.
        label: String,
    },
    /// Given by the gate to a rule of a preset, or to one without a name. It appears only in the log.
    Own(String),
}

impl RuleName {
    /// A name from the operator. `None` if no label can be derived from it.
    pub(super) fn given(name: String) -> Option<Self> {
        let label = label(&name);
        (!label.is_empty()).then_some(Self::Given { name, label })
    }

    /// For the log.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Given { name, .. } | Self::Own(name) => name,
        }
    }

    /// The name that a refused client sees: the operator's, if there is one.
    pub fn shown(&self) -> Option<&str> {
        match self {
            Self::Given { name, .. } => Some(name),
            Self::Own(_) => None,
        }
    }

    /// The reason label of a refusal by this rule. `refusal` is the label that it would have without a named rule.
    pub fn reason(&self, refusal: &str) -> Option<String> {
        match self {
            Self::Given { label, .. } => Some(format!("{refusal}_{label}")),
            Self::Own(_) => None,
        }
    }
}

/// ASCII letters and digits in lower case. Other characters between them become one `_`.
fn label(name: &str) -> String {
    let mut label = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_alphanumeric() {
            label.push(character.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('_') {
            label.push('_');
        }
    }
    label.truncate(label.trim_end_matches('_').len());
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn f206_a_label_has_letters_digits_and_underscores_only() {
        for (name, expected) in [
            ("docs", "docs"),
            ("metrics for operators", "metrics_for_operators"),
            ("Team-A: 2nd floor!", "team_a_2nd_floor"),
            (" .x. ", "x"),
            ("rules[2]", "rules_2"),
            ("\u{e9}quipe", "quipe"),
            ("a.outcome.login.reason.b\n", "a_outcome_login_reason_b"),
            ("\u{5065}\u{5eb7}", ""),
        ] {
            assert_eq!(label(name), expected, "{name:?}");
        }
        assert_eq!(RuleName::given("__".to_owned()), None);
    }
}
