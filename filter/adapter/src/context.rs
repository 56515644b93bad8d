//! What a host does for the adapter. Its words are Envoy's: header maps, local replies, filter state.

use oidc_gate_core::host::{
    Callout, CalloutError, CasMismatch, CryptoUnavailable, Level, RandomUnavailable, SignatureCheck,
};
use oidc_gate_core::time::Timestamp;

/// A context of the host. Every task belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The root context, which lives as long as its configuration.
    Root,
    /// A stream, by the host's number for it.
    Stream(u32),
}

/// The host failed to carry out a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host refused")]
pub struct Refused;

/// A header map of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMap {
    /// The request headers, including pseudo-headers.
    RequestHeaders,
    /// The request trailers.
    RequestTrailers,
    /// The response headers.
    ResponseHeaders,
}

/// A reply that the gate sends instead of the application.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'a> {
    /// The HTTP status.
    pub status: u16,
    /// `%RESPONSE_CODE_DETAILS%` of the access log.
    pub details: &'a str,
    /// Headers in addition to those of Envoy.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: &'a [u8],
    /// `grpc-status`, for a gRPC client.
    pub grpc_status: Option<u32>,
}

/// The operations of a host's root context. If a host has an effective context, calls act on that one.
pub trait RootContext {
    /// Sends a callout. The reply arrives with the returned number, in the context that is effective now.
    ///
    /// # Errors
    /// [`CalloutError::UnknownCluster`], or [`CalloutError::NotSent`] for any other reason.
    fn send(&self, callout: &Callout) -> Result<u32, CalloutError>;
    /// Makes a context the effective one.
    ///
    /// # Errors
    /// The stream no longer exists.
    fn make_effective(&self, context: Owner) -> Result<(), Refused>;
    /// Lets the host destroy the instance, which [`Instance::done`](crate::instance::Instance::done) had delayed.
    fn done(&self);
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Fills `buffer` from a cryptographic source.
    ///
    /// # Errors
    /// No randomness is available.
    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable>;
    /// Verifies a signature.
    ///
    /// # Errors
    /// The host cannot verify it.
    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable>;
    /// Reads data shared by the workers of an Envoy, with its compare-and-swap number.
    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes shared data. With `cas`, only over the version that was read.
    ///
    /// # Errors
    /// Another worker wrote first.
    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch>;
    /// Defines a counter. `None` if the host refuses.
    fn define_counter(&self, name: &str) -> Option<u32>;
    /// Adds one to a counter.
    fn increment(&self, counter: u32);
    /// Writes a log line.
    fn log(&self, level: Level, message: &str);
    /// An environment variable, from which the configuration can take a secret.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The operations of a host on one stream.
pub trait StreamContext {
    /// The headers of a map in order, names in lower case. Empty if there is no such map.
    fn headers(&self, map: HeaderMap) -> Vec<(String, Vec<u8>)>;
    /// Removes every header with this name.
    ///
    /// # Errors
    /// The header may still be there.
    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), Refused>;
    /// Sets a header to one value.
    ///
    /// # Errors
    /// The header may have another value, or be absent.
    fn replace_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Refused>;
    /// Adds a header.
    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]);
    /// At most `most` bytes of the part of the body that was just announced.
    fn request_body(&self, most: usize) -> Vec<u8>;
    /// Envoy's attribute `source.address`. Empty if there is none.
    fn source_address(&self) -> Vec<u8>;
    /// Sets `wasm.<name>` in the stream's filter state, for access logs.
    fn set_filter_state(&self, name: &str, value: &str);
    /// Sends a local reply.
    ///
    /// # Errors
    /// Nothing was sent.
    fn reply(&self, reply: &LocalReply<'_>) -> Result<(), Refused>;
    /// Resumes a request that an earlier callback held.
    fn resume(&self);
}
