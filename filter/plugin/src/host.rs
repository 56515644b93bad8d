//! Envoy as the adapter's contexts. Each call acts on the effective context.

use std::time::{SystemTime, UNIX_EPOCH};

use oidc_gate_adapter::call::{self, Answer};
use oidc_gate_adapter::context::{self, HeaderMap, LocalReply, Owner, RootContext, StreamContext};
use oidc_gate_core::host::{
    Callout, CalloutError, CasMismatch, CryptoUnavailable, Level, RandomUnavailable, SignatureCheck,
};
use oidc_gate_core::time::Timestamp;

use crate::crypto;
use crate::hostcalls::{self as calls, Buffer, Map, Refused};

/// The root context with this number.
pub struct EnvoyRoot {
    pub id: u32,
}

/// The effective stream.
pub struct EnvoyStream;

impl From<Refused> for context::Refused {
    fn from(_: Refused) -> Self {
        Self
    }
}

impl RootContext for EnvoyRoot {
    fn send(&self, callout: &Callout) -> Result<u32, CalloutError> {
        let headers: Vec<(&str, &[u8])> =
            callout.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        calls::http_call(&callout.cluster, &headers, &callout.body, callout.timeout).map_err(|refused| {
            match refused {
                Refused::BAD_ARGUMENT => CalloutError::UnknownCluster,
                _ => CalloutError::NotSent,
            }
        })
    }

    fn make_effective(&self, context: Owner) -> Result<(), context::Refused> {
        let id = match context {
            Owner::Root => self.id,
            Owner::Stream(id) => id,
        };
        Ok(calls::set_effective_context(id)?)
    }

    fn done(&self) {
        calls::done();
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        getrandom::fill(buffer).map_err(|_| RandomUnavailable)
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        crypto::verify_signature(check)
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        calls::shared_data(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        calls::set_shared_data(key, value, cas.unwrap_or_default()).map_err(|_| CasMismatch)
    }

    fn define_counter(&self, name: &str) -> Option<u32> {
        calls::define_counter(name).ok()
    }

    fn increment(&self, counter: u32) {
        calls::increment(counter);
    }

    /// Envoy adds time, worker and plugin name.
    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => 1,
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        calls::log(level, message);
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl From<HeaderMap> for Map {
    fn from(map: HeaderMap) -> Self {
        match map {
            HeaderMap::RequestHeaders => Self::RequestHeaders,
            HeaderMap::RequestTrailers => Self::RequestTrailers,
            HeaderMap::ResponseHeaders => Self::ResponseHeaders,
        }
    }
}

impl StreamContext for EnvoyStream {
    fn headers(&self, map: HeaderMap) -> Vec<(String, Vec<u8>)> {
        calls::headers(map.into())
    }

    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), context::Refused> {
        Ok(calls::remove_header(map.into(), name)?)
    }

    fn replace_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), context::Refused> {
        Ok(calls::replace_header(map.into(), name, value)?)
    }

    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]) {
        calls::add_header(map.into(), name, value);
    }

    fn request_body(&self, most: usize) -> Vec<u8> {
        calls::bytes(Buffer::RequestBody, most)
    }

    fn source_address(&self) -> Vec<u8> {
        calls::property(&["source", "address"])
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        calls::set_filter_state(name, value);
    }

    fn reply(&self, reply: &LocalReply<'_>) -> Result<(), context::Refused> {
        Ok(calls::send_local_response(
            reply.status,
            reply.details,
            reply.headers,
            reply.body,
            reply.grpc_status,
        )?)
    }

    fn resume(&self) {
        calls::continue_request();
    }
}

/// Reads the reply to a callout, in the callback that announces it. A failed call has no headers, and asking for its
/// status would terminate the worker.
pub fn callout_answer(num_headers: usize, body_size: usize) -> Answer {
    let headers = if num_headers == 0 { Vec::new() } else { calls::headers(Map::CalloutResponseHeaders) };
    call::reply(headers, || calls::bytes(Buffer::CalloutResponseBody, body_size))
}
