//! Waiting within one thread: time limits, events, and jobs that outlive the task that waits for them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::host::{Host, LocalFuture};

/// The future's output, or `None` if it takes longer than `limit`.
pub async fn within<T>(host: &dyn Host, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let future = std::pin::pin!(future);
    match select(future, host.sleep(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Runs `future` as a job of the root context and waits for it. The job finishes even if the waiting task is dropped.
/// `None` only if the job itself was dropped, because the plugin is being replaced.
pub async fn finish<T: 'static>(host: &dyn Host, future: impl Future<Output = T> + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    host.spawn(Box::pin(async move {
        // The waiting task may be gone. The job is complete all the same.
        let _ = sender.send(future.await);
    }));
    receiver.await.ok()
}

/// A recurring event that any number of tasks can wait for.
#[derive(Clone, Default)]
pub struct Event(Rc<Inner>);

#[derive(Default)]
struct Inner {
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Event {
    /// Signals the event and wakes all waiting tasks.
    pub fn notify(&self) {
        self.0.count.set(self.0.count.get().wrapping_add(1));
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Completes at the next occurrence after this call, even if it is polled later.
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

    /// Whether a task is waiting. Dropped tasks count until the next [`Event::notify`].
    pub fn is_awaited(&self) -> bool {
        !self.0.waiting.borrow().is_empty()
    }
}

/// Limits how many tasks do something at once.
pub struct Room {
    most: usize,
    taken: Rc<Cell<usize>>,
}

/// One place of the room. Dropping it frees the place.
pub struct Place(Rc<Cell<usize>>);

impl Room {
    /// An empty room for `most` tasks.
    pub fn new(most: usize) -> Self {
        Self { most, taken: Rc::default() }
    }

    /// A place, if one is free.
    pub fn take(&self) -> Option<Place> {
        let taken = self.taken.get();
        (taken < self.most).then(|| {
            self.taken.set(taken.saturating_add(1));
            Place(self.taken.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Work that one task does for all tasks that need it at the same time.
pub struct Flights<K>(Rc<RefCell<HashMap<K, Event>>>);

/// A task's part in the work.
pub enum Role<K: Hash + Eq + Clone> {
    /// It does the work. The others are woken when this is dropped, even if the task is dropped before it finishes.
    Lead(Leader<K>),
    /// It waits until the leader has finished or was dropped.
    Follow(LocalFuture<'static, ()>),
}

/// Marks the task that does the work.
pub struct Leader<K: Hash + Eq + Clone> {
    flights: Flights<K>,
    key: K,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<K> Clone for Flights<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Hash + Eq + Clone> Flights<K> {
    /// Starts the work, or waits for the task that is doing it.
    pub fn join(&self, key: K) -> Role<K> {
        let mut flights = self.0.borrow_mut();
        match flights.get(&key) {
            Some(landed) => Role::Follow(Box::pin(landed.next())),
            None => {
                flights.insert(key.clone(), Event::default());
                Role::Lead(Leader { flights: self.clone(), key })
            }
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Leader<K> {
    fn drop(&mut self) {
        let landed = self.flights.0.borrow_mut().remove(&self.key);
        if let Some(landed) = landed {
            landed.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;
    use crate::testing::test;

    #[test]
    fn followers_are_woken_when_the_leader_is_done_or_gone() {
        let flights = Flights::default();
        let Role::Lead(leader) = flights.join(1) else { panic!("the first one leads") };
        let Role::Follow(landed) = flights.join(1) else { panic!("the second one follows") };
        assert!(matches!(flights.join(2), Role::Lead(_)), "other work is other work");
        drop(leader);
        TestHost::new().run(landed);
        assert!(matches!(flights.join(1), Role::Lead(_)), "it can be done again");
    }
}
