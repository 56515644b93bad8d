//! The environment of the core. The adapter implements [`Host`] for Envoy and for the simulator; the core's unit tests
//! implement it in memory.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::time::Timestamp;

/// A future that stays on one thread, because a Wasm worker is single-threaded.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One HTTP request to an Envoy cluster. To a cluster with a TCP connection pool, it sends raw bytes.
#[derive(Clone)]
pub struct Callout {
    /// The Envoy cluster.
    pub cluster: String,
    /// Headers. Pseudo-headers (`:method`, `:path`, `:authority`) come first.
    pub headers: Vec<(String, String)>,
    /// The body. Never empty for a cluster with a TCP connection pool.
    pub body: Vec<u8>,
    /// Time limit of the whole call.
    pub timeout: Duration,
}

/// The response to a callout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalloutReply {
    /// `:status`. Envoy sets 503 for a failed connection and 504 for a timeout.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl CalloutReply {
    /// The first header with this lower-case name, if it is printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(candidate, _)| candidate == name)
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// Why a callout got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalloutError {
    /// Envoy has no cluster with this name.
    #[error("unknown cluster")]
    UnknownCluster,
    /// Not sent: a circuit breaker is open, no host is healthy, or Envoy refused.
    #[error("not sent")]
    NotSent,
    /// Reset after it was sent and before the response was complete.
    #[error("reset before an answer")]
    Reset,
}

/// The host could not check a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host cannot verify this signature: {0}")]
pub struct CryptoUnavailable(pub &'static str);

/// The host provides no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no randomness")]
pub struct RandomUnavailable;

/// Another worker changed the value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CasMismatch;

/// The signature checks that the host supports (BoringSSL in Envoy). The key determines the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostSignature {
    /// RSASSA-PKCS1-v1_5, SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    RsaPkcs1Sha512,
    /// ECDSA, SHA-256; signature as ASN.1 DER.
    EcdsaSha256,
    /// ECDSA, SHA-384; signature as ASN.1 DER.
    EcdsaSha384,
    /// ECDSA, SHA-512; signature as ASN.1 DER.
    EcdsaSha512,
}

/// A signature to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureCheck<'a> {
    /// The algorithm.
    pub algorithm: HostSignature,
    /// The public key: SubjectPublicKeyInfo in DER.
    pub spki_der: &'a [u8],
    /// The signed message.
    pub signed: &'a [u8],
    /// The signature. For ECDSA it is ASN.1 DER.
    pub signature: &'a [u8],
}

/// A counter: its index in the list of [`crate::metrics::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(pub usize);

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for debugging.
    Debug,
    /// Ordinary events: started, signed in, signed out.
    Info,
    /// Something was refused or retried. An operator may have to act.
    Warn,
    /// The gate cannot work. An operator must act.
    Error,
}

/// The environment of the core.
///
/// The adapter's executor polls the futures. If the future of [`Host::call`] is dropped, its response is discarded.
/// Work that must finish goes to [`Host::spawn`].
pub trait Host {
    /// Sends one request through an Envoy cluster.
    fn call(&self, callout: Callout) -> LocalFuture<'static, Result<CalloutReply, CalloutError>>;
    /// The time of the wall clock.
    fn now(&self) -> Timestamp;
    /// Fills `buffer` with cryptographically secure random bytes.
    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable>;
    /// Checks a signature.
    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable>;
    /// Reads data that the workers of this Envoy share, with its compare-and-swap number.
    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes shared data. With `cas`, only if the value has not changed since it was read.
    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch>;
    /// Runs a job on the worker's root context. It outlives the request that started it. The plugin asks Envoy to wait
    /// for it before it is unloaded, so every job must end.
    fn spawn(&self, job: LocalFuture<'static, ()>);
    /// Runs a job without an end on the root context. It stops when the plugin is unloaded.
    fn spawn_endless(&self, job: LocalFuture<'static, ()>);
    /// Completes after `duration`. The adapter's timer has a resolution of about one millisecond.
    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()>;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);
    /// Writes a log line. `message` must be printable and contain no secrets.
    fn log(&self, level: Level, message: &str);
}

/// Reads shared data for a compare-and-swap. If the key does not exist, it is first created with `initial`. In Envoy,
/// the compare-and-swap number 0 means "write unconditionally", so a missing key cannot be compared.
pub fn shared_or(host: &dyn Host, key: &str, initial: &[u8]) -> Option<(Vec<u8>, u32)> {
    host.shared_get(key).or_else(|| {
        let _ = host.shared_set(key, initial, None);
        host.shared_get(key)
    })
}
