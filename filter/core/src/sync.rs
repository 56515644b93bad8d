//! Waiting, in one thread: time limits, events, and jobs that outlive who waits for them.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::host::Host;

/// The future's output, or `None` when it takes longer than `limit`.
pub async fn within<T>(host: &dyn Host, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let future = std::pin::pin!(future);
    match select(future, host.sleep(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Runs `future` as a job of the root context and waits for it. When the waiter goes away, the job still finishes.
/// `None` only when the job itself was dropped (the plugin is being replaced).
pub async fn finish<T: 'static>(host: &dyn Host, future: impl Future<Output = T> + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    host.spawn(Box::pin(async move {
        // Nobody left to hear it: the job did its work all the same.
        let _ = sender.send(future.await);
    }));
    receiver.await.ok()
}

/// Something that happens now and then, and that any number of tasks can wait for.
#[derive(Clone, Default)]
pub struct Event(Rc<Inner>);

#[derive(Default)]
struct Inner {
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Event {
    /// It happened: wakes everybody.
    pub fn notify(&self) {
        self.0.count.set(self.0.count.get().wrapping_add(1));
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Completes when it happens next, counted from the call and not from the first poll.
    pub fn next(&self) -> impl Future<Output = ()> + 'static {
        let inner = self.0.clone();
        let seen = inner.count.get();
        poll_fn(move |context| {
            if inner.count.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = inner.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Whether somebody waits. Tasks that were dropped count until the next [`Event::notify`].
    pub fn is_awaited(&self) -> bool {
        !self.0.waiting.borrow().is_empty()
    }
}
