//! One request to a worker and its outcome.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot::channel;

use super::flood::NETWORK;
use crate::contexts::{Decided, Reply};
use crate::envoy::WorkerId;
use crate::executor::{Moment, Span};
use crate::ledger::{SESSION_COOKIE, session_cookie};
use crate::provider::AUTHORITY;
use crate::sabotage::Sabotage;
use crate::worker::Request;
use crate::world::World;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Identifies the request.
    pub number: u64,
    /// Headers, pseudo-headers first.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The client's address, as Envoy sees it.
    pub address: String,
}

/// The reply as the client sees it.
#[derive(Debug)]
pub enum Seen {
    /// The application replied.
    Served,
    /// The gate replied.
    Answered(Reply),
}

impl Seen {
    /// The status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Served => 200,
            Self::Answered(reply) => reply.status,
        }
    }

    /// A header of the gate's reply.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// All values of a header of the gate's reply.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let headers = match self {
            Self::Served => &[][..],
            Self::Answered(reply) => &reply.headers,
        };
        headers.iter().filter(move |(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }
}

impl Ask {
    /// A request to the gate's origin.
    pub fn new(world: &World, method: &str, target: &str) -> Self {
        let number = world.next_request();
        let headers = [
            (":method", method.to_owned()),
            (":path", target.to_owned()),
            ("x-request-id", format!("request-{number}")),
            (":authority", AUTHORITY.to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { number, headers, body: Vec::new(), address: "192.0.2.1:40000".to_owned() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds the headers by which a browser says what the request is for (Fetch Metadata).
    #[must_use]
    pub fn fetch_metadata(self, site: &str, mode: &str, destination: &str) -> Self {
        self.header("sec-fetch-site", site)
            .header("sec-fetch-mode", mode)
            .header("sec-fetch-dest", destination)
    }

    /// Sets the client's address.
    #[must_use]
    pub fn from_address(mut self, address: String) -> Self {
        self.address = address;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// For a planted bug: removes the signature of the ticket, so that only Redis can verify it.
    fn forget_signature(&mut self) {
        let prefix = format!("{SESSION_COOKIE}=");
        for (_, value) in
            self.headers.iter_mut().filter(|(name, value)| name == "cookie" && value.starts_with(&prefix))
        {
            value.truncate(prefix.len() + 64);
        }
    }

    /// The first header with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// The path, without query.
    pub fn path(&self) -> &str {
        self.get(":path").and_then(|target| target.split('?').next()).unwrap_or_default()
    }

    /// The query.
    pub fn query(&self) -> &str {
        self.get(":path").and_then(|target| target.split_once('?')).map_or("", |(_, query)| query)
    }
}

/// A parameter of a query.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(candidate, _)| candidate == name).map(|(_, value)| value.into_owned())
}

/// Sends a request to a worker. `None` if no worker runs, or it crashed before it replied. Dropping the future means
/// that the client disconnects, and the worker drops the request.
pub async fn exchange(world: &Rc<World>, at: WorkerId, mut ask: Ask) -> Option<Seen> {
    if world.plan.sabotage == Some(Sabotage::AskAboutForgedTickets) && ask.address.starts_with(NETWORK) {
        ask.forget_signature();
    }
    let pause = || world.executor.sleep(Duration::from_micros(world.rng.between(20, 2_500)));
    pause().await;
    let worker = &world.envoys[at.envoy].workers[at.worker];
    let life = worker.life()?;
    let arrived = world.executor.now();
    let number = ask.number;
    world.trace.event(arrived, "request", number, || {
        let credential = world.ledger.describe(&ask);
        let method = ask.get(":method").unwrap_or_default();
        format!("{number} at {at}: {method} {} {credential}", ask.get(":path").unwrap_or_default())
    });
    world.ledger.arrived(&ask, arrived);
    let session = session_cookie(&ask).map(str::to_owned);
    let (sender, receiver) = channel();
    let inside = world.clone();
    let place = Rc::new(Cell::default());
    let request = Request::new(world, life, &ask, place.clone());
    let task = world.executor.spawn(worker.owner(), Span::Finite, "stream", async move {
        let (decided, reason) = request.await;
        let seen = judge(&inside, &ask, at, arrived, decided, &reason);
        // The client may have disconnected just now.
        let _ = sender.send(seen);
    });
    place.set(task);
    let mut stream =
        Cancel { world: world.clone(), task, unanswered: session.map(|cookie| (cookie, arrived)) };
    let seen = receiver.await.ok()?;
    stream.unanswered = None;
    pause().await;
    Some(seen)
}

/// Checks and records every decision of the gate.
fn judge(world: &World, ask: &Ask, at: WorkerId, arrived: Moment, decided: Decided, reason: &str) -> Seen {
    let now = world.executor.now();
    let number = ask.number;
    let status = match &decided {
        Decided::Forwarded(_) => 0,
        Decided::Answered(reply) => u64::from(reply.status),
    };
    world.trace.event(now, "decision", number.wrapping_mul(1000).wrapping_add(status), || match &decided {
        Decided::Forwarded(upstream) => format!("{number} forwarded: {reason}, {:?}", upstream.subject),
        Decided::Answered(reply) => format!("{number} answered: {} {reason}", reply.status),
    });
    world.ledger.decided(world, ask, at, arrived, &decided, reason);
    match decided {
        Decided::Forwarded(_) => Seen::Served,
        Decided::Answered(reply) => Seen::Answered(reply),
    }
}

/// Cancels the stream when the client stops waiting for it.
struct Cancel {
    world: Rc<World>,
    task: u64,
    /// The session of the unanswered request, and when it arrived.
    unanswered: Option<(String, Moment)>,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if let Some((cookie, arrived)) = self.unanswered.take() {
            self.world.ledger.went_away(&cookie, arrived);
        }
        self.world.executor.cancel(self.task);
    }
}
