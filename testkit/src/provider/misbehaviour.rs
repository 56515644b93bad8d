//! How a test makes the provider misbehave: whole responses, members of documents, parameters, tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oidc_gate_provider_model::{Content, Endpoint, Reply, Request};
use serde_json::Value;

use super::hold::Hold;
use super::keys::SigningKey;
use super::target::Target;

/// What replaces the correct response.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Exactly this response. The request is not processed.
    Answer {
        /// The status.
        status: u16,
        /// The header lines.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The correct response, delayed.
    Delay(Duration),
    /// The correct response, once the test releases it.
    Hold(Hold),
    /// No response at all. The request is not processed.
    Hang,
    /// The connection is closed without a response. The request is not processed.
    Refuse,
    /// The request is processed, so a code or refresh token is spent. Then the connection is closed without a response.
    DropAnswer,
    /// The correct response, but the connection is closed after half of the body.
    CloseMidBody,
}

impl Behaviour {
    /// A response with this content type.
    pub fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self::Answer { status, headers, body: body.into() }
    }

    /// A JSON response.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::answer(status, "application/json", body)
    }
}

/// How often a misbehaviour occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// For the next calls, this many times.
    Next(usize),
    /// Until [`super::Provider::behave`] is called.
    Always,
}

pub(super) type EditValue = Arc<dyn Fn(&mut Value) + Send + Sync>;
type EditText = Arc<dyn Fn(String) -> String + Send + Sync>;
pub(super) type EditPairs = Arc<dyn Fn(&mut Vec<(String, String)>) + Send + Sync>;

/// Changes to a token before and after it is signed.
#[derive(Clone, Default)]
pub struct Forgery {
    header: Option<EditValue>,
    claims: Option<EditValue>,
    payload_text: Option<EditText>,
    key: Option<SigningKey>,
    token: Option<EditText>,
}

impl fmt::Debug for Forgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forgery").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Forgery {
    /// A forgery that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the JOSE header.
    #[must_use]
    pub fn header(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.header = Some(Arc::new(edit));
        self
    }

    /// Changes the claims.
    #[must_use]
    pub fn claims(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.claims = Some(Arc::new(edit));
        self
    }

    /// Changes the payload's JSON text, for duplicate members, arrays or invalid JSON.
    #[must_use]
    pub fn payload_text(mut self, edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        self.payload_text = Some(Arc::new(edit));
        self
    }

    /// Signs with another key. The header's `alg` and `kid` follow the key, unless they are changed explicitly.
    #[must_use]
    pub fn key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Changes the finished token.
    #[must_use]
    pub fn token(mut self, edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        self.token = Some(Arc::new(edit));
        self
    }

    pub(super) fn mint(&self, right_key: &SigningKey, typ: &str, mut claims: Value) -> String {
        let key = self.key.as_ref().unwrap_or(right_key);
        let mut header = key.header(typ);
        if let Some(edit) = &self.header {
            edit(&mut header);
        }
        if let Some(edit) = &self.claims {
            edit(&mut claims);
        }
        let mut payload = claims.to_string();
        if let Some(edit) = &self.payload_text {
            payload = edit(payload);
        }
        let token = key.token(&header.to_string(), &payload);
        match &self.token {
            Some(edit) => edit(token),
            None => token,
        }
    }
}

/// All active misbehaviour of a provider, except for forgeries.
#[derive(Clone, Default)]
pub(super) struct Misbehaviour {
    /// Instead of the correct response.
    pub behaviours: Vec<(Target, Times, Behaviour)>,
    /// Edits of JSON documents.
    pub documents: Vec<(Target, EditValue)>,
    /// The edit of the parameters of a redirect to the client.
    pub authorization_response: Option<EditPairs>,
}

impl Misbehaviour {
    /// The behaviour for this call, if there is one. The oldest instruction comes first.
    pub fn take(&mut self, request: &Request) -> Option<Behaviour> {
        let due = |(target, times, _): &(Target, Times, Behaviour)| {
            target.covers(request) && *times != Times::Next(0)
        };
        let (_, times, behaviour) = self.behaviours.iter_mut().find(|entry| due(entry))?;
        if let Times::Next(left) = times {
            *left -= 1;
        }
        Some(behaviour.clone())
    }

    /// Applies the edits to the correct response.
    pub fn edit(&self, request: &Request, reply: &mut Reply) {
        match &mut reply.content {
            Content::Json(document) if reply.status == 200 => {
                for (_, edit) in self.documents.iter().filter(|(target, _)| target.covers(request)) {
                    edit(document);
                }
            }
            Content::Redirect(_, parameters) if request.endpoint != Endpoint::EndSession => {
                self.authorization_response.iter().for_each(|edit| edit(parameters));
            }
            _ => {}
        }
    }
}
