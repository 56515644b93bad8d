//! A browser without a screen: navigation and `fetch()` with Chromium's headers, and a cookie jar. It follows redirects
//! only on request.

mod jar;
pub mod load;
mod pending;
pub mod raw;
mod request;
mod response;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

pub use jar::Jar;
pub use pending::Pending;
pub use request::Request;
pub use response::Response;

use crate::process::Trouble;

/// Chromium's `Accept` header for a navigation.
const ACCEPT_PAGE: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
/// How many redirects [`Client::follow`] follows. Chromium has the same limit.
const MAX_REDIRECTS: usize = 20;

/// An HTTP client. Clones share the cookie jar, as browser tabs do. Each request uses a new connection, so requests are
/// spread over Envoy's workers.
#[derive(Clone, Debug, Default)]
pub struct Client {
    jar: Arc<Mutex<Jar>>,
    source: Option<IpAddr>,
}

impl Client {
    /// A client with an empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client with an empty jar that connects from this address. It must belong to this machine; 127.0.0.0/8 offers
    /// many.
    pub fn at(address: impl Into<IpAddr>) -> Self {
        Self { source: Some(address.into()), ..Self::default() }
    }

    /// Opens a page as if its address had been typed.
    ///
    /// # Errors
    /// There is no complete response.
    pub fn navigate(&self, url: &str) -> Result<Response, Trouble> {
        self.navigation("GET", url).send()
    }

    /// A top-level navigation that can still be modified.
    pub fn navigation(&self, method: &str, url: &str) -> Request {
        self.request(method, url)
            .header("accept", ACCEPT_PAGE)
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-site", "none")
            .header("sec-fetch-user", "?1")
    }

    /// Sends a `fetch()` as a script on the page does.
    ///
    /// # Errors
    /// There is no complete response.
    pub fn fetch(&self, url: &str) -> Result<Response, Trouble> {
        self.fetching("GET", url).send()
    }

    /// A `fetch()` that can still be modified.
    pub fn fetching(&self, method: &str, url: &str) -> Request {
        self.request(method, url)
            .header("accept", "*/*")
            .header("sec-fetch-dest", "empty")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-site", "same-origin")
    }

    /// Submits a form on the page, as a click on its button does.
    ///
    /// # Errors
    /// There is no complete response.
    pub fn submit(&self, url: &str, fields: &[(&str, &str)]) -> Result<Response, Trouble> {
        let origin = Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        self.navigation("POST", url)
            .without("sec-fetch-site")
            .header("sec-fetch-site", "same-origin")
            .header("origin", &origin)
            .form(fields)
            .send()
    }

    /// A request without headers except the jar's cookies, as curl sends it.
    pub fn request(&self, method: &str, url: &str) -> Request {
        Request::new(self.clone(), method, url)
    }

    /// Follows redirects from `response` to the end. Returns all responses, starting with `response`.
    ///
    /// # Errors
    /// A server did not respond, or there were more than 20 redirects.
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

    /// Opens a page and follows all redirects.
    ///
    /// # Errors
    /// As [`Client::follow`].
    pub fn visit(&self, url: &str) -> Result<Journey, Trouble> {
        self.follow(self.navigate(url)?)
    }

    /// Opens a page that needs a login. Returns where the browser is sent to sign in, at once or by way of the gate's
    /// page that keeps the fragment.
    ///
    /// # Errors
    /// There is no complete response.
    pub fn sent_to_sign_in(&self, url: &str) -> Result<Option<String>, Trouble> {
        let first = self.navigate(url)?.redirect_target();
        match first {
            Some(login) if login.contains("/oauth2/login?rd=") => {
                Ok(self.navigate(&login)?.redirect_target())
            }
            other => Ok(other),
        }
    }

    /// The cookie jar.
    pub fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chain of redirects that was followed to its end.
#[derive(Clone, Debug)]
pub struct Journey {
    /// All responses in order. Never empty.
    pub hops: Vec<Response>,
}

impl Journey {
    /// The last response, which is not a redirect.
    ///
    /// # Panics
    /// Never: there is at least one response.
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
