//! One HTTP stream: asks the gate, holds everything back until it has decided, and does what it says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use oidc_gate_core::caller::Caller;
use oidc_gate_core::gate::{Decision, Gate};
use oidc_gate_core::http::body::{Arrival, Body, MAX_BODY_LEN, TooLong};
use oidc_gate_core::http::reply::Reply;
use oidc_gate_core::http::request_id;
use oidc_gate_core::policy::{HeaderChange, Permit};

use crate::call::{Answer, Calls};
use crate::context::{HeaderMap, LocalReply, Owner, Refused, StreamContext};
use crate::executor::Executor;
use crate::scheduler::{Span, TaskId};

/// Most requests of one worker that wait for a decision. Further requests get 503 at once.
pub const MAX_WAITING: usize = 4096;

/// Most bodies that one worker reads at the same time. Clients that send theirs slowly must not use up [`MAX_WAITING`].
pub const MAX_BODIES: usize = 1024;

/// What Envoy does with a part of a request. The names are those of Envoy's `FilterHeadersStatus`, `FilterDataStatus`
/// and `FilterTrailersStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pass it on.
    Continue,
    /// Hold the headers or trailers. The body is still delivered to the filter.
    Stop,
    /// Discard this part of the body. The next one is still delivered.
    StopNoBuffer,
    /// Hold the headers. Envoy buffers what follows up to its watermark, then stops reading from the client.
    StopAllAndWatermark,
}

/// The phase of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The headers callback is running, and the gate has not decided yet.
    Deciding,
    /// The callback returned without a decision; the request is held.
    Waiting,
    /// The request was passed on.
    Forwarded,
    /// The gate has replied.
    Replied,
}

/// What a stream shares with its instance.
pub(crate) struct Worker {
    pub(crate) gate: Option<Rc<Gate>>,
    pub(crate) executor: Rc<Executor>,
    pub(crate) calls: Calls,
    /// How many bodies this worker reads now.
    pub(crate) bodies: Rc<Cell<usize>>,
}

/// One stream. Dropping it drops its decision task.
pub struct Stream {
    id: u32,
    context: Rc<dyn StreamContext>,
    worker: Worker,
    phase: Rc<Cell<Phase>>,
    task: Cell<Option<TaskId>>,
    /// The body, if an endpoint of the gate reads it.
    incoming: RefCell<Option<Incoming>>,
}

/// A body that is being received.
struct Incoming {
    bytes: Vec<u8>,
    arrival: Arrival,
    _place: Place,
}

