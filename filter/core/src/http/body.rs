//! The body of a request, for the few endpoints that read one.

use std::time::Duration;

use futures_channel::oneshot;

use crate::error::{Dependency, Malformed, Rejection};
use crate::host::Host;
use crate::sync::within;

/// Longest body that is read, in bytes. Logout tokens and administrative messages have no groups in them, so the
/// longest token need not fit.
pub const MAX_BODY_LEN: usize = 64 * 1024;
/// How long a body may take to arrive: a provider sends it along with the headers.
const PATIENCE: Duration = Duration::from_secs(3);

/// A body that arrives while the request is decided about.
pub struct Body(oneshot::Receiver<Result<Vec<u8>, TooLong>>);

/// Where it arrives.
pub struct Arrival(oneshot::Sender<Result<Vec<u8>, TooLong>>);

/// The body is longer than [`MAX_BODY_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Body {
    /// One that is not there yet.
    pub fn arriving() -> (Arrival, Self) {
        let (sender, receiver) = oneshot::channel();
        (Arrival(sender), Self(receiver))
    }

    /// One that is there.
    pub fn of(bytes: impl Into<Vec<u8>>) -> Self {
        let (arrival, body) = Self::arriving();
        arrival.complete(Ok(bytes.into()));
        body
    }

    /// None: the request has no body, or nobody looks at it.
    pub fn none() -> Self {
        Self::of([])
    }

    /// All of it.
    ///
    /// # Errors
    /// [`Malformed::Body`] when it is empty or too long; [`Rejection::Unavailable`] when Envoy does not hand it over.
    pub async fn read(self, host: &dyn Host) -> Result<Vec<u8>, Rejection> {
        match within(host, PATIENCE, self.0).await {
            Some(Ok(Ok(bytes))) if !bytes.is_empty() && bytes.len() <= MAX_BODY_LEN => Ok(bytes),
            Some(Ok(_)) => Err(Malformed::Body.into()),
            None | Some(Err(_)) => Err(Dependency::Body.into()),
        }
    }
}

impl Arrival {
    /// It is there.
    pub fn complete(self, body: Result<Vec<u8>, TooLong>) {
        // Nobody may wait for it any more.
        let _ = self.0.send(body);
    }
}
