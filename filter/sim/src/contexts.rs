//! The host as the adapter sees it: the root context of a worker, and its streams. As in proxy-wasm, one context is
//! effective. A task that acts in another context than its own breaks a rule.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use oidc_gate_adapter::call::Answer;
use oidc_gate_adapter::context::{HeaderMap, LocalReply, Owner, Refused, RootContext, StreamContext};
use oidc_gate_core::host::{
    Callout, CalloutError, CasMismatch, CryptoUnavailable, HostSignature, Level, LocalFuture,
    RandomUnavailable, SignatureCheck,
};
use oidc_gate_core::time::Timestamp;

use crate::client::exchange::Ask;
use crate::envoy::WorkerId;
use crate::ledger::Rule;
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::world::{EPOCH_MILLIS, World};
use crate::{net, provider};

/// One life of a worker's root context.
pub struct SimRoot {
    world: Weak<World>,
    id: WorkerId,
    rng: Rng,
    effective: Cell<Owner>,
    /// The owner of the running task.
    running: Cell<Option<Owner>>,
    streams: RefCell<BTreeSet<u32>>,
    next_stream: Cell<u32>,
    next_token: Cell<u32>,
    counters: Cell<u32>,
    sent: RefCell<Vec<UnderWay>>,
}

/// A callout in progress.
pub struct UnderWay {
    /// The number of its reply.
    pub token: u32,
    /// The context that was effective when it was sent. The reply belongs to it.
    pub owner: Owner,
    /// Completes with the reply.
    pub answer: LocalFuture<'static, Answer>,
}

impl SimRoot {
    /// A new life of a worker.
    pub fn new(world: &Rc<World>, id: WorkerId) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::downgrade(world),
            id,
            rng: world.rng.fork("host"),
            effective: Cell::new(Owner::Root),
            running: Cell::default(),
            streams: RefCell::default(),
            next_stream: Cell::new(1),
            next_token: Cell::new(1),
            counters: Cell::default(),
            sent: RefCell::default(),
        })
    }

    /// The world outlives its workers, except while it is being taken down.
    fn world(&self) -> Option<Rc<World>> {
        self.world.upgrade()
    }

    /// The effective context.
    pub fn effective(&self) -> Owner {
        self.effective.get()
    }

    /// Runs a callback in a context.
    pub fn in_context<T>(&self, context: Owner, callback: impl FnOnce() -> T) -> T {
        self.effective.set(context);
        let output = callback();
        self.effective.set(Owner::Root);
        self.running.set(None);
        output
    }

    /// Sets the owner of the running task, or `None`.
    pub fn runs(&self, owner: Option<Owner>) {
        self.running.set(owner);
    }

    /// The callouts that were sent since the last call.
    pub fn take_sent(&self) -> Vec<UnderWay> {
        self.sent.take()
    }

    /// Opens a stream.
    pub fn open(self: &Rc<Self>, ask: &Ask) -> Rc<SimStream> {
        let id = self.next_stream.replace(self.next_stream.get() + 1);
        self.streams.borrow_mut().insert(id);
        let headers =
            ask.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        Rc::new(SimStream {
            root: self.clone(),
            id,
            headers: RefCell::new(headers),
            body: RefCell::default(),
            address: ask.address.clone(),
            state: RefCell::default(),
            answer: RefCell::default(),
            is_forwarded: Cell::default(),
        })
    }

    /// Closes a stream.
    pub fn close(&self, id: u32) {
        self.streams.borrow_mut().remove(&id);
    }

    /// Checks an action for `owner`: the host would apply it to the effective context.
    fn acts_on(&self, owner: Owner, what: &str) {
        let effective = self.effective.get();
        if effective != owner
            && let Some(world) = self.world()
        {
            let what = format!("{what} of {owner:?} at {} in the context of {effective:?}", self.id);
            world.ledger.violate(Rule::OwnContext, world.executor.now(), what);
        }
    }
}

impl RootContext for SimRoot {
    fn send(&self, callout: &Callout) -> Result<u32, CalloutError> {
        let world = self.world().ok_or(CalloutError::NotSent)?;
        if world.plan.sabotage == Some(Sabotage::LogCallouts) {
            self.log(Level::Debug, &String::from_utf8_lossy(&callout.body));
        }
        self.acts_on(self.running.get().unwrap_or(self.effective.get()), "a callout");
        let token = self.next_token.replace(self.next_token.get() + 1);
        let mut answer = net::call(&world, self.id, callout.clone());
        if world.plan.sabotage == Some(Sabotage::PanicOnTrouble) {
            let answered = answer;
            answer = Box::pin(async move {
                let answer = answered.await;
                assert!(answer.is_ok(), "no answer: {answer:?}");
                answer
            });
        }
        self.sent.borrow_mut().push(UnderWay { token, owner: self.effective.get(), answer });
        Ok(token)
    }

    fn make_effective(&self, context: Owner) -> Result<(), Refused> {
        if let Owner::Stream(id) = context
            && !self.streams.borrow().contains(&id)
        {
            return Err(Refused);
        }
        self.effective.set(context);
        Ok(())
    }

    /// A simulated host never destroys an instance in an orderly way; workers crash instead.
    fn done(&self) {}

