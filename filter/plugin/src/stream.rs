//! One HTTP stream: asks the gate, holds everything back until it has decided, and does what it says.

use std::cell::Cell;
use std::rc::Rc;

use oidc_gate_core::gate::{Decision, Gate};
use oidc_gate_core::http::reply::Reply;
use oidc_gate_core::policy::identity::is_stripped;
use oidc_gate_core::policy::{HeaderChange, Permit};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::executor::{Executor, Owner};
use crate::host::callout_reply;
use crate::hostcalls::{self, Map};

/// Requests of one worker that may wait for their decision at the same time; more get 503 at once.
const MAX_WAITING: usize = 4096;

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
    task: Option<u64>,
}

impl Stream {
    pub fn new(id: u32, gate: Option<Rc<Gate>>, executor: Rc<Executor>) -> Self {
        Self { id, gate, executor, phase: Rc::new(Cell::new(Phase::Deciding)), task: None }
    }

    fn hold_back(&self) -> Action {
        match self.phase.get() {
            Phase::Forwarded => Action::Continue,
            Phase::Deciding | Phase::Waiting | Phase::Replied => Action::Pause,
        }
    }

    /// There is no gate, or no room: nothing passes.
    fn unavailable(&self) -> Action {
        self.phase.set(Phase::Replied);
        let headers: [(&str, &[u8]); 2] = [("retry-after", b"5"), ("cache-control", b"no-store")];
        // Should even that be refused, the request stays held.
        let _ = hostcalls::send_local_response(503, "oidc_gate_overloaded", &headers, b"", None);
        Action::Pause
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _: usize) {
        self.executor.answered(token, callout_reply(num_headers, body_size));
        self.executor.run(Owner::Stream(self.id));
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(gate) = self.gate.clone() else { return self.unavailable() };
        if self.executor.waiting() >= MAX_WAITING {
            return self.unavailable();
        }
        let headers = hostcalls::headers(Map::RequestHeaders);
        let phase = self.phase.clone();
        let task = Box::pin(async move {
            let decision = gate.decide(headers).await;
            let was = phase.get();
            phase.set(carry_out(decision));
            if was == Phase::Waiting && phase.get() == Phase::Forwarded {
                hostcalls::continue_request();
            }
        });
        self.task = Some(self.executor.spawn(Owner::Stream(self.id), task));
        self.executor.run(Owner::Stream(self.id));
        if self.phase.get() == Phase::Deciding {
            self.phase.set(Phase::Waiting);
        }
        self.hold_back()
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        self.hold_back()
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        // HD04: identity in trailers is as little the client's to claim as in headers.
        for (name, _) in hostcalls::headers(Map::RequestTrailers) {
            if is_stripped(&name) {
                let _ = hostcalls::remove_header(Map::RequestTrailers, &name);
            }
        }
        self.hold_back()
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
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
        Action::Continue
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(task) = self.task {
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
                Err(hostcalls::Refused(_)) => {
                    let _ = hostcalls::send_local_response(503, "oidc_gate_headers", &[], b"", None);
                    Phase::Replied
                }
            }
        }
        Decision::Reply { reply, reason } => {
            hostcalls::set_filter_state("oidc_reason", reason);
            answer(&reply, reason);
            Phase::Replied
        }
    }
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
