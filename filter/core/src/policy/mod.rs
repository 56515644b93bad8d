//! Who may do what: rules over method, canonical path and groups. Nothing matched means refused.
//!
//! The only output that lets a request through is a [`Permit`], and only this module can make one.

pub(crate) mod group;
pub(crate) mod identity;
pub(crate) mod mlflow;
mod permit;
mod rules;

use crate::config::{self, Access};
use crate::error::{NotAllowed, Rejection};
use crate::http::request::Request;

use crate::principal::Principal;
pub use permit::{HeaderChange, Permit};
use rules::{Answer, Rules};

/// The compiled policy of one tenant.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    admins: Vec<String>,
    users: Vec<String>,
    identity: identity::Headers,
}

impl Policy {
    /// From the validated configuration.
    pub fn new(config: &config::Policy, identity: identity::Headers) -> Self {
        Self {
            rules: Rules::new(config),
            admins: config.admins.clone(),
            users: config.users.clone(),
            identity,
        }
    }

    /// A permit for what anyone may have without signing in; `None` when it is not that.
    pub fn public(&self, request: &Request) -> Option<Permit> {
        let readings = self.rules.answers(request);
        // Public only when it is so in every reading of the path.
        (!readings.is_empty() && readings.iter().all(|answer| *answer.access == Access::Public))
            .then(|| Permit::anonymous(&self.identity, request))
    }

    /// A permit for `principal`.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] where a rule hides the path, else [`Rejection::NotAllowed`] with the groups of which
    /// one would have helped; both with the rule that decided.
    pub fn permit(&self, request: &Request, principal: &Principal) -> Result<Permit, Rejection> {
        let mut denied: Option<NotAllowed> = None;
        // The strictest reading decides: every one of them has to allow it.
        for Answer { access, rule } in self.rules.answers(request) {
            let needed: [&[String]; 2] = match access {
                Access::Public | Access::SignedIn => continue,
                Access::NotFound => return Err(Rejection::NotFound(rule.cloned())),
                Access::Deny => [&[], &[]],
                Access::Admins => [&self.admins, &[]],
                Access::Groups(groups) => [groups, &[]],
                Access::Users => [&self.users, &self.admins],
            };
            if denied.is_none() && !needed.iter().any(|groups| self.is_member(principal, groups)) {
                denied = Some(NotAllowed {
                    principal: principal.clone(),
                    needed: needed.concat(),
                    rule: rule.cloned(),
                });
            }
        }
        match denied {
            None => Ok(Permit::for_principal(&self.identity, request, principal)),
            Some(denied) => Err(Rejection::NotAllowed(Box::new(denied))),
        }
    }

    /// Whether a header of this name (in lower case) is taken out of every request, and out of its trailers.
    pub fn reserves(&self, name: &str) -> bool {
        self.identity.reserves(name)
    }

    fn is_member(&self, principal: &Principal, configured: &[String]) -> bool {
        configured.iter().any(|name| principal.groups.iter().any(|claimed| group::matches(name, claimed)))
    }
}

#[cfg(test)]
mod tests;
