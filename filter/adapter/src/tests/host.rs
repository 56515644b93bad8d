//! A host in memory: one worker, a clock that the test moves, and an effective context, as proxy-wasm has it. What is
//! done to a stream while another context is effective fails the test.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_core::host::*;
use oidc_gate_core::jose::probe::vectors;
use oidc_gate_core::time::Timestamp;
use oidc_gate_envoy_model::SharedData;

use crate::call::Answer;
use crate::context::{HeaderMap, LocalReply, Owner, Refused, RootContext, StreamContext};
use crate::instance::Instance;
use crate::scheduler::{Clock, Fifo};
use crate::stream::{Action, Stream};

/// The wall clock when a test begins, in seconds since the epoch.
pub const BEGIN: u64 = 1_767_225_600;

/// A signature of an RSA key of 2048 bits that this host accepts.
pub const GOOD_SIGNATURE: [u8; 256] = [1; 256];

/// How the host verifies signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdicts {
    /// Correctly.
    Right,
    /// It accepts every signature.
    AlwaysGood,
    /// It cannot verify.
    None,
}

/// A callout that was sent.
#[derive(Clone)]
pub struct Sent {
    pub token: u32,
    /// The context that was effective, to which the reply belongs.
    pub owner: Owner,
    pub callout: Callout,
}

/// The host.
pub struct MemoryHost {
    elapsed: Cell<Duration>,
    effective: Cell<Owner>,
    streams: RefCell<HashMap<u32, Rc<MemoryStream>>>,
    next_stream: Cell<u32>,
    next_token: Cell<u32>,
    pub sent: RefCell<Vec<Sent>>,
    shared: SharedData,
    pub counters: RefCell<Vec<(String, u64)>>,
    pub log: RefCell<Vec<String>>,
    /// The requested tick.
    pub tick: Cell<Option<Duration>>,
    pub is_done: Cell<bool>,
    pub verdicts: Cell<Verdicts>,
    /// The reason why no callout can be sent.
    pub refuses_calls: Cell<Option<CalloutError>>,
    pub variables: RefCell<HashMap<String, String>>,
}

type Headers = Vec<(String, Vec<u8>)>;

/// A stream of this host.
pub struct MemoryStream {
    host: Rc<MemoryHost>,
    id: u32,
    pub maps: RefCell<[Headers; 3]>,
    body: RefCell<Vec<u8>>,
    /// How many bytes of the body were requested last.
    pub asked_for: Cell<usize>,
    pub filter_state: RefCell<Vec<(String, String)>>,
    pub reply: RefCell<Option<Replied>>,
    pub resumed: Cell<u32>,
    /// A header that cannot be removed.
    pub keeps: Cell<Option<&'static str>>,
}

/// A reply of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replied {
    pub status: u16,
    pub details: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub grpc_status: Option<u32>,
}

impl MemoryHost {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            elapsed: Cell::default(),
            effective: Cell::new(Owner::Root),
            streams: RefCell::default(),
            next_stream: Cell::new(2),
            next_token: Cell::default(),
            sent: RefCell::default(),
            shared: SharedData::default(),
            counters: RefCell::default(),
            log: RefCell::default(),
            tick: Cell::default(),
            is_done: Cell::default(),
            verdicts: Cell::new(Verdicts::Right),
            refuses_calls: Cell::default(),
            variables: RefCell::default(),
        })
    }

    pub fn instance(self: &Rc<Self>) -> Instance {
        Instance::new(self.clone(), Rc::new(Fifo::new(self.clone())))
    }

    /// Runs a callback in a context.
    pub fn in_context<T>(&self, owner: Owner, callback: impl FnOnce() -> T) -> T {
        self.effective.set(owner);
        let output = callback();
        assert_eq!(self.effective.get(), owner, "the callback's own context is effective again");
        output
    }

    pub fn advance(&self, duration: Duration) {
        self.elapsed.set(self.elapsed.get() + duration);
    }

    /// Lets time pass until `duration` is over, with all ticks that are due.
    pub fn run(&self, instance: &Instance, duration: Duration) {
        let end = self.elapsed.get() + duration;
        while let Some(tick) = self.tick.get().filter(|tick| *tick <= end) {
            self.elapsed.set(self.elapsed.get().max(tick));
            self.tick(instance);
        }
        self.elapsed.set(end);
    }

    /// Ticks, as proxy-wasm does.
    pub fn tick(&self, instance: &Instance) {
        self.tick.set(None);
        self.in_context(Owner::Root, || instance.tick());
        // The next tick comes a millisecond later at the earliest.
        let soonest = self.elapsed.get() + Duration::from_millis(1);
        self.tick.set(self.tick.get().map(|tick| tick.max(soonest)));
    }

    /// Callouts that were sent since the test last asked.
    pub fn take_sent(&self) -> Vec<Sent> {
        self.sent.take()
    }

    /// Answers a callout of the root context.
    pub fn answer(&self, instance: &Instance, sent: &Sent, answer: Answer) {
        assert_eq!(sent.owner, Owner::Root);
        self.in_context(Owner::Root, || instance.answered(sent.token, answer));
    }

    pub fn logged(&self, text: &str) -> bool {
        self.log.borrow().iter().any(|line| line.contains(text))
    }
}

