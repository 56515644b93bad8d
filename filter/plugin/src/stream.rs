//! One HTTP stream: asks the gate, holds everything back until it has decided, and does what it says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use oidc_gate_core::caller::Caller;
use oidc_gate_core::gate::{Decision, Gate};
use oidc_gate_core::host::{CalloutError, CalloutReply};
use oidc_gate_core::http::body::{Arrival, Body, MAX_BODY_LEN, TooLong};
use oidc_gate_core::http::reply::Reply;
use oidc_gate_core::http::request_id;
use oidc_gate_core::policy::{HeaderChange, Permit};

use crate::abi::Action;
use crate::executor::{Executor, Owner, Span};
use crate::hostcalls::{self, Buffer, Map};

/// Requests of one worker that may wait for their decision at the same time; more get 503 at once.
const MAX_WAITING: usize = 4096;

/// Bodies that one worker reads at the same time: strangers who send theirs slowly must not take all the room above.
const MAX_BODIES: usize = 1024;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In the headers callback, the gate has not decided yet.
    Deciding,
    /// The callback returned without a decision; the request is held.
    Waiting,
    /// It goes on.
    Forwarded,
    /// It was answered here.
    Replied,
}

/// The proxy-wasm context of one stream.
pub struct Stream {
    id: u32,
    gate: Option<Rc<Gate>>,
    executor: Rc<Executor>,
    phase: Rc<Cell<Phase>>,
    task: Cell<Option<u64>>,
    /// The body, where an endpoint of the gate reads it.
    incoming: RefCell<Option<Incoming>>,
    /// How many bodies this worker reads.
    bodies: Rc<Cell<usize>>,
}

/// A body that is being collected.
struct Incoming {
    bytes: Vec<u8>,
    arrival: Arrival,
    _place: Place,
}

