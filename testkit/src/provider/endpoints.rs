//! The provider's endpoints. Each turns one request into one response, in the form of Keycloak 26.

use serde_json::Value;

use super::Recorded;
use super::back_channel::Outgoing;
use super::realm::Realm;
use super::target::Endpoint;
use super::{authorize, sessions, token};

/// A response before it is sent.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Calls that must be complete, or have timed out, before this response is sent.
    pub first: Vec<Outgoing>,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            status,
            headers: vec![header("content-type", content_type), header("cache-control", "no-store")],
            body: body.into(),
            first: Vec::new(),
        }
    }

    pub fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    pub fn html(status: u16, page: String) -> Self {
        Self::new(status, "text/html;charset=UTF-8", page)
    }

    pub fn redirect(location: String) -> Self {
        Self::new(302, "text/plain", "").with("location", location)
    }

    pub fn with(mut self, name: &str, value: String) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }

    /// Delays the response until these calls are complete.
    pub fn after(mut self, calls: impl IntoIterator<Item = Outgoing>) -> Self {
        self.first.extend(calls);
        self
    }
}

/// The correct response.
pub(super) fn answer(realm: &mut Realm, request: &Recorded) -> Reply {
    match request.endpoint {
        Endpoint::Discovery => document(realm, request, realm.discovery()),
        Endpoint::Jwks => document(realm, request, realm.keys.jwks()),
        Endpoint::Authorization => authorize::authorize(realm, request),
        Endpoint::SignIn => authorize::sign_in(realm, request),
        Endpoint::Token => token::token(realm, request),
        Endpoint::UserInfo => sessions::userinfo(realm, request),
        Endpoint::EndSession => sessions::end_session(realm, request),
        Endpoint::Revocation => sessions::revoke(realm, request),
        Endpoint::Introspection => sessions::introspect(realm, request),
    }
}

/// A document, with the edits that the test requested.
pub(super) fn document(realm: &Realm, request: &Recorded, mut document: Value) -> Reply {
    realm.misbehaviour.apply_to_document(request, &mut document);
    Reply::json(200, &document)
}

/// A registered address that ends in `*` matches all addresses with this prefix.
pub(super) fn is_registered(registered: &[String], uri: &str) -> bool {
    registered.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => uri.starts_with(prefix) && !uri.contains(".."),
        None => known == uri,
    })
}
