//! Many requests at once: a burst of a fixed number, or a continuous load that runs until it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};

use super::{Request, Response};
use crate::process::{Trouble, wait_until};

/// Sends `total` requests, at most `at_once` of them concurrently, each on a new connection. The responses are in the
/// order of the requests.
///
/// # Panics
/// If no runtime can be created.
pub fn burst(
    total: usize,
    at_once: usize,
    make: impl Fn(usize) -> Request,
) -> Vec<Result<Response, Trouble>> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    let mut answers: Vec<_> = runtime.block_on(async {
        let requests = (0..total).map(|number| {
            let request = make(number);
            async move { (number, request.exchanged().await) }
        });
        stream::iter(requests).buffer_unordered(at_once.max(1)).collect().await
    });
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// One request of a [`Load`] and its result.
#[derive(Debug)]
pub struct Outcome {
    /// The number of the client that sent it.
    pub client: usize,
    /// When the request was sent.
    pub began: Instant,
    /// When the response was complete, or the request failed.
    pub ended: Instant,
    /// The response.
    pub result: Result<Response, Trouble>,
}

impl Outcome {
    /// The status, if there is a response.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|response| response.status)
    }
}

/// Clients that send one request after another until they are stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    outcomes: Mutex<Vec<Outcome>>,
}

impl Shared {
    fn outcomes(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Starts this many clients. `make` gets the number of the client.
    pub fn start(clients: usize, make: impl Fn(usize) -> Request + Send + Sync + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let make = Arc::new(make);
        let threads = (0..clients)
            .map(|client| {
                let (shared, make) = (Arc::clone(&shared), Arc::clone(&make));
                std::thread::spawn(move || {
                    while !shared.stopped.load(Ordering::SeqCst) {
                        let began = Instant::now();
                        let result = make(client).send();
                        let outcome = Outcome { client, began, ended: Instant::now(), result };
                        shared.outcomes().push(outcome);
                    }
                })
            })
            .collect();
        Self { shared, threads }
    }

    /// How many requests are complete.
    pub fn count(&self) -> usize {
        self.shared.outcomes().len()
    }

    /// Waits for a response that `wanted` accepts, to a request that was sent after this call.
    ///
    /// # Errors
    /// There was none within `bound`.
    pub fn wait_for(&self, bound: Duration, wanted: impl Fn(&Outcome) -> bool) -> Result<(), Trouble> {
        let since = Instant::now();
        let found = || {
            let outcomes = self.shared.outcomes();
            outcomes.iter().rev().any(|outcome| outcome.began >= since && wanted(outcome))
        };
        if wait_until(bound, found) {
            return Ok(());
        }
        Err(Trouble::new(format!("no client got what was waited for in {bound:?}")))
    }

    /// Stops the clients and returns all results, in the order of the responses.
    ///
    /// # Panics
    /// If a client panicked.
    pub fn stop(mut self) -> Vec<Outcome> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        std::mem::take(&mut *self.shared.outcomes())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
