//! A browser without a screen: navigation and fetch as Chromium labels them, a cookie jar, redirects on request only.

mod jar;
pub mod load;
mod pending;
pub mod raw;
mod request;
mod response;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

pub use jar::{Cookie, Jar};
pub use pending::Pending;
pub use request::Request;
pub use response::Response;

use crate::process::Trouble;

/// What Chromium sends when a person opens a page.
const ACCEPT_PAGE: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
/// Redirects that [`Client::follow`] follows; Chromium gives up at 20.
const MAX_REDIRECTS: usize = 20;

/// An HTTP client. Clones share the cookie jar, as tabs do. Each request has a connection of its own, so requests
/// spread over Envoy's workers.
#[derive(Clone, Debug, Default)]
pub struct Client {
    jar: Arc<Mutex<Jar>>,
    source: Option<IpAddr>,
}

impl Client {
    /// With an empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// With an empty jar, on a machine of that address, which has to be one of this machine's: 127.0.0.0/8 has many.
    pub fn at(address: impl Into<IpAddr>) -> Self {
        Self { source: Some(address.into()), ..Self::default() }
    }

    /// Opens a page: a top-level navigation by typing the address.
    ///
    /// # Errors
    /// No complete answer came.
    pub fn navigate(&self, url: &str) -> Result<Response, Trouble> {
        self.navigation("GET", url).send()
    }

    /// A top-level navigation that can still be changed.
    pub fn navigation(&self, method: &str, url: &str) -> Request {
        self.request(method, url)
            .header("accept", ACCEPT_PAGE)
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-site", "none")
            .header("sec-fetch-user", "?1")
    }

    /// What a script of the page does with `fetch()`.
    ///
    /// # Errors
    /// No complete answer came.
    pub fn fetch(&self, url: &str) -> Result<Response, Trouble> {
        self.fetching("GET", url).send()
    }

    /// A `fetch()` that can still be changed.
    pub fn fetching(&self, method: &str, url: &str) -> Request {
        self.request(method, url)
            .header("accept", "*/*")
            .header("sec-fetch-dest", "empty")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-site", "same-origin")
    }

    /// Submits a form of a page, as a click on its button does.
    ///
    /// # Errors
    /// No complete answer came.
    pub fn submit(&self, url: &str, fields: &[(&str, &str)]) -> Result<Response, Trouble> {
        let origin = Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        self.navigation("POST", url)
            .without("sec-fetch-site")
            .header("sec-fetch-site", "same-origin")
            .header("origin", &origin)
            .form(fields)
            .send()
    }

    /// A request with no headers of its own but the jar's cookies: what curl would send.
    pub fn request(&self, method: &str, url: &str) -> Request {
        Request::new(self.clone(), method, url)
    }

    /// Follows redirects from `response` until there is none; all answers on the way, `response` first.
    ///
    /// # Errors
    /// A hop did not answer, or there were more than 20.
    pub fn follow(&self, response: Response) -> Result<Journey, Trouble> {
        let mut hops = vec![response];
        while let Some(next) = hops.last().and_then(Response::redirect_target) {
            if hops.len() > MAX_REDIRECTS {
                return Err(Trouble::new(format!("more than {MAX_REDIRECTS} redirects, the last to {next}")));
            }
            hops.push(self.navigate(&next)?);
        }
        Ok(Journey { hops })
    }

    /// Opens a page and follows wherever it leads.
    ///
    /// # Errors
    /// As [`Client::follow`].
    pub fn visit(&self, url: &str) -> Result<Journey, Trouble> {
        self.follow(self.navigate(url)?)
    }

    /// The jar.
    pub fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Redirects, followed to their end.
#[derive(Clone, Debug)]
pub struct Journey {
    /// Every answer, in order; never empty.
    pub hops: Vec<Response>,
}

impl Journey {
    /// The answer that was no redirect.
    ///
    /// # Panics
    /// Never: a journey has at least one hop.
    pub fn end(&self) -> &Response {
        match self.hops.last() {
            Some(response) => response,
            None => unreachable!("a journey has at least one hop"),
        }
    }

    /// The addresses, in order.
    pub fn urls(&self) -> Vec<&str> {
        self.hops.iter().map(|hop| hop.url.as_str()).collect()
    }
}
