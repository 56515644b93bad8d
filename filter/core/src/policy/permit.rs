//! The permit. Only with it is a request forwarded. It contains the changes to the request's headers.

use crate::http::request::Request;
use crate::policy::header_change::HeaderChange;
use crate::policy::identity::{Headers, User};
use crate::policy::mlflow::Audience;
use crate::principal::Subject;

/// Permission to forward one request. Only [`crate::policy`] can create it.
#[derive(Debug)]
pub struct Permit {
    changes: Vec<HeaderChange>,
    subject: Option<Subject>,
}

impl Permit {
    pub(super) fn anonymous(headers: &Headers, request: &Request, audience: Audience) -> Self {
        Self { changes: headers.changes(request, None, audience), subject: None }
    }

    pub(super) fn for_user(headers: &Headers, request: &Request, user: User<'_>, audience: Audience) -> Self {
        Self {
            changes: headers.changes(request, Some(user), audience),
            subject: Some(user.principal.subject.clone()),
        }
    }

    /// The changes to the request's headers before it is forwarded.
    pub fn changes(&self) -> &[HeaderChange] {
        &self.changes
    }

    /// The subject for the access log. `None` on a public path.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_ref().map(Subject::as_str)
    }
}