    fn now(&self) -> Timestamp {
        let (micros, offset) = self.world().map_or((0, 0), |world| {
            (world.executor.now().micros(), world.envoys[self.id.envoy].clock_offset())
        });
        Timestamp::from_millis((EPOCH_MILLIS + micros / 1000).saturating_add_signed(offset))
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.rng.fill(buffer);
        Ok(())
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        if self.world().is_some_and(|world| world.plan.sabotage == Some(Sabotage::AcceptEverySignature)) {
            return Ok(true);
        }
        match check.algorithm {
            HostSignature::RsaPkcs1Sha256 => {
                Ok(provider::verify(check.spki_der, check.signed, check.signature))
            }
            _ => Err(CryptoUnavailable("the simulated provider signs with RS256 only")),
        }
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        let world = self.world()?;
        if world.plan.sabotage == Some(Sabotage::HideEndings) && key.starts_with("oidc-gate.endings.") {
            return None;
        }
        if world.plan.sabotage == Some(Sabotage::TakeUnwrittenForIdle)
            && key.starts_with("oidc-gate.unwritten.")
        {
            return None;
        }
        world.envoys[self.id.envoy].shared.get(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        let world = self.world().ok_or(CasMismatch)?;
        world.envoys[self.id.envoy].shared.set(key, value, cas).map_err(|_| CasMismatch)
    }

    fn define_counter(&self, _: &str) -> Option<u32> {
        Some(self.counters.replace(self.counters.get() + 1))
    }

    fn increment(&self, counter: u32) {
        if let Some(world) = self.world() {
            world.count(counter);
        }
    }

    fn log(&self, level: Level, message: &str) {
        if let Some(world) = self.world() {
            world.ledger.logged(message);
            let now = world.executor.now();
            world.trace.event(now, "log", level as u64, || format!("{} {level:?} {message}", self.id));
        }
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// One stream.
pub struct SimStream {
    root: Rc<SimRoot>,
    /// Its number.
    pub id: u32,
    headers: RefCell<Vec<(String, Vec<u8>)>>,
    body: RefCell<Vec<u8>>,
    address: String,
    state: RefCell<BTreeMap<String, String>>,
    answer: RefCell<Option<Reply>>,
    is_forwarded: Cell<bool>,
}

/// A reply of the gate.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers in addition to those of Envoy.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// The request as the application receives it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// All headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The subject in the access log.
    pub subject: Option<String>,
}

/// The gate's decision about a request.
#[derive(Clone, Debug)]
pub enum Decided {
    /// The request was forwarded.
    Forwarded(Upstream),
    /// The gate replied.
    Answered(Reply),
}

impl SimStream {
    /// The request headers before any change.
    pub fn request(&self) -> Vec<(String, Vec<u8>)> {
        self.headers.borrow().clone()
    }

    /// Stores the request body.
    pub fn receive(&self, body: Vec<u8>) {
        *self.body.borrow_mut() = body;
    }

    /// Marks the request as forwarded.
    pub fn forward(&self) {
        self.is_forwarded.set(true);
    }

    /// The decision and its reason; `None` while the request is held.
    pub fn decided(&self) -> Option<(Decided, String)> {
        let state = self.state.borrow();
        let reason = state.get("oidc_reason").cloned().unwrap_or_default();
        if let Some(reply) = self.answer.take() {
            return Some((Decided::Answered(reply), reason));
        }
        let upstream = || Upstream { headers: self.headers.take(), subject: state.get("oidc_user").cloned() };
        self.is_forwarded.get().then(|| (Decided::Forwarded(upstream()), reason))
    }

    fn acts(&self, what: &str) {
        self.root.acts_on(Owner::Stream(self.id), what);
    }
}

impl StreamContext for SimStream {
    fn headers(&self, map: HeaderMap) -> Vec<(String, Vec<u8>)> {
        self.acts("headers");
        match map {
            HeaderMap::RequestHeaders => self.headers.borrow().clone(),
            HeaderMap::RequestTrailers | HeaderMap::ResponseHeaders => Vec::new(),
        }
    }

    fn remove_header(&self, _: HeaderMap, name: &str) -> Result<(), Refused> {
        self.acts("removing a header");
        let sabotage = self.root.world().and_then(|world| world.plan.sabotage);
        if sabotage != Some(Sabotage::KeepClientHeaders) {
            self.headers.borrow_mut().retain(|(candidate, _)| candidate != name);
        }
        Ok(())
    }

    fn replace_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Refused> {
        self.headers.borrow_mut().retain(|(candidate, _)| candidate != name);
        self.add_header(map, name, value);
        Ok(())
    }

    fn add_header(&self, _: HeaderMap, name: &str, value: &[u8]) {
        self.acts("setting a header");
        self.headers.borrow_mut().push((name.to_owned(), value.to_vec()));
    }

    fn request_body(&self, most: usize) -> Vec<u8> {
        self.acts("the body");
        let mut body = self.body.take();
        body.truncate(most);
        body
    }

    fn source_address(&self) -> Vec<u8> {
        self.address.clone().into_bytes()
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        self.acts("filter state");
        self.state.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    fn reply(&self, reply: &LocalReply<'_>) -> Result<(), Refused> {
        self.acts("an answer");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = reply.headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let reply = Reply { status: reply.status, headers, body: text(reply.body) };
        self.answer.replace(Some(reply));
        Ok(())
    }

    fn resume(&self) {
        self.acts("going on");
        self.forward();
    }
}
