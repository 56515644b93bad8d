//! What is known of a request that policy denied.

use crate::config::RuleName;
use crate::principal::Principal;
use crate::quote::quote_list;

/// Groups of a refused caller that the log names, and characters of each.
const MAX_LOGGED_GROUPS: usize = 20;
const MAX_LOGGED_GROUP_CHARS: usize = 100;

/// Who was refused, and what would have let them in.
#[derive(Clone, Debug)]
pub struct NotAllowed {
    /// Who it is.
    pub principal: Principal,
    /// Groups of which one is needed; empty when no group would help.
    pub needed: Vec<String>,
    /// The rule that says so; `None` when there is no rule for this request.
    pub rule: Option<RuleName>,
}

impl NotAllowed {
    /// What the log adds to the reason.
    pub fn detail(&self) -> String {
        let no_list = "the provider sent no list of groups: _claim_names says that it is elsewhere; ";
        let unknown = if self.principal.groups_elsewhere { no_list } else { "" };
        format!("{unknown}needs one of [{}]", self.needed.join(", "))
    }

    /// The caller's groups for the log: some of them, escaped.
    pub fn groups(&self) -> String {
        quote_list(&self.principal.groups, MAX_LOGGED_GROUPS, MAX_LOGGED_GROUP_CHARS)
    }
}
