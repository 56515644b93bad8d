//! The details of a refusal by policy.

use crate::config::RuleName;
use crate::principal::Principal;
use crate::quote::quote_list;

/// How many groups the log names, and how many characters of each.
const MAX_LOGGED_GROUPS: usize = 20;
const MAX_LOGGED_GROUP_CHARS: usize = 100;

/// Who was refused, and what would have granted access.
#[derive(Clone, Debug)]
pub struct NotAllowed {
    /// Who was refused.
    pub principal: Principal,
    /// Groups of which one is required. Empty if no group has access.
    pub needed: Vec<String>,
    /// The rule that refused. `None` if no rule matches the request.
    pub rule: Option<RuleName>,
}

impl NotAllowed {
    /// What the log adds to the reason.
    pub fn detail(&self) -> String {
        let no_list = "the provider sent no list of groups: _claim_names refers to another source; ";
        let unknown = if self.principal.groups_elsewhere { no_list } else { "" };
        format!("{unknown}needs one of [{}]", self.needed.join(", "))
    }

    /// The principal's groups for the log: the first few, escaped.
    pub fn groups(&self) -> String {
        quote_list(&self.principal.groups, MAX_LOGGED_GROUPS, MAX_LOGGED_GROUP_CHARS)
    }
}
