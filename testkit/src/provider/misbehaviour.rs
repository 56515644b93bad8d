//! How a provider is told to misbehave: whole answers, members of documents, parameters, tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::hold::Hold;
use super::keys::SigningKey;
use super::{Recorded, Target};

/// What happens instead of the right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// This very answer, and nothing is done.
    Answer {
        /// The status.
        status: u16,
        /// The header lines.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The right answer, late.
    Delay(Duration),
    /// The right answer, when the test says so.
    Hold(Hold),
    /// Never an answer; nothing is done.
    Hang,
    /// The connection is closed without a word; nothing is done.
    Refuse,
    /// The right answer is made (a code or a refresh token is spent), and the connection closed without a word of it.
    DropAnswer,
    /// The right answer, whose connection is closed after half of the body.
    CloseMidBody,
}

impl Behaviour {
    /// An answer with one content type.
    pub fn answer(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self::Answer { status, headers, body: body.into() }
    }

    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::answer(status, "application/json", body)
    }
}

/// How often a misbehaviour happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// For so many calls, then never again.
    Next(usize),
    /// Until the provider is told to behave.
    Always,
}

/// Which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The ID token.
    Id,
    /// The access token.
    Access,
    /// The logout token, and the callbacks to `adminUrl`.
    Logout,
}

type EditValue = Arc<dyn Fn(&mut Value) + Send + Sync>;
type EditText = Arc<dyn Fn(String) -> String + Send + Sync>;
type EditPairs = Arc<dyn Fn(&mut Vec<(String, String)>) + Send + Sync>;

/// What becomes of a token before and while it is signed.
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
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Edits the JOSE header.
    #[must_use]
    pub fn header(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.header = Some(Arc::new(edit));
        self
    }

    /// Edits the claims.
    #[must_use]
    pub fn claims(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.claims = Some(Arc::new(edit));
        self
    }

    /// Edits the payload's JSON text: duplicate members, arrays, no JSON at all.
    #[must_use]
    pub fn payload_text(mut self, edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        self.payload_text = Some(Arc::new(edit));
        self
    }

    /// Signs with another key; `alg` and `kid` of the header follow it, unless edited.
    #[must_use]
    pub fn key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Edits the finished token.
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

/// Everything a provider was told to do wrong.
#[derive(Clone, Default)]
pub(super) struct Misbehaviour {
    behaviours: Vec<(Target, Times, Behaviour)>,
    documents: Vec<(Target, EditValue)>,
    authorization_response: Option<EditPairs>,
    pub id_token: Forgery,
    pub access_token: Forgery,
    pub logout_token: Forgery,
}

impl Misbehaviour {
    pub fn add(&mut self, target: Target, times: Times, behaviour: Behaviour) {
        self.behaviours.push((target, times, behaviour));
    }

    pub fn edit_document(&mut self, target: Target, edit: EditValue) {
        self.documents.push((target, edit));
    }

    pub fn edit_authorization_response(&mut self, edit: EditPairs) {
        self.authorization_response = Some(edit);
    }

    /// What this call meets, if anything; oldest instruction first.
    pub fn take(&mut self, request: &Recorded) -> Option<Behaviour> {
        let due = |(target, times, _): &(Target, Times, Behaviour)| {
            target.covers(request) && *times != Times::Next(0)
        };
        let (_, times, behaviour) = self.behaviours.iter_mut().find(|entry| due(entry))?;
        if let Times::Next(left) = times {
            *left -= 1;
        }
        Some(behaviour.clone())
    }

    pub fn apply_to_document(&self, request: &Recorded, document: &mut Value) {
        for (_, edit) in self.documents.iter().filter(|(target, _)| target.covers(request)) {
            edit(document);
        }
    }

    pub fn apply_to_authorization_response(&self, parameters: &mut Vec<(String, String)>) {
        if let Some(edit) = &self.authorization_response {
            edit(parameters);
        }
    }
}
