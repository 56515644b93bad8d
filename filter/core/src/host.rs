//! All that the outside does for the core. The adapter implements [`Host`] for Envoy and for the simulator; the unit
//! tests of the core have one in memory.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::time::Timestamp;

/// A future of one thread: the filter runs in a single-threaded Wasm worker.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One HTTP request to an Envoy cluster (or, for a cluster with a TCP connection pool, raw bytes).
#[derive(Clone)]
pub struct Callout {
    /// The Envoy cluster.
    pub cluster: String,
    /// Headers, pseudo-headers first (`:method`, `:path`, `:authority`).
    pub headers: Vec<(String, String)>,
    /// The body; never empty for a TCP-pool cluster.
    pub body: Vec<u8>,
    /// The whole call's limit.
    pub timeout: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalloutReply {
    /// `:status`; Envoy makes 503 of a failed connection and 504 of a timeout.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl CalloutReply {
    /// The first header of that (lower-case) name, when it is printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(candidate, _)| candidate == name)
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// Why a call brought nothing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalloutError {
    /// Envoy has no cluster of that name.
    #[error("unknown cluster")]
    UnknownCluster,
    /// Circuit breaker, no healthy host, or Envoy refused to send.
    #[error("not sent")]
    NotSent,
    /// Sent, and then reset or cut off before there was an answer.
    #[error("reset before an answer")]
    Reset,
}

/// The host could not say whether a signature is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host cannot verify this signature: {0}")]
pub struct CryptoUnavailable(pub &'static str);

/// The host has no randomness for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no randomness")]
pub struct RandomUnavailable;

/// Another worker wrote first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CasMismatch;

/// A signature check that the host can do (BoringSSL in Envoy). The curve comes with the key.
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

/// One counter: its place in the list of [`crate::metrics::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(pub usize);

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For somebody who is looking for something.
    Debug,
    /// Ordinary events: started, signed in, signed out.
    Info,
    /// Refused, retried: somebody may have to act.
    Warn,
    /// Cannot work: somebody has to act.
    Error,
}

/// The outside world.
///
/// Futures are polled by the adapter's executor. Dropping the future of [`Host::call`] forgets the answer; work that
/// must finish is given to [`Host::spawn`].
pub trait Host {
    /// Sends one request through an Envoy cluster.
    fn call(&self, callout: Callout) -> LocalFuture<'static, Result<CalloutReply, CalloutError>>;
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Fills `buffer` from a cryptographic source.
    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable>;
    /// Checks `signature` over `signed` with a public key (SPKI, DER). ECDSA signatures are ASN.1 DER here.
    fn verify_signature(
        &self,
        algorithm: HostSignature,
        spki_der: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, CryptoUnavailable>;
    /// Reads data shared by this Envoy's workers, with its compare-and-swap number.
    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes shared data; with `cas`, only over the version that was read.
    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch>;
    /// Runs a job on the worker's root context: it outlives the request that started it, and is finished before the
    /// plugin goes, so it has to have an end.
    fn spawn(&self, job: LocalFuture<'static, ()>);
    /// Runs a job on the root context that has no end, and goes with the plugin.
    fn spawn_endless(&self, job: LocalFuture<'static, ()>);
    /// Completes after `duration` (the adapter's tick is about a millisecond).
    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()>;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);
    /// Writes a log line. `message` is printable and without secrets.
    fn log(&self, level: Level, message: &str);
}

/// Reads shared data to compare and swap it; where there is none yet, `initial` comes first, since a swap needs
/// something to compare with: in Envoy, number 0 means "write whatever is there".
pub fn shared_or(host: &dyn Host, key: &str, initial: &[u8]) -> Option<(Vec<u8>, u32)> {
    host.shared_get(key).or_else(|| {
        let _ = host.shared_set(key, initial, None);
        host.shared_get(key)
    })
}
