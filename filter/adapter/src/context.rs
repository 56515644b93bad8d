//! What a host does for the adapter. Its words are Envoy's: header maps, local replies, filter state.

use oidc_gate_core::host::{
    Callout, CalloutError, CasMismatch, CryptoUnavailable, HostSignature, Level, RandomUnavailable,
};
use oidc_gate_core::time::Timestamp;

/// A context of the host, and whom a task belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The root context, which lives as long as its configuration.
    Root,
    /// A stream, by the number that the host has for it.
    Stream(u32),
}

/// The host did not do what it was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host refused")]
pub struct Refused;

/// A header map of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMap {
    /// The head of the request, pseudo-headers included.
    RequestHeaders,
    /// What follows its body.
    RequestTrailers,
    /// The head of the response.
    ResponseHeaders,
}

/// An answer that the gate gives in place of the application.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'a> {
    /// The HTTP status.
    pub status: u16,
    /// `%RESPONSE_CODE_DETAILS%` of the access log.
    pub details: &'a str,
    /// Headers besides those that Envoy adds.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: &'a [u8],
    /// `grpc-status`, when the client speaks gRPC.
    pub grpc_status: Option<u32>,
}

/// What the root context of a host does. Calls act on the effective context where a host has one.
pub trait RootContext {
    /// Sends a callout. The answer comes with the number that this returns, to the context that is effective now.
    ///
    /// # Errors
    /// [`CalloutError::UnknownCluster`], or [`CalloutError::NotSent`] for any other reason.
    fn send(&self, callout: &Callout) -> Result<u32, CalloutError>;
    /// Makes a context effective.
    ///
    /// # Errors
    /// The stream does not exist any more.
    fn make_effective(&self, context: Owner) -> Result<(), Refused>;
    /// The end of the instance, which [`Instance::done`](crate::instance::Instance::done) put off, may come now.
    fn done(&self);
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Fills `buffer` from a cryptographic source.
    ///
    /// # Errors
    /// There is no randomness.
    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable>;
    /// Checks `signature` over `signed` with a public key (SPKI, DER). ECDSA signatures are ASN.1 DER here.
    ///
    /// # Errors
    /// The host can't say.
    fn verify_signature(
        &self,
        algorithm: HostSignature,
        spki_der: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, CryptoUnavailable>;
    /// Reads data that the workers of an Envoy share, with its compare-and-swap number.
    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes shared data; with `cas`, only over the version that was read.
    ///
    /// # Errors
    /// Another worker wrote first.
    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch>;
    /// Defines a counter; `None` when the host does not want it.
    fn define_counter(&self, name: &str) -> Option<u32>;
    /// Adds one to a counter.
    fn increment(&self, counter: u32);
    /// Writes a log line.
    fn log(&self, level: Level, message: &str);
    /// An environment variable, for secrets that the configuration names.
    fn variable(&self, name: &str) -> Option<String>;
}

/// What a host does to one stream.
pub trait StreamContext {
    /// The headers of a map in order, names in lower case; none when there is no such map.
    fn headers(&self, map: HeaderMap) -> Vec<(String, Vec<u8>)>;
    /// Takes out every header of that name.
    ///
    /// # Errors
    /// It may still be there.
    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), Refused>;
    /// Gives a header one value.
    ///
    /// # Errors
    /// It may have another value, or none.
    fn replace_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Refused>;
    /// Adds a header.
    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]);
    /// At most `most` bytes of the part of the body that was just announced.
    fn request_body(&self, most: usize) -> Vec<u8>;
    /// Envoy's attribute `source.address`; empty when there is none.
    fn source_address(&self) -> Vec<u8>;
    /// Sets `wasm.<name>` in the stream's filter state, for access logs.
    fn set_filter_state(&self, name: &str, value: &str);
    /// Answers the request.
    ///
    /// # Errors
    /// Nothing was sent.
    fn reply(&self, reply: &LocalReply<'_>) -> Result<(), Refused>;
    /// The request goes on, after a callback that held it.
    fn resume(&self);
}
