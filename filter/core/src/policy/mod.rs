//! Access policy: rules over method, canonical path and groups. If no rule matches, the request is refused.
//!
//! The only output that lets a request through is a [`Permit`], and only this module can make one.

pub(crate) mod group;
mod header_change;
pub(crate) mod identity;
pub(crate) mod mlflow;
mod permit;
mod rules;

use crate::config::{self, Access};
use crate::error::{NotAllowed, Rejection};
use crate::http::request::Request;
use crate::principal::Principal;
pub use header_change::HeaderChange;
use identity::User;
use mlflow::Audience;
pub use permit::Permit;
use rules::{Answer, Rules};

/// The compiled policy of one tenant.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    admins: Vec<String>,
    users: Vec<String>,
    viewers: Vec<String>,
    identity: identity::Headers,
}

impl Policy {
    /// From the validated configuration.
    pub fn new(config: &config::Policy, identity: identity::Headers) -> Self {
        Self {
            rules: Rules::new(config),
            admins: config.admins.clone(),
            users: config.users.clone(),
            viewers: config.viewers.clone(),
            identity,
        }
    }

    /// A permit for a public request, which needs no sign-in. `None` if the request is not public.
    pub fn public(&self, request: &Request) -> Option<Permit> {
        let readings = self.rules.answers(request);
        // The request is public only if every reading of the path is.
        (!readings.is_empty() && readings.iter().all(|answer| *answer.access == Access::Public))
            .then(|| Permit::anonymous(&self.identity, request, self.audience(request)))
    }

    /// The header with the bearer token. It is `X-MLflow-Authorization` if that one is present and MLflow passes
    /// `Authorization` on to a model provider, whose key it then has.
    pub fn credential_header(&self, request: &Request) -> &'static str {
        let is_providers =
            request.has_header(mlflow::CREDENTIAL) && self.audience(request) == Audience::ModelProvider;
        if is_providers { mlflow::CREDENTIAL } else { identity::AUTHORIZATION }
    }

    /// Who reads the headers of the forwarded request.
    fn audience(&self, request: &Request) -> Audience {
        let Some(routes) = &self.rules.mlflow else { return Audience::Application };
        let mut audiences = request.canonical_path().readings().iter().map(|path| routes.audience(path));
        match audiences.next() {
            Some(first) if audiences.all(|other| other == first) => first,
            _ => Audience::Unclear,
        }
    }

    /// A permit for `user`.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] if a rule hides the path, otherwise [`Rejection::NotAllowed`] with the groups that would
    /// grant access. Both contain the rule that decided.
    pub fn permit(&self, request: &Request, user: User<'_>) -> Result<Permit, Rejection> {
        let principal = user.principal;
        let mut denied: Option<NotAllowed> = None;
        // The strictest reading decides, so each reading must be allowed.
        for Answer { access, rule } in self.rules.answers(request) {
            let needed: [&[String]; 3] = match access {
                Access::Public | Access::SignedIn => continue,
                Access::NotFound => return Err(Rejection::NotFound(rule.cloned())),
                Access::Deny => [&[], &[], &[]],
                Access::Admins => [&self.admins, &[], &[]],
                Access::Groups(groups) => [groups, &[], &[]],
                Access::Users => [&self.users, &self.admins, &[]],
                Access::Viewers => [&self.viewers, &self.users, &self.admins],
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
            None => Ok(Permit::for_user(&self.identity, request, user, self.audience(request))),
            Some(denied) => Err(Rejection::NotAllowed(Box::new(denied))),
        }
    }

    /// Whether headers and trailers of this name (in lower case) are removed from every request.
    pub fn reserves(&self, name: &str) -> bool {
        self.identity.reserves(name)
    }

    fn is_member(&self, principal: &Principal, configured: &[String]) -> bool {
        configured.iter().any(|name| principal.groups.iter().any(|claimed| group::matches(name, claimed)))
    }
}

#[cfg(test)]
mod tests;