impl Clock for MemoryHost {
    fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    fn wake_at(&self, at: Duration) {
        self.tick.set(Some(self.tick.get().map_or(at, |pending| pending.min(at))));
    }
}

impl RootContext for MemoryHost {
    fn send(&self, callout: &Callout) -> Result<u32, CalloutError> {
        if let Some(error) = self.refuses_calls.get() {
            return Err(error);
        }
        let token = self.next_token.replace(self.next_token.get() + 1);
        let sent = Sent { token, owner: self.effective.get(), callout: callout.clone() };
        self.sent.borrow_mut().push(sent);
        Ok(token)
    }

    fn make_effective(&self, context: Owner) -> Result<(), Refused> {
        if let Owner::Stream(id) = context
            && !self.streams.borrow().contains_key(&id)
        {
            return Err(Refused);
        }
        self.effective.set(context);
        Ok(())
    }

    fn done(&self) {
        self.is_done.set(true);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(BEGIN).saturating_add(self.elapsed.get())
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        buffer.fill(7);
        Ok(())
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        match self.verdicts.get() {
            Verdicts::Right => Ok(vectors().contains(check) || check.signature == GOOD_SIGNATURE),
            Verdicts::AlwaysGood => Ok(true),
            Verdicts::None => Err(CryptoUnavailable("there is no such function")),
        }
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.shared.get(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        self.shared.set(key, value, cas).map_err(|_| CasMismatch)
    }

    fn define_counter(&self, name: &str) -> Option<u32> {
        let mut counters = self.counters.borrow_mut();
        counters.push((name.to_owned(), 0));
        u32::try_from(counters.len()).ok()
    }

    fn increment(&self, counter: u32) {
        self.counters.borrow_mut()[counter as usize - 1].1 += 1;
    }

    fn log(&self, level: Level, message: &str) {
        self.log.borrow_mut().push(format!("{level:?} {message}"));
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.borrow().get(name).cloned()
    }
}

impl MemoryStream {
    fn is_effective(&self) {
        assert_eq!(self.host.effective.get(), Owner::Stream(self.id), "a call acts on another stream");
    }

    pub fn values(&self, map: HeaderMap, name: &str) -> Vec<String> {
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        let maps = self.maps.borrow();
        maps[map as usize].iter().filter(|(found, _)| found == name).map(|(_, value)| text(value)).collect()
    }

    pub fn status(&self) -> Option<u16> {
        self.reply.borrow().as_ref().map(|reply| reply.status)
    }

    pub fn state(&self, name: &str) -> Option<String> {
        self.filter_state.borrow().iter().rev().find(|(found, _)| found == name).map(|(_, v)| v.clone())
    }
}

impl StreamContext for MemoryStream {
    fn headers(&self, map: HeaderMap) -> Vec<(String, Vec<u8>)> {
        self.is_effective();
        self.maps.borrow()[map as usize].clone()
    }

    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), Refused> {
        self.is_effective();
        if self.keeps.get() == Some(name) {
            return Err(Refused);
        }
        self.maps.borrow_mut()[map as usize].retain(|(found, _)| found != name);
        Ok(())
    }

