//! Envoy as the core's [`Host`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oidc_gate_core::host::{
    Callout, CalloutError, CalloutReply, CasMismatch, Counter, CryptoUnavailable, Host, HostSignature, Level,
    LocalFuture, RandomUnavailable,
};
use oidc_gate_core::metrics::{self, RuleReasons};
use oidc_gate_core::time::Timestamp;

use crate::crypto;
use crate::executor::{Executor, Owner, Sleep, Span};
use crate::hostcalls::{self as calls, Buffer, Map, Refused};

/// One plugin instance's view of Envoy.
pub struct EnvoyHost {
    executor: Rc<Executor>,
    counters: RefCell<Vec<u32>>,
}

impl EnvoyHost {
    pub fn new(executor: Rc<Executor>) -> Self {
        Self { executor, counters: RefCell::default() }
    }

    /// Defines every counter, so that each shows from the start.
    pub fn define_counters(&self, rules: &RuleReasons) {
        // A counter that the host does not want is never counted: id 0 stands for none.
        let ids = metrics::names(rules)
            .iter()
            .map(|name| calls::define_counter(name).unwrap_or_default())
            .collect();
        *self.counters.borrow_mut() = ids;
    }
}

impl Host for EnvoyHost {
    fn call(&self, callout: Callout) -> LocalFuture<'static, Result<CalloutReply, CalloutError>> {
        let headers: Vec<(&str, &[u8])> =
            callout.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let booking = match calls::http_call(&callout.cluster, &headers, &callout.body, callout.timeout) {
            Ok(token) => self.executor.sent(token),
            Err(Refused::BAD_ARGUMENT) => self.executor.not_sent(CalloutError::UnknownCluster),
            Err(_) => self.executor.not_sent(CalloutError::NotSent),
        };
        Box::pin(booking.answer())
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        getrandom::fill(buffer).map_err(|_| RandomUnavailable)
    }

    fn verify_signature(
        &self,
        algorithm: HostSignature,
        spki_der: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, CryptoUnavailable> {
        crypto::verify_signature(algorithm, spki_der, signed, signature)
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        calls::shared_data(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        calls::set_shared_data(key, value, cas.unwrap_or_default()).map_err(|_| CasMismatch)
    }

    fn spawn(&self, job: LocalFuture<'static, ()>) {
        self.executor.spawn(Owner::Root, Span::Finite, job);
    }

    fn spawn_endless(&self, job: LocalFuture<'static, ()>) {
        self.executor.spawn(Owner::Root, Span::Endless, job);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        Box::pin(Sleep::new(self.executor.clone(), duration))
    }

    fn count(&self, counter: Counter) {
        match self.counters.borrow().get(counter.0) {
            Some(0) | None => {}
            Some(id) => calls::increment(*id),
        }
    }

    fn log(&self, level: Level, message: &str) {
        log(level, message);
    }
}

/// Writes a log line; Envoy adds time, worker and plugin name.
pub fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warn => 3,
        Level::Error => 4,
    };
    calls::log(level, message);
}

/// Reads the answer to a callout, in the callback that announces it. A call that failed has no headers, and asking for
/// its status would end the worker.
pub fn callout_reply(num_headers: usize, body_size: usize) -> Result<CalloutReply, CalloutError> {
    if num_headers == 0 {
        return Err(CalloutError::Reset);
    }
    let headers = calls::headers(Map::CalloutResponseHeaders);
    let status = headers
        .iter()
        .find(|(name, _)| name == ":status")
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok())
        .ok_or(CalloutError::Reset)?;
    Ok(CalloutReply { status, headers, body: calls::bytes(Buffer::CalloutResponseBody, body_size) })
}
