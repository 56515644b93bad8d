//! A complete HTTP response, with accessors for tests.

use std::fmt;

use http::HeaderMap;
use hyper::body::Bytes;
use serde_json::Value;
use url::Url;

/// A complete HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The URL of the request.
    pub url: String,
    /// The status.
    pub status: u16,
    /// All header lines.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The value of a header that occurs once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        value.to_str().ok()
    }

    /// All values of a header, as lossy text.
    pub fn header_lines(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The body, as lossy text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The absolute target of a redirect, or of the gate's page that leads a browser without scripts to the login.
    /// `None` if the response is neither.
    pub fn redirect_target(&self) -> Option<String> {
        let location = match self.status {
            300..=399 => self.header("location")?.to_owned(),
            401 => self.login_without_scripts()?,
            _ => return None,
        };
        if location.starts_with("http://") || location.starts_with("https://") {
            return Some(location);
        }
        Url::parse(&self.url).ok()?.join(&location).ok().map(Into::into)
    }

    /// Where the gate's page that keeps the fragment leads a browser without scripts.
    fn login_without_scripts(&self) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once("<noscript><meta http-equiv=\"refresh\" content=\"0; url=")?;
        rest.split_once('"').map(|(url, _)| url.replace("&amp;", "&"))
    }

    /// A query parameter of the redirect's target.
    pub fn redirect_parameter(&self, name: &str) -> Option<String> {
        let url = Url::parse(&self.redirect_target()?).ok()?;
        url.query_pairs().find(|(candidate, _)| candidate == name).map(|(_, value)| value.into_owned())
    }

    /// The absolute target of the page's first form.
    pub fn form_action(&self) -> Option<String> {
        let text = self.text();
        let form = text.split_once("<form")?.1;
        let action = form.split_once("action=\"")?.1.split_once('"')?.0.replace("&amp;", "&");
        Url::parse(&self.url).ok()?.join(&action).ok().map(Into::into)
    }
}

/// The whole response, for failed assertions.
impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} from {}", self.status, self.url)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let text: String = self.text().chars().take(2000).collect();
        write!(f, "{text}")
    }
}