/// A slot for one of the [`MAX_BODIES`] bodies.
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
    pub(crate) fn new(id: u32, context: Rc<dyn StreamContext>, worker: Worker) -> Self {
        Self {
            id,
            context,
            worker,
            phase: Rc::new(Cell::new(Phase::Deciding)),
            task: Cell::default(),
            incoming: RefCell::default(),
        }
    }

    /// The request headers have arrived.
    pub fn request_headers(&self, end_of_stream: bool) -> Action {
        let Some(gate) = self.worker.gate.clone() else { return self.unavailable() };
        if self.worker.executor.waiting() >= MAX_WAITING {
            return self.unavailable();
        }
        let headers = self.context.headers(HeaderMap::RequestHeaders);
        let caller = Caller::parse(&self.context.source_address());
        let reads_body = !end_of_stream && gate.reads_body(&headers);
        let body = if reads_body {
            let Some(place) = Place::take(&self.worker.bodies) else { return self.unavailable() };
            let (arrival, body) = Body::arriving();
            *self.incoming.borrow_mut() = Some(Incoming { bytes: Vec::new(), arrival, _place: place });
            body
        } else {
            Body::none()
        };
        let (phase, context) = (self.phase.clone(), self.context.clone());
        let task = Box::pin(async move {
            let decision = gate.decide(headers, body, caller).await;
            let was = phase.get();
            phase.set(carry_out(&*context, decision));
            if was == Phase::Waiting && phase.get() == Phase::Forwarded {
                context.resume();
            }
        });
        self.task.set(Some(self.worker.executor.spawn(Owner::Stream(self.id), Span::Finite, task)));
        self.run();
        if self.phase.get() == Phase::Deciding {
            self.phase.set(Phase::Waiting);
        }
        match self.phase.get() {
            Phase::Forwarded => Action::Continue,
            Phase::Waiting if reads_body => Action::Stop,
            Phase::Deciding | Phase::Waiting | Phase::Replied => Action::StopAllAndWatermark,
        }
    }

    /// `size` bytes of the body have arrived.
    pub fn request_body(&self, size: usize, end_of_stream: bool) -> Action {
        if self.phase.get() == Phase::Forwarded {
            return Action::Continue;
        }
        if let Some(incoming) = self.incoming.borrow_mut().as_mut() {
            // One byte over the limit shows that the body is too long.
            let room = MAX_BODY_LEN.saturating_add(1).saturating_sub(incoming.bytes.len());
            incoming.bytes.extend(self.context.request_body(size.min(room)));
        }
        let is_long = |incoming: &Incoming| incoming.bytes.len() > MAX_BODY_LEN;
        if end_of_stream || self.incoming.borrow().as_ref().is_some_and(is_long) {
            self.body_arrived();
        }
        // The body is for the gate and is not forwarded.
        Action::StopNoBuffer
    }

    /// The request trailers have arrived.
    pub fn request_trailers(&self) -> Action {
        // HD04: clients may not claim an identity in trailers either.
        for (name, _) in self.context.headers(HeaderMap::RequestTrailers) {
            if self.worker.gate.as_ref().is_none_or(|gate| gate.refuses_trailer(&name)) {
                let _ = self.context.remove_header(HeaderMap::RequestTrailers, &name);
            }
        }
        self.body_arrived();
        if self.phase.get() == Phase::Forwarded { Action::Continue } else { Action::Stop }
    }

    /// The response headers have arrived.
    pub fn response_headers(&self) {
        // The gate's own replies pass here, too. Cookies with the gate's names are removed from application responses
        // (CK12).
        if let (Phase::Forwarded, Some(gate)) = (self.phase.get(), &self.worker.gate) {
            let headers = self.context.headers(HeaderMap::ResponseHeaders).into_iter();
            let cookies: Vec<_> =
                headers.filter(|(name, _)| name == "set-cookie").map(|(_, value)| value).collect();
            if cookies.iter().any(|cookie| gate.sets_our_cookie(cookie)) {
                let _ = self.context.remove_header(HeaderMap::ResponseHeaders, "set-cookie");
                for cookie in cookies.iter().filter(|cookie| !gate.sets_our_cookie(cookie)) {
                    self.context.add_header(HeaderMap::ResponseHeaders, "set-cookie", cookie);
                }
            }
        }
    }

    /// A callout of this stream was answered.
    pub fn answered(&self, token: u32, answer: Answer) {
        self.worker.calls.answered(token, answer);
        self.run();
    }

    fn body_arrived(&self) {
        let incoming = self.incoming.borrow_mut().take();
        if let Some(Incoming { bytes, arrival, .. }) = incoming {
            arrival.complete(if bytes.len() > MAX_BODY_LEN { Err(TooLong) } else { Ok(bytes) });
            self.run();
        }
    }

    fn run(&self) {
        self.worker.executor.run(Owner::Stream(self.id));
    }

    /// Without a gate, or without room, nothing passes.
    fn unavailable(&self) -> Action {
        self.phase.set(refuse(&*self.context, "oidc_gate_overloaded"));
        Action::StopAllAndWatermark
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            self.worker.executor.cancel(task);
        }
    }
}

fn carry_out(context: &dyn StreamContext, decision: Decision) -> Phase {
    match decision {
        Decision::Forward { permit, reason } => {
            context.set_filter_state("oidc_reason", reason);
            match forward(context, &permit) {
                Ok(()) => Phase::Forwarded,
                // If a header could not be removed, the request must not reach the application.
                Err(Refused) => refuse(context, "oidc_gate_headers"),
            }
        }
        Decision::Reply { reply, reason } => {
            context.set_filter_state("oidc_reason", &reason);
            answer(context, &reply, &reason);
            Phase::Replied
        }
    }
}

/// Replies with 503 without asking the gate.
fn refuse(context: &dyn StreamContext, details: &str) -> Phase {
    let request = context.headers(HeaderMap::RequestHeaders);
    let id = request_id(&request).as_bytes();
    let headers: [(&str, &[u8]); 3] =
        [("retry-after", b"5"), ("cache-control", b"no-store"), ("x-request-id", id)];
    // If the host refuses this reply, too, the request stays held.
    let _ =
        context.reply(&LocalReply { status: 503, details, headers: &headers, body: b"", grpc_status: None });
    Phase::Replied
}

fn forward(context: &dyn StreamContext, permit: &Permit) -> Result<(), Refused> {
    if let Some(subject) = permit.subject() {
        context.set_filter_state("oidc_user", subject);
    }
    for change in permit.changes() {
        match change {
            HeaderChange::Remove(name) => context.remove_header(HeaderMap::RequestHeaders, name)?,
            HeaderChange::Set(name, value) => {
                context.remove_header(HeaderMap::RequestHeaders, name)?;
                context.replace_header(HeaderMap::RequestHeaders, name, value)?;
            }
        }
    }
    Ok(())
}

fn answer(context: &dyn StreamContext, reply: &Reply, reason: &str) {
    let headers: Vec<(&str, &[u8])> =
        reply.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let (status, grpc_status) = (reply.status, reply.grpc_status);
    let (details, body) = (format!("oidc_gate_{reason}"), reply.body.as_bytes());
    // If the host refuses, the request stays held: fail closed.
    let _ = context.reply(&LocalReply { status, details: &details, headers: &headers, body, grpc_status });
}
