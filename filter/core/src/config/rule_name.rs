//! What a rule is called, and what the metric makes of its name.

/// Reasons of rules that the metric tells apart. Envoy keeps the counter of each until it ends.
pub const MAX_RULE_REASONS: usize = 100;

/// What a rule is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleName {
    /// By the operator: the log, the metric and the denial say it.
    Given {
        /// As it was written.
        name: String,
        /// What the metric makes of it: `a-z`, `0-9` and `_`.
        label: String,
    },
    /// By the gate, for a rule of a preset or one without a name: only the log says it.
    Own(String),
}

impl RuleName {
    /// As the operator wrote it; `None` when the metric could make nothing of it.
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

    /// What a refused client sees: the name that the operator chose, if there is one.
    pub fn shown(&self) -> Option<&str> {
        match self {
            Self::Given { name, .. } => Some(name),
            Self::Own(_) => None,
        }
    }

    /// The reason of a refusal by this rule that without it would have the reason `refusal`.
    pub fn reason(&self, refusal: &str) -> Option<String> {
        match self {
            Self::Given { label, .. } => Some(format!("{refusal}_{label}")),
            Self::Own(_) => None,
        }
    }
}

/// ASCII letters and digits in lower case; whatever else stands between them is one `_`.
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
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

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