/// One of the bodies that are read at the same time.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(taken: &Rc<Cell<usize>>) -> Option<Self> {
        if taken.get() >= MAX_BODIES {
            return None;
        }
        taken.set(taken.get().saturating_add(1));
        Some(Self(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Stream {
    pub fn new(id: u32, gate: Option<Rc<Gate>>, executor: Rc<Executor>, bodies: Rc<Cell<usize>>) -> Self {
        Self {
            bodies,
            id,
            gate,
            executor,
            phase: Rc::new(Cell::new(Phase::Deciding)),
            task: Cell::default(),
            incoming: RefCell::default(),
        }
    }

    pub fn request_headers(&self, end_of_stream: bool) -> Action {
        let Some(gate) = self.gate.clone() else { return self.unavailable() };
        if self.executor.waiting() >= MAX_WAITING {
            return self.unavailable();
        }
        let headers = hostcalls::headers(Map::RequestHeaders);
        let caller = Caller::parse(&hostcalls::property(&["source", "address"]));
        let reads_body = !end_of_stream && gate.reads_body(&headers);
        let body = if reads_body {
            let Some(place) = Place::take(&self.bodies) else { return self.unavailable() };
            let (arrival, body) = Body::arriving();
            *self.incoming.borrow_mut() = Some(Incoming { bytes: Vec::new(), arrival, _place: place });
            body
        } else {
            Body::none()
        };
        let phase = self.phase.clone();
        let task = Box::pin(async move {
            let decision = gate.decide(headers, body, caller).await;
            let was = phase.get();
            phase.set(carry_out(decision));
            if was == Phase::Waiting && phase.get() == Phase::Forwarded {
                hostcalls::continue_request();
            }
        });
        self.task.set(Some(self.executor.spawn(Owner::Stream(self.id), Span::Finite, task)));
        self.executor.run(Owner::Stream(self.id));
        if self.phase.get() == Phase::Deciding {
            self.phase.set(Phase::Waiting);
        }
        match self.phase.get() {
            Phase::Forwarded => Action::Continue,
            Phase::Waiting if reads_body => Action::Stop,
            Phase::Deciding | Phase::Waiting | Phase::Replied => Action::StopAllAndWatermark,
        }
    }

    pub fn request_body(&self, size: usize, end_of_stream: bool) -> Action {
        if self.phase.get() == Phase::Forwarded {
            return Action::Continue;
        }
        if let Some(incoming) = self.incoming.borrow_mut().as_mut() {
            // One byte more than allowed tells that it is too long.
            let room = MAX_BODY_LEN.saturating_add(1).saturating_sub(incoming.bytes.len());
            incoming.bytes.extend(hostcalls::bytes(Buffer::RequestBody, size.min(room)));
        }
        let is_long = |incoming: &Incoming| incoming.bytes.len() > MAX_BODY_LEN;
        if end_of_stream || self.incoming.borrow().as_ref().is_some_and(is_long) {
            self.body_arrived();
        }
        // It is for the gate and goes no further.
        Action::StopNoBuffer
    }

    pub fn request_trailers(&self) -> Action {
        // HD04: identity in trailers is as little the client's to claim as in headers.
        for (name, _) in hostcalls::headers(Map::RequestTrailers) {
            if self.gate.as_ref().is_none_or(|gate| gate.refuses_trailer(&name)) {
                let _ = hostcalls::remove_header(Map::RequestTrailers, &name);
            }
        }
        self.body_arrived();
        if self.phase.get() == Phase::Forwarded { Action::Continue } else { Action::Stop }
    }

    pub fn response_headers(&self) {
        // Our own replies pass here, too; what the application sets in our name is taken out (CK12).
        if let (Phase::Forwarded, Some(gate)) = (self.phase.get(), &self.gate) {
            let cookies: Vec<_> = hostcalls::headers(Map::ResponseHeaders)
                .into_iter()
                .filter(|(name, _)| name == "set-cookie")
                .map(|(_, value)| value)
                .collect();
            if cookies.iter().any(|cookie| gate.sets_our_cookie(cookie)) {
                let _ = hostcalls::remove_header(Map::ResponseHeaders, "set-cookie");
                for cookie in cookies.iter().filter(|cookie| !gate.sets_our_cookie(cookie)) {
                    hostcalls::add_header(Map::ResponseHeaders, "set-cookie", cookie);
                }
            }
        }
    }

    pub fn answered(&self, token: u32, reply: Result<CalloutReply, CalloutError>) {
        self.executor.answered(token, reply);
        self.executor.run(Owner::Stream(self.id));
    }

    fn body_arrived(&self) {
        let incoming = self.incoming.borrow_mut().take();
        if let Some(Incoming { bytes, arrival, .. }) = incoming {
            arrival.complete(if bytes.len() > MAX_BODY_LEN { Err(TooLong) } else { Ok(bytes) });
            self.executor.run(Owner::Stream(self.id));
        }
    }

    /// There is no gate, or no room: nothing passes.
    fn unavailable(&self) -> Action {
        self.phase.set(refuse("oidc_gate_overloaded"));
        Action::StopAllAndWatermark
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            self.executor.cancel(task);
        }
    }
}

fn carry_out(decision: Decision) -> Phase {
    match decision {
        Decision::Forward { permit, reason } => {
            hostcalls::set_filter_state("oidc_reason", reason);
            match forward(&permit) {
                Ok(()) => Phase::Forwarded,
                // A header that could not be taken out must not reach the application.
                Err(hostcalls::Refused(_)) => refuse("oidc_gate_headers"),
            }
        }
        Decision::Reply { reply, reason } => {
            hostcalls::set_filter_state("oidc_reason", &reason);
            answer(&reply, &reason);
            Phase::Replied
        }
    }
}

/// 503 without the gate.
fn refuse(details: &str) -> Phase {
    let request = hostcalls::headers(Map::RequestHeaders);
    let id = request_id(&request).as_bytes();
    let headers: [(&str, &[u8]); 3] =
        [("retry-after", b"5"), ("cache-control", b"no-store"), ("x-request-id", id)];
    // Should even that be refused, the request stays held.
    let _ = hostcalls::send_local_response(503, details, &headers, b"", None);
    Phase::Replied
}

fn forward(permit: &Permit) -> Result<(), hostcalls::Refused> {
    if let Some(subject) = permit.subject() {
        hostcalls::set_filter_state("oidc_user", subject);
    }
    for change in permit.changes() {
        match change {
            HeaderChange::Remove(name) => hostcalls::remove_header(Map::RequestHeaders, name)?,
            HeaderChange::Set(name, value) => {
                hostcalls::remove_header(Map::RequestHeaders, name)?;
                hostcalls::replace_header(Map::RequestHeaders, name, value)?;
            }
        }
    }
    Ok(())
}

fn answer(reply: &Reply, reason: &str) {
    let headers: Vec<(&str, &[u8])> =
        reply.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let details = format!("oidc_gate_{reason}");
    // Should the host refuse, the request stays held: closed, not open.
    let _ = hostcalls::send_local_response(
        reply.status,
        &details,
        &headers,
        reply.body.as_bytes(),
        reply.grpc_status,
    );
}
