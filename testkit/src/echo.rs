//! The application behind the gate. It returns what it received, and counts requests, so that a test can assert that
//! none arrived.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::{Value, json};

use crate::process::{Trouble, free_port};
use crate::server::{Answer, Body, Server, full};

/// How many requests are stored. All are counted.
const REMEMBERED: usize = 1000;

/// A request as the application received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query as received.
    pub target: String,
    /// All header lines. Names are in lower case, values in Latin-1.
    pub headers: Vec<(String, String)>,
    /// Length of the body in bytes, after decoding the transfer coding.
    pub body_bytes: u64,
}

impl Received {
    /// All values of a header (name in lower case).
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The value of a header that occurs exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.values(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        json!({"method": self.method, "path": self.target, "headers": self.headers, "body_bytes": self.body_bytes})
    }
}

#[derive(Debug, Default)]
struct Log {
    count: u64,
    received: VecDeque<Received>,
    pages: BTreeMap<String, String>,
}

/// The running application.
///
/// The query of a request determines the response: `status=404`, `set-header=Name:value` (repeatable), `bytes=1000000`
/// (a body of this size). `/sse` sends `events=3` events at intervals of `interval=50` milliseconds. `/` is an HTML
/// page if the client accepts HTML. All other responses are JSON that describes the request.
#[derive(Debug)]
pub struct Echo {
    port: u16,
    log: Arc<Mutex<Log>>,
    server: Mutex<Option<Server>>,
}

impl Echo {
    /// Starts on a free port.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start() -> Result<Self, Trouble> {
        Self::start_on(free_port())
    }

    /// Starts on `port`.
    ///
    /// # Errors
    /// The port is in use.
    pub fn start_on(port: u16) -> Result<Self, Trouble> {
        let echo = Self { port, log: Arc::default(), server: Mutex::default() };
        echo.resume()?;
        Ok(echo)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes the port and every connection.
    pub fn stop(&self) {
        drop(self.server().take());
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// The port is in use.
    pub fn resume(&self) -> Result<(), Trouble> {
        let mut server = self.server();
        drop(server.take());
        let log = Arc::clone(&self.log);
        *server = Some(Server::start(
            self.port,
            Arc::new(move |request| -> Answer {
                let log = Arc::clone(&log);
                Box::pin(async move { Some(answer(request, &log).await) })
            }),
        )?);
        Ok(())
    }

    /// How many request heads have reached the application since it was started.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// Serves a page with this HTML at the path, like content that users write in an application.
    pub fn show(&self, path: &str, html: &str) {
        let page = format!("<!DOCTYPE html><meta charset=utf-8><title>Echo</title>{html}");
        self.lock().pages.insert(path.to_owned(), page);
    }

    /// The stored requests, oldest first. A request is stored once its body was read.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.iter().cloned().collect()
    }

    /// The last stored request.
    pub fn last(&self) -> Option<Received> {
        self.lock().received.back().cloned()
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(request: Request<Incoming>, log: &Mutex<Log>) -> Response<Body> {
    // Counted before the body is read: an interrupted request that the gate let through has reached the application
    // too.
    lock(log).count += 1;
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    let target = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    let headers = lines(&head.headers);
    let received = Received { method: head.method.to_string(), target, headers, body_bytes };
    let shown = {
        let mut log = lock(log);
        log.received.push_back(received.clone());
        if log.received.len() > REMEMBERED {
            log.received.pop_front();
        }
        log.pages.get(head.uri.path()).cloned()
    };
    let wishes = Wishes::of(head.uri.query().unwrap_or_default());
    let wants_page = received.header("accept").is_some_and(|accept| accept.contains("text/html"));
    let mut response = match (head.uri.path(), wishes.bytes) {
        _ if shown.is_some() => typed("text/html; charset=utf-8", full(shown.unwrap_or_default())),
        ("/sse", _) => events(wishes.events, wishes.interval),
        (_, Some(bytes)) => typed("application/octet-stream", full(vec![b'x'; bytes])),
        ("/", None) if wants_page => typed("text/html; charset=utf-8", full(page(&received))),
        _ => typed("application/json", full(received.to_json().to_string())),
    };
    if let Some(status) = wishes.status {
        *response.status_mut() = status;
    }
    for (name, value) in wishes.headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// The response that the query asks for.
#[derive(Default)]
struct Wishes {
    status: Option<http::StatusCode>,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    bytes: Option<usize>,
    events: u64,
    interval: Duration,
}

impl Wishes {
    fn of(query: &str) -> Self {
        let mut wishes = Self { events: 3, interval: Duration::from_millis(50), ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "status" => wishes.status = value.parse().ok(),
                "bytes" => wishes.bytes = value.parse().ok(),
                "events" => wishes.events = value.parse().unwrap_or(wishes.events),
                "interval" => wishes.interval = value.parse().map_or(wishes.interval, Duration::from_millis),
                "set-header" => {
                    wishes.headers.extend(value.split_once(':').and_then(|(name, value)| {
                        Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
                    }))
                }
                _ => {}
            }
        }
        wishes
    }
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let latin1 = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect();
    headers.iter().map(|(name, value)| (name.to_string(), latin1(value.as_bytes()))).collect()
}

fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// Server-sent events, each sent at its own time.
fn events(count: u64, interval: Duration) -> Response<Body> {
    let frames = stream::unfold(0, move |sent| async move {
        if sent >= count {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(interval).await;
        }
        Some((Ok(Frame::data(Bytes::from(format!("id: {sent}\ndata: event {sent}\n\n")))), sent + 1))
    });
    typed("text/event-stream", StreamBody::new(frames).boxed_unsync())
}

fn page(received: &Received) -> String {
    let identity = received.headers.iter().filter(|(name, _)| name.starts_with("x-forwarded-"));
    maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Echo" } }
            body {
                h1 { "You are through the gate" }
                table { @for (name, value) in identity { tr { th align="left" { (name) } td { (value) } } } }
                form method="post" action="/oauth2/logout" { button { "Sign out" } }
                h2 { "Everything that arrived" }
                pre { (format!("{:#}", received.to_json())) }
            }
        }
    }
    .into_string()
}
