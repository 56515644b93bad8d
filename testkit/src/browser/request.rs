//! One HTTP request, and sending it to a server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use url::Url;

use super::{Client, Response};
use crate::process::Trouble;

/// Time limit of one exchange, unless set.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A request before it is sent.
#[derive(Debug)]
#[must_use]
pub struct Request {
    client: Client,
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    http2: bool,
    timeout: Duration,
}

impl Request {
    pub(super) fn new(client: Client, method: &str, url: &str) -> Self {
        Self {
            client,
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            http2: false,
            timeout: TIMEOUT,
        }
    }

    /// Adds a header line. Repeating a name adds another line.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Removes a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(candidate, _)| candidate != name);
        self
    }

    /// `Authorization: Bearer …`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a form as body, with its content type.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// Sets a JSON body, with its content type.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }

    /// Uses HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sets the time limit of the whole exchange (30 s by default).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request and stores the cookies of the response. Does not follow redirects.
    ///
    /// # Errors
    /// No connection, no complete response, or the time limit has passed.
    pub fn send(self) -> Result<Response, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.exchanged())
    }

    /// Like [`Request::send`], for callers that have a runtime.
    pub(crate) async fn exchanged(self) -> Result<Response, Trouble> {
        let method = self.method.clone();
        let url = self.url.clone();
        let client = self.client.clone();
        let timeout = self.timeout;
        let response = tokio::time::timeout(timeout, self.exchange())
            .await
            .map_err(|_| Trouble::new(format!("{method} {url}: no complete answer in {timeout:?}")))?
            .map_err(|error| Trouble::new(format!("{method} {url}: {error}")))?;
        if let Ok(url) = Url::parse(&url) {
            client
                .jar()
                .store(&url, response.headers.get_all("set-cookie").iter().map(http::HeaderValue::as_bytes));
        }
        Ok(response)
    }

    async fn exchange(self) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        // The target is sent byte for byte. A URL parser would resolve the dot segments that a test needs.
        let (origin, target) = split(&self.url)?;
        let authority = origin.trim_start_matches("http://").to_owned();
        let parsed = Url::parse(&self.url)?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let host = parsed.host_str().unwrap_or_default();
        // Browsers resolve localhost to loopback (RFC 6761 6.3). The servers here listen only on IPv4.
        let host = if host == "localhost" || host.ends_with(".localhost") { "127.0.0.1" } else { host };
        let peer = lookup_host((host, port)).await?.next().ok_or("the host has no address")?;
        let stream = connect(self.client.source, peer).await?;
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
        // After 101 the connection no longer carries HTTP.
        let body = if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            Bytes::new()
        } else {
            body.collect().await?.to_bytes()
        };
        Ok(Response { url: self.url, status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// Connects, from this source address if there is one.
pub(super) async fn connect(source: Option<IpAddr>, target: SocketAddr) -> std::io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(target).await };
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(target).await
}

/// Splits into `http://host:port` and the rest, which begins with `/`.
fn split(url: &str) -> Result<(&str, &str), Trouble> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Trouble::new(format!("{url} is not http://")))?;
    let at = rest.find(['/', '?']).map_or(url.len(), |at| at + "http://".len());
    let (origin, target) = url.split_at(at);
    Ok((origin, if target.is_empty() { "/" } else { target }))
}
