//! The body of a request, for the few endpoints that read one.

use std::time::Duration;

use futures_channel::oneshot;

use crate::error::{Dependency, Malformed, Rejection};
use crate::host::Host;
use crate::sync::within;

/// Longest body that is read, in bytes. This is less than the longest token, because logout tokens and administrative
/// messages contain no groups.
pub const MAX_BODY_LEN: usize = 64 * 1024;
/// How long a body may take to arrive. Providers send it together with the headers.
const PATIENCE: Duration = Duration::from_secs(3);

/// A body that may still be arriving while the gate decides about the request.
pub struct Body(oneshot::Receiver<Result<Vec<u8>, TooLong>>);

/// Delivers the body to its [`Body`].
pub struct Arrival(oneshot::Sender<Result<Vec<u8>, TooLong>>);

/// The body is longer than [`MAX_BODY_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Body {
    /// A body that has not arrived yet.
    pub fn arriving() -> (Arrival, Self) {
        let (sender, receiver) = oneshot::channel();
        (Arrival(sender), Self(receiver))
    }

    /// A body that has already arrived.
    pub fn of(bytes: impl Into<Vec<u8>>) -> Self {
        let (arrival, body) = Self::arriving();
        arrival.complete(Ok(bytes.into()));
        body
    }

    /// No body: the request has none, or no endpoint reads it.
    pub fn none() -> Self {
        Self::of([])
    }

    /// The complete body.
    ///
    /// # Errors
    /// [`Malformed::Body`] if it is empty or too long; [`Rejection::Unavailable`] if Envoy does not deliver it in time.
    pub async fn read(self, host: &dyn Host) -> Result<Vec<u8>, Rejection> {
        match within(host, PATIENCE, self.0).await {
            Some(Ok(Ok(bytes))) if !bytes.is_empty() && bytes.len() <= MAX_BODY_LEN => Ok(bytes),
            Some(Ok(_)) => Err(Malformed::Body.into()),
            None | Some(Err(_)) => Err(Dependency::Body.into()),
        }
    }
}

impl Arrival {
    /// Delivers the complete body.
    pub fn complete(self, body: Result<Vec<u8>, TooLong>) {
        // The receiver may have been dropped.
        let _ = self.0.send(body);
    }
}
