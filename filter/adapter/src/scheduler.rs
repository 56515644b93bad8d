//! When tasks run. [`Fifo`] runs them in the order in which they became ready; the simulator has a scheduler that draws
//! the order from its seed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use oidc_gate_core::host::LocalFuture;

use crate::context::Owner;

/// The number of a task within an instance. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

/// Whether a task ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// It does its work and ends.
    Finite,
    /// It runs for as long as its owner does.
    Endless,
}

/// Decides when tasks run.
pub trait Scheduler {
    /// Registers a new task, which is ready at once. The returned waker, one for the task's whole life, makes it ready
    /// again.
    fn admit(&self, task: TaskId, owner: Owner, span: Span) -> Waker;
    /// Removes and returns the next ready task that may run now.
    fn next(&self, may_run: &dyn Fn(TaskId) -> bool) -> Option<TaskId>;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()>;
    /// Called when a callback of the root context begins: tasks whose sleep is over become ready.
    fn tick(&self);
    /// Called when no more tasks can run in this callback: requests another callback in time.
    fn settle(&self);
}

/// A host's clock for sleeps. It is monotonic: if a wall clock is set back, sleeps would take longer.
pub trait Clock {
    /// The time since a fixed moment in the past.
    fn elapsed(&self) -> Duration;
    /// Requests [`Instance::tick`](crate::instance::Instance::tick) at that time on this clock, or soon after it. The
    /// time may be in the past. A request for an earlier tick stays in force.
    fn wake_at(&self, at: Duration);
}

/// Runs tasks in the order in which they became ready.
pub struct Fifo {
    ready: Arc<Ready>,
    timers: Rc<Timers>,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<TaskId>>);

struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

struct Timers {
    clock: Rc<dyn Clock>,
    wakers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    next_id: Cell<u64>,
}

impl Fifo {
    /// A scheduler without tasks.
    pub fn new(clock: Rc<dyn Clock>) -> Self {
        let timers = Timers { clock, wakers: RefCell::default(), next_id: Cell::default() };
        Self { ready: Arc::default(), timers: Rc::new(timers) }
    }
}

impl Scheduler for Fifo {
    fn admit(&self, task: TaskId, _: Owner, _: Span) -> Waker {
        self.ready.push(task);
        Waker::from(Arc::new(TaskWaker { task, ready: self.ready.clone() }))
    }

    fn next(&self, may_run: &dyn Fn(TaskId) -> bool) -> Option<TaskId> {
        let mut queue = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = queue.iter().position(|task| may_run(*task))?;
        queue.remove(place)
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        let timers = self.timers.clone();
        let id = timers.next_id.replace(timers.next_id.get().wrapping_add(1));
        let deadline = timers.clock.elapsed().saturating_add(duration);
        Box::pin(Sleep { timers, key: (deadline, id) })
    }

    fn tick(&self) {
        let now = self.timers.clock.elapsed();
        loop {
            let mut wakers = self.timers.wakers.borrow_mut();
            match wakers.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let waker = entry.remove();
                    drop(wakers);
                    waker.wake();
                }
                _ => return,
            }
        }
    }

    fn settle(&self) {
        let due = if self.ready.is_empty() {
            self.timers.wakers.borrow().first_key_value().map(|((deadline, _), _)| *deadline)
        } else {
            Some(self.timers.clock.elapsed())
        };
        if let Some(due) = due {
            self.timers.clock.wake_at(due);
        }
    }
}

impl Ready {
    fn push(&self, task: TaskId) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.contains(&task) {
            queue.push_back(task);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

struct Sleep {
    timers: Rc<Timers>,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.clock.elapsed() >= self.key.0 {
            return Poll::Ready(());
        }
        self.timers.wakers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.wakers.borrow_mut().remove(&self.key);
    }
}
