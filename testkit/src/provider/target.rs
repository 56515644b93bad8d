//! What a test refers to: an endpoint of the provider, or one grant at the token endpoint.

use oidc_gate_provider_model::{Endpoint, Grant, Request};

/// An endpoint, or one grant at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// All requests to this endpoint.
    Endpoint(Endpoint),
    /// Only this grant at the token endpoint.
    Grant(Grant),
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl From<Grant> for Target {
    fn from(grant: Grant) -> Self {
        Self::Grant(grant)
    }
}

impl Target {
    pub(super) fn covers(self, request: &Request) -> bool {
        match self {
            Self::Endpoint(endpoint) => request.endpoint == endpoint,
            Self::Grant(grant) => request.grant() == Some(grant),
        }
    }
}
