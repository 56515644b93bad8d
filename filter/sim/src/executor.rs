//! Virtual time and its tasks. A random ready task runs next. If no task is ready, time jumps to the next timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use oidc_gate_core::host::LocalFuture;

use crate::rng::Rng;

/// A point in virtual time, counted from the beginning of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The beginning.
    pub const ZERO: Self = Self(0);

    /// Microseconds since the beginning.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Later by `duration`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// The owner of a task. The task is dropped with its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The world outside of the gate: network, browsers, users.
    Outside,
    /// One life of a worker. A restart after a crash begins a new one.
    Worker {
        /// The Envoy's index.
        envoy: usize,
        /// The worker's index in its Envoy.
        worker: usize,
        /// The number of this life.
        life: u32,
    },
}

/// Whether a task ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// It does its work and ends.
    Finite,
    /// It runs for as long as its owner does.
    Endless,
}

/// A task that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Its owner.
    pub owner: Owner,
    /// Its name.
    pub name: &'static str,
    /// When it was spawned.
    pub since: Moment,
}

/// Runs the tasks of one world.
pub struct Executor {
    now: Cell<Moment>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Arc<Mutex<Vec<u64>>>,
    timers: RefCell<BTreeMap<(Moment, u64), Waker>>,
    next_id: Cell<u64>,
    finite: Cell<usize>,
    stalled: RefCell<Vec<(Owner, Moment)>>,
    rng: Rng,
}

struct Task {
    pending: Pending,
    span: Span,
    /// `None` while it is polled.
    future: Option<LocalFuture<'static, ()>>,
    wake: Arc<TaskWake>,
    waker: Waker,
}

struct TaskWake {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A task of this owner was polled.
    Polled(Owner),
    /// Time moved on.
    Advanced,
    /// Nothing will happen any more, or not before the given end.
    Idle,
}

impl Executor {
    /// An executor without tasks.
    pub fn new(rng: Rng) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::default(),
            tasks: RefCell::default(),
            ready: Arc::default(),
            timers: RefCell::default(),
            next_id: Cell::default(),
            finite: Cell::default(),
            stalled: RefCell::default(),
            rng,
        })
    }

    /// The current virtual time.
    pub fn now(&self) -> Moment {
        self.now.get()
    }

    /// Adds a task.
    pub fn spawn(
        &self,
        owner: Owner,
        span: Span,
        name: &'static str,
        future: impl Future<Output = ()> + 'static,
    ) -> u64 {
        let id = self.fresh_id();
        let wake = Arc::new(TaskWake { id, queued: AtomicBool::new(false), ready: self.ready.clone() });
        let waker = Waker::from(wake.clone());
        let pending = Pending { owner, name, since: self.now() };
        let task = Task { pending, span, future: Some(Box::pin(future)), wake, waker: waker.clone() };
        self.tasks.borrow_mut().insert(id, task);
        self.finite.set(self.finite.get() + usize::from(span == Span::Finite));
        waker.wake();
        id
    }

    /// The waker of a task.
    pub fn waker(&self, id: u64) -> Option<Waker> {
        self.tasks.borrow().get(&id).map(|task| task.waker.clone())
    }

    /// Whether a task is ready to run.
    pub fn is_ready(&self, id: u64) -> bool {
        self.tasks.borrow().get(&id).is_some_and(|task| task.wake.queued.load(Ordering::Relaxed))
    }

    /// Drops a task.
    pub fn cancel(&self, id: u64) {
        // Drop it outside of the borrow: its destructor may wake or cancel other tasks.
        let task = self.tasks.borrow_mut().remove(&id);
        self.discard(task);
    }

    /// Drops all tasks of `owner`.
    pub fn kill(&self, owner: Owner) {
        let is_his = |_: &u64, task: &mut Task| task.pending.owner == owner;
        let gone: Vec<Task> = self.tasks.borrow_mut().extract_if(.., is_his).map(|(_, task)| task).collect();
        self.discard(gone);
    }

    /// Drops all tasks.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut *self.tasks.borrow_mut());
        self.discard(gone.into_values());
    }

    fn discard(&self, gone: impl IntoIterator<Item = Task>) {
        for task in gone {
            self.finite.set(self.finite.get() - usize::from(task.span == Span::Finite));
        }
    }

    /// Stalls all tasks of `owner` until then.
    pub fn stall(&self, owner: Owner, until: Moment) {
        self.stalled.borrow_mut().push((owner, until));
    }

    /// Ends all stalls.
    pub fn end_stalls(&self) {
        for (_, until) in self.stalled.borrow_mut().iter_mut() {
            *until = self.now();
        }
        let tasks = self.tasks.borrow();
        tasks.values().for_each(|task| task.waker.wake_by_ref());
    }

    fn stalled_until(&self, owner: Owner) -> Option<Moment> {
        let now = self.now();
        let mut stalled = self.stalled.borrow_mut();
        stalled.retain(|(_, until)| *until > now);
        stalled.iter().filter(|(stalled, _)| *stalled == owner).map(|(_, until)| *until).max()
    }

    /// The finite tasks that have not ended.
    pub fn unfinished(&self) -> Vec<Pending> {
        let tasks = self.tasks.borrow();
        tasks.values().filter(|task| task.span == Span::Finite).map(|task| task.pending).collect()
    }

    /// The number of finite tasks that have not ended.
    pub fn unfinished_count(&self) -> usize {
        self.finite.get()
    }

    /// The oldest task with this name.
    pub fn oldest(&self, name: &str) -> Option<Pending> {
        let tasks = self.tasks.borrow();
        tasks.values().map(|task| task.pending).find(|pending| pending.name == name)
    }

    /// Completes after `duration`.
    pub fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        Sleep { key: (self.now().saturating_add(duration), self.fresh_id()), executor: self.clone() }
    }

    /// Polls one task. If none is ready, moves time to the next timer, unless that is after `end`.
    pub fn step(&self, end: Moment) -> Step {
        loop {
            let id = {
                let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                if ready.is_empty() {
                    None
                } else {
                    Some({
                        let index = self.rng.index(ready.len());
                        ready.swap_remove(index)
                    })
                }
            };
            match id {
                Some(id) => {
                    if let Some(step) = self.poll(id) {
                        return step;
                    }
                }
                None => return self.advance(end),
            }
        }
    }

    fn poll(&self, id: u64) -> Option<Step> {
        let (mut future, waker, pending) = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks.get_mut(&id)?;
            task.wake.queued.store(false, Ordering::Relaxed);
            if let Some(until) = self.stalled_until(task.pending.owner) {
                self.timers.borrow_mut().insert((until, self.fresh_id()), task.waker.clone());
                return None;
            }
            (task.future.take()?, task.waker.clone(), task.pending)
        };
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        match poll {
            Poll::Pending => {
                // The task may have cancelled itself during the poll.
                let mut tasks = self.tasks.borrow_mut();
                let rest = match tasks.get_mut(&id) {
                    Some(task) => task.future.replace(future),
                    None => Some(future),
                };
                drop(tasks);
                drop(rest);
            }
            Poll::Ready(()) => {
                drop(future);
                self.cancel(id);
            }
        }
        Some(Step::Polled(pending.owner))
    }

    fn advance(&self, end: Moment) -> Step {
        let mut timers = self.timers.borrow_mut();
        let Some(&(due, _)) = timers.keys().next() else { return Step::Idle };
        if due > end {
            self.now.set(self.now().max(end));
            return Step::Idle;
        }
        self.now.set(self.now().max(due));
        let later = timers.split_off(&(Moment(due.0 + 1), 0));
        let now = std::mem::replace(&mut *timers, later);
        drop(timers);
        now.into_values().for_each(Waker::wake);
        Step::Advanced
    }

    fn fresh_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }
}

