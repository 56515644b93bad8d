//! A response of the provider, in the form of Keycloak 26.

use serde_json::{Value, json};

use crate::pages;
use crate::realm::Session;

/// A response before it is sent.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers in addition to those of the content.
    pub extra: Vec<(String, String)>,
    /// The content.
    pub content: Content,
    /// The session that the request ended. If it is announced, then before the response is sent.
    pub ended: Option<Session>,
}

/// The content of a response.
#[derive(Clone, Debug)]
pub enum Content {
    /// A JSON document.
    Json(Value),
    /// A page.
    Html(String),
    /// A redirect of the browser to this address, with these parameters.
    Redirect(String, Vec<(String, String)>),
    /// Nothing.
    Empty,
}

impl Reply {
    /// A response with this content.
    pub const fn new(status: u16, content: Content) -> Self {
        Self { status, extra: Vec::new(), content, ended: None }
    }

    /// A document.
    pub const fn json(status: u16, document: Value) -> Self {
        Self::new(status, Content::Json(document))
    }

    /// RFC 6749 5.2.
    pub(crate) fn refusal((status, error, description): Refusal) -> Self {
        Self::json(status, json!({"error": error, "error_description": description}))
    }

    /// A page with one sentence.
    pub(crate) fn sentence(status: u16, text: &str) -> Self {
        Self::new(status, Content::Html(pages::sentence(text)))
    }

    pub(crate) fn with(mut self, name: &str, value: String) -> Self {
        self.extra.push((name.to_owned(), value));
        self
    }

    /// All headers.
    pub fn headers(&self) -> Vec<(String, String)> {
        let content_type = match self.content {
            Content::Json(_) => "application/json",
            Content::Html(_) => "text/html;charset=UTF-8",
            Content::Redirect(..) | Content::Empty => "text/plain",
        };
        let mut headers = vec![
            ("content-type".to_owned(), content_type.to_owned()),
            ("cache-control".to_owned(), "no-store".to_owned()),
        ];
        headers.extend(self.location().map(|location| ("location".to_owned(), location)));
        headers.extend(self.extra.iter().cloned());
        headers
    }

    /// The target of a redirect.
    pub fn location(&self) -> Option<String> {
        let Content::Redirect(uri, parameters) = &self.content else { return None };
        let separator = match (parameters.is_empty(), uri.contains('?')) {
            (true, _) => return Some(uri.clone()),
            (false, true) => '&',
            (false, false) => '?',
        };
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        Some(format!("{uri}{separator}{query}"))
    }

    /// The body.
    pub fn body(&self) -> Vec<u8> {
        match &self.content {
            Content::Json(document) => document.to_string().into_bytes(),
            Content::Html(page) => page.clone().into_bytes(),
            Content::Redirect(..) | Content::Empty => Vec::new(),
        }
    }
}

/// Status, `error`, `error_description`.
pub(crate) type Refusal = (u16, &'static str, &'static str);
