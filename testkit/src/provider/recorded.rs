//! A request to the provider, recorded for the test.

use std::collections::HashSet;

use http::request::Parts;

use super::Endpoint;

/// A request as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The method.
    pub method: String,
    /// Path and query as received.
    pub target: String,
    /// Header lines. Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The decoded form in the body. Empty if there is none.
    pub form: Vec<(String, String)>,
}

impl Recorded {
    pub(super) fn new(endpoint: Endpoint, head: &Parts, body: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers =
            head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
        let form = form_urlencoded::parse(body).map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        Self { endpoint, method: head.method.to_string(), target, headers, form }
    }

    /// The first header with this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
    }

    /// A field of the form.
    pub fn form_field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// RFC 6749 3.1: a parameter must not occur more than once.
    pub(super) fn repeated_parameter(&self) -> Option<String> {
        repeated(self.query().map(|(name, _)| name))
    }

    /// RFC 6749 3.2: the same for the token endpoint.
    pub(super) fn repeated_form_field(&self) -> Option<String> {
        repeated(self.form.iter().map(|(name, _)| name.clone()))
    }

    pub(super) fn cookie(&self, name: &str) -> Option<String> {
        let headers = self.headers.iter().filter(|(candidate, _)| candidate == "cookie");
        let mut pairs =
            headers.flat_map(|(_, value)| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(candidate, _)| *candidate == name).map(|(_, value)| value.to_owned())
    }

    fn query(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).map(|(n, v)| (n.into_owned(), v.into_owned()))
    }
}

fn repeated(mut names: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(name.clone()))
}
