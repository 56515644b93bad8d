//! The permit: the only thing that forwards a request, together with how its headers must look upstream.

use crate::http::request::Request;
use crate::policy::identity::Headers;
use crate::principal::Principal;

/// Permission to forward one request. It can't be made outside [`crate::policy`].
#[derive(Debug)]
pub struct Permit {
    changes: Vec<HeaderChange>,
    subject: Option<String>,
}

/// One change to the request's headers, in the order in which they are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Take out every header of that name.
    Remove(String),
    /// Take out every header of that name and set this one value.
    Set(&'static str, Vec<u8>),
}

impl Permit {
    pub(super) fn anonymous(headers: &Headers, request: &Request) -> Self {
        Self { changes: headers.changes(request, None), subject: None }
    }

    pub(super) fn for_principal(headers: &Headers, request: &Request, principal: &Principal) -> Self {
        Self { changes: headers.changes(request, Some(principal)), subject: Some(principal.subject.clone()) }
    }

    /// What has to be done to the request's headers before it goes on.
    pub fn changes(&self) -> &[HeaderChange] {
        &self.changes
    }

    /// The subject, for the access log; `None` on a public path.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }
}
