//! A browser without a screen: navigation and fetch as Chromium labels them, a cookie jar, redirects on request only.

mod jar;
pub mod raw;
mod response;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use url::Url;

pub use jar::{Cookie, Jar};
pub use response::Response;

use crate::process::Trouble;

/// What Chromium sends when a person opens a page.
const ACCEPT_PAGE: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
/// How long one exchange may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects that [`Client::follow`] follows; Chromium gives up at 20.
const MAX_REDIRECTS: usize = 20;

/// An HTTP client. Clones share the cookie jar, as tabs do. Each request has a connection of its own, so requests
/// spread over Envoy's workers.
#[derive(Clone, Debug, Default)]
pub struct Client {
    jar: Arc<Mutex<Jar>>,
}

impl Client {
    /// With an empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a page: a top-level navigation by typing the address.
    ///
    /// # Errors
    /// No complete answer came.
    pub fn navigate(&self, url: &str) -> Result<Response, Trouble> {
        self.navigation("GET", url).send()
    }

    /// A top-level navigation that can still be changed.
    pub fn navigation(&self, method: &str, url: &str) -> Request<'_> {
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
    pub fn fetching(&self, method: &str, url: &str) -> Request<'_> {
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
    pub fn request(&self, method: &str, url: &str) -> Request<'_> {
        Request {
            client: self,
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            http2: false,
            timeout: TIMEOUT,
        }
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

/// A request about to be sent.
#[derive(Debug)]
#[must_use]
pub struct Request<'a> {
    client: &'a Client,
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    http2: bool,
    timeout: Duration,
}

impl Request<'_> {
    /// Adds a header line; the same name twice gives two lines.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Takes a header out again.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(candidate, _)| candidate != name);
        self
    }

    /// `Authorization: Bearer …`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// A body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A form as body, with its type.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// A JSON body, with its type.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }

    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// How long the whole exchange may take (30 s unless told).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it, and stores the cookies of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// No connection, no complete answer, or not in time.
    pub fn send(self) -> Result<Response, Trouble> {
        let method = self.method.clone();
        let url = self.url.clone();
        let client = self.client;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let timeout = self.timeout;
        let response = runtime
            .block_on(async { tokio::time::timeout(timeout, self.exchange()).await })
            .map_err(|_| Trouble::new(format!("{method} {url}: no complete answer in {timeout:?}")))?
            .map_err(|error| Trouble::new(format!("{method} {url}: {error}")))?;
        if let Ok(url) = Url::parse(&url) {
            client
                .jar()
                .store(&url, response.headers.get_all("set-cookie").iter().map(http::HeaderValue::as_bytes));
        }
        Ok(response)
    }

    async fn exchange(self) -> Result<Response, Box<dyn std::error::Error>> {
        // The target goes out byte for byte: a URL parser would resolve the dots that a test is about.
        let (origin, target) = split(&self.url)?;
        let authority = origin.trim_start_matches("http://").to_owned();
        let parsed = Url::parse(&self.url)?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let host = parsed.host_str().unwrap_or_default();
        // As browsers do for localhost (RFC 6761 6.3); our servers listen on IPv4.
        let host = if host == "localhost" || host.ends_with(".localhost") { "127.0.0.1" } else { host };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;

        let uri = if self.http2 { format!("http://{authority}{target}") } else { target.to_owned() };
        let mut builder = http::Request::builder().method(self.method.as_str()).uri(uri);
        if !self.http2 && !self.headers.iter().any(|(name, _)| name == "host") {
            builder = builder.header("host", &authority);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value.as_slice());
        }
        let cookies = self.client.jar().header_for(&parsed);
        if let Some(cookies) = cookies.filter(|_| !self.headers.iter().any(|(name, _)| name == "cookie")) {
            builder = builder.header("cookie", cookies);
        }
        let request = builder.body(Full::new(self.body))?;

        let io = TokioIo::new(stream);
        let answer: http::Response<Incoming> = if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request).await?
        };
        let (head, body) = answer.into_parts();
        // After 101 the bytes are no longer HTTP.
        let body = if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            Bytes::new()
        } else {
            body.collect().await?.to_bytes()
        };
        Ok(Response { url: self.url, status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// `http://host:port` and the rest, which begins with `/`.
fn split(url: &str) -> Result<(&str, &str), Trouble> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Trouble::new(format!("{url} is not http://")))?;
    let at = rest.find(['/', '?']).map_or(url.len(), |at| at + "http://".len());
    let (origin, target) = url.split_at(at);
    Ok((origin, if target.is_empty() { "/" } else { target }))
}
