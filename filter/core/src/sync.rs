//! Waiting, in one thread: time limits, events, and jobs that outlive who waits for them.

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

/// Room for so many at once.
pub struct Room {
    most: usize,
    taken: Rc<Cell<usize>>,
}

/// The place of one of them; free again when it is dropped.
pub struct Place(Rc<Cell<usize>>);

impl Room {
    /// Empty.
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

/// Work that one task does for all who want it at the same time.
pub struct Flights<K>(Rc<RefCell<HashMap<K, Event>>>);

/// What a task does about some work.
pub enum Role<K: Hash + Eq + Clone> {
    /// It does it; the others are woken when this is dropped, also when the task itself is dropped in between.
    Lead(Leader<K>),
    /// It waits until whoever does it has finished or given up.
    Follow(LocalFuture<'static, ()>),
}

/// Does the work.
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
    /// Begins the work, or waits for whoever has begun it.
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
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

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
