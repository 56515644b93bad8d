//! A request in progress, which the client can abort.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Request, Response};
use crate::process::Trouble;

/// A request that was sent and whose response has not been read yet.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    abort: oneshot::Sender<()>,
    thread: JoinHandle<Result<Option<Response>, Trouble>>,
}

impl Request {
    /// Sends the request from another thread and returns immediately.
    pub fn begin(self) -> Pending {
        let (abort, aborted) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    response = self.exchanged() => response.map(Some),
                    Ok(()) = aborted => Ok(None),
                }
            })
            // Dropping the runtime closes the connection.
        });
        Pending { abort, thread }
    }
}

impl Pending {
    /// Whether the response is complete or the request has failed.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Closes the connection before the response, as a browser does when its tab is closed. Returns after it is closed.
    pub fn abort(self) {
        let _ = self.abort.send(());
        let _ = self.thread.join();
    }

    /// Waits for the response.
    ///
    /// # Errors
    /// There was no complete response in time.
    pub fn finish(self) -> Result<Response, Trouble> {
        // Dropping the sender does not abort the request; only a message does.
        let Self { abort: _abort, thread } = self;
        match thread.join() {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err(Trouble::new("the request was given up")),
            Ok(Err(trouble)) => Err(trouble),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