/// A future that completes at a point in time.
pub struct Sleep {
    executor: Rc<Executor>,
    key: (Moment, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.key.0 {
            return Poll::Ready(());
        }
        self.executor.timers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.executor.timers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u64> {
        let executor = Executor::new(Rng::new(seed));
        let seen = Rc::new(RefCell::new(Vec::new()));
        for number in 0..8 {
            let (seen, executor_) = (seen.clone(), executor.clone());
            executor.spawn(Owner::Outside, Span::Finite, "test", async move {
                executor_.sleep(Duration::from_secs(1 + number % 2)).await;
                seen.borrow_mut().push(number);
            });
        }
        while executor.step(Moment(10_000_000)) != Step::Idle {}
        assert_eq!(executor.now(), Moment(2_000_000));
        assert!(executor.unfinished().is_empty());
        seen.take()
    }

    #[test]
    fn a_seed_decides_the_order_of_what_is_ready_and_time_the_rest() {
        assert_eq!(order(1), order(1));
        assert!((2..10).any(|seed| order(seed) != order(1)), "chance has a say");
        for seed in 0..10 {
            let order = order(seed);
            assert!(order[..4].iter().all(|number| number % 2 == 0), "{order:?}");
        }
    }

    #[test]
    fn what_belongs_to_a_dead_owner_is_gone_and_its_timers_with_it() {
        let executor = Executor::new(Rng::new(1));
        let owner = Owner::Worker { envoy: 0, worker: 0, life: 1 };
        let sleep = executor.sleep(Duration::from_secs(5));
        executor.spawn(owner, Span::Finite, "test", sleep);
        assert!(matches!(executor.step(Moment::ZERO), Step::Polled(_)));
        assert_eq!(executor.unfinished().len(), 1);
        executor.kill(owner);
        assert!(executor.unfinished().is_empty());
        assert_eq!(executor.step(Moment(u64::MAX)), Step::Idle);
    }
}