    fn replace_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Refused> {
        self.remove_header(map, name)?;
        self.add_header(map, name, value);
        Ok(())
    }

    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]) {
        self.is_effective();
        self.maps.borrow_mut()[map as usize].push((name.to_owned(), value.to_vec()));
    }

    fn request_body(&self, most: usize) -> Vec<u8> {
        self.is_effective();
        self.asked_for.set(most);
        let mut body = self.body.take();
        body.truncate(most);
        body
    }

    fn source_address(&self) -> Vec<u8> {
        b"192.0.2.1:40000".to_vec()
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        self.is_effective();
        self.filter_state.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    fn reply(&self, reply: &LocalReply<'_>) -> Result<(), Refused> {
        self.is_effective();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = reply.headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let reply = Replied {
            status: reply.status,
            details: reply.details.to_owned(),
            headers,
            body: text(reply.body),
            grpc_status: reply.grpc_status,
        };
        assert!(self.reply.replace(Some(reply)).is_none(), "a request is answered once");
        Ok(())
    }

    fn resume(&self) {
        self.is_effective();
        self.resumed.set(self.resumed.get() + 1);
    }
}

/// A request to an instance.
pub struct Exchange {
    pub id: u32,
    pub seen: Rc<MemoryStream>,
    pub stream: Option<Stream>,
    host: Rc<MemoryHost>,
}

impl Exchange {
    /// A stream without headers yet.
    pub fn new(host: &Rc<MemoryHost>, instance: &Instance) -> Self {
        let id = host.next_stream.replace(host.next_stream.get() + 1);
        let seen = Rc::new(MemoryStream {
            host: host.clone(),
            id,
            maps: RefCell::default(),
            body: RefCell::default(),
            asked_for: Cell::default(),
            filter_state: RefCell::default(),
            reply: RefCell::default(),
            resumed: Cell::default(),
            keeps: Cell::default(),
        });
        host.streams.borrow_mut().insert(id, seen.clone());
        let stream = Some(instance.stream(id, seen.clone()));
        Self { id, seen, stream, host: host.clone() }
    }

    fn set(&self, map: HeaderMap, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        self.seen.maps.borrow_mut()[map as usize] = headers.collect();
    }

    fn callback<T>(&self, callback: impl FnOnce(&Stream) -> T) -> T {
        let stream = self.stream.as_ref().expect("the stream is there");
        self.host.in_context(Owner::Stream(self.id), || callback(stream))
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], end_of_stream: bool) -> Action {
        let head =
            [(":method", method), (":path", path), (":authority", "gate.example"), ("x-request-id", "r-1")];
        self.set(HeaderMap::RequestHeaders, &[&head[..], headers].concat());
        self.callback(|stream| stream.request_headers(end_of_stream))
    }

    pub fn body(&self, bytes: &[u8], end_of_stream: bool) -> Action {
        self.seen.body.replace(bytes.to_vec());
        self.callback(|stream| stream.request_body(bytes.len(), end_of_stream))
    }

    pub fn trailers(&self, trailers: &[(&str, &str)]) -> Action {
        self.set(HeaderMap::RequestTrailers, trailers);
        self.callback(Stream::request_trailers)
    }

    pub fn response(&self, headers: &[(&str, &str)]) {
        self.set(HeaderMap::ResponseHeaders, headers);
        self.callback(Stream::response_headers);
    }

    pub fn answered(&self, sent: &Sent, answer: Answer) {
        assert_eq!(
            sent.owner,
            Owner::Stream(self.id),
            "the answer belongs to the context that sent the call"
        );
        self.callback(|stream| stream.answered(sent.token, answer));
    }

    /// The client disconnects.
    pub fn close(&mut self) {
        self.host.streams.borrow_mut().remove(&self.id);
        self.host.effective.set(Owner::Root);
        self.stream = None;
    }
}
