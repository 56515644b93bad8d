//! A request under way, which its client can give up.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Request, Response};
use crate::process::Trouble;

/// A request that was begun and has not been waited for.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    abort: oneshot::Sender<()>,
    thread: JoinHandle<Result<Option<Response>, Trouble>>,
}

impl Request {
    /// Sends it from a thread of its own and returns at once.
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
    /// Whether the answer is there, or will never come.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Closes the connection in the middle, as a browser does whose tab is closed. When this returns, it is closed.
    pub fn abort(self) {
        let _ = self.abort.send(());
        let _ = self.thread.join();
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// No complete answer came in time.
    pub fn finish(self) -> Result<Response, Trouble> {
        // Kept until the end: dropping it does not abort.
        let Self { abort: _abort, thread } = self;
        match thread.join() {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err(Trouble::new("the request was given up")),
            Ok(Err(trouble)) => Err(trouble),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
