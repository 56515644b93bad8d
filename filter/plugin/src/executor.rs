//! Polls the core's futures in Envoy's callbacks.
//!
//! A task belongs to a stream or to the root context. The host gives the answer of a callout to the context that was
//! effective when it was sent, and cancels the call once that context is gone. So within a stream's callback only that
//! stream's own task runs; everything else waits for a callback of the root context, which lives as long as the plugin.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use oidc_gate_core::host::{CalloutError, CalloutReply, LocalFuture};

use crate::hostcalls;

const MIN_TICK: Duration = Duration::from_millis(1);
const MAX_TICK: Duration = Duration::from_secs(60);

/// To whom a task, or the callback we are in, belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Root,
    Stream(u32),
}

/// Whether a task has an end of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Finite,
    Endless,
}

/// The tasks of one plugin instance in one worker.
pub struct Executor {
    root: u32,
    tasks: RefCell<HashMap<u64, Task>>,
    next_id: Cell<u64>,
    ready: Arc<Ready>,
    calls: RefCell<HashMap<u32, Rc<Call>>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    /// When the host will tick next.
    tick_at: Cell<Option<Instant>>,
}

struct Task {
    owner: Owner,
    span: Span,
    /// Taken out while it is polled.
    future: Option<LocalFuture<'static, ()>>,
    /// One for the task's whole life, so that whoever is waited for can tell it from others.
    waker: Waker,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.id);
    }
}

impl Ready {
    fn push(&self, id: u64) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.contains(&id) {
            queue.push_back(id);
        }
    }

    fn take(&self) -> VecDeque<u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A callout under way.
#[derive(Default)]
pub struct Call {
    reply: RefCell<Option<Result<CalloutReply, CalloutError>>>,
    waker: RefCell<Option<Waker>>,
}

impl Executor {
    pub fn new(root: u32) -> Self {
        Self {
            root,
            tasks: RefCell::default(),
            next_id: Cell::new(1),
            ready: Arc::default(),
            calls: RefCell::default(),
            timers: RefCell::default(),
            tick_at: Cell::new(None),
        }
    }

    /// Adds a task; it first runs at the next [`Executor::run`].
    pub fn spawn(&self, owner: Owner, span: Span, future: LocalFuture<'static, ()>) -> u64 {
        let id = self.next_id.replace(self.next_id.get().wrapping_add(1));
        let waker = Waker::from(Arc::new(TaskWaker { id, ready: self.ready.clone() }));
        self.tasks.borrow_mut().insert(id, Task { owner, span, future: Some(future), waker });
        self.ready.push(id);
        id
    }

    /// Drops a task, wherever it is.
    pub fn cancel(&self, id: u64) {
        // The future is dropped outside of the borrow: dropping it may wake others.
        let task = self.tasks.borrow_mut().remove(&id);
        drop(task);
    }

    /// How many requests wait for their decision.
    pub fn waiting(&self) -> usize {
        self.tasks.borrow().values().filter(|task| task.owner != Owner::Root).count()
    }

    /// Whether all that has an end has come to it.
    pub fn is_idle(&self) -> bool {
        self.tasks.borrow().values().all(|task| task.span == Span::Endless)
    }

    /// Drops what has no end: another instance does that now.
    pub fn end_endless(&self) {
        let is_endless = |(id, task): (&u64, &Task)| (task.span == Span::Endless).then_some(*id);
        let endless: Vec<u64> = self.tasks.borrow().iter().filter_map(is_endless).collect();
        endless.into_iter().for_each(|id| self.cancel(id));
    }

    /// Drops everything: the plugin instance goes.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.calls.borrow_mut().clear();
    }

    /// Runs what may run in a callback of `active`, and asks for a tick when something is left.
    pub fn run(&self, active: Owner) {
        let mut later = Vec::new();
        while !self.ready.is_empty() {
            for id in self.ready.take() {
                let owner = self.tasks.borrow().get(&id).map(|task| task.owner);
                match owner {
                    Some(owner) if active == Owner::Root || owner == active => self.poll(id, owner, active),
                    Some(_) => later.push(id),
                    None => {}
                }
            }
        }
        for id in later {
            self.ready.push(id);
        }
        self.arm();
    }

    fn poll(&self, id: u64, owner: Owner, active: Owner) {
        if let (Owner::Stream(stream), Owner::Root) = (owner, active)
            && hostcalls::set_effective_context(stream).is_err()
        {
            // The stream is gone, and its task with it.
            self.cancel(id);
            return;
        }
        let taken = self
            .tasks
            .borrow_mut()
            .get_mut(&id)
            .and_then(|task| Some((task.future.take()?, task.waker.clone())));
        if let Some((mut future, waker)) = taken {
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            let mut tasks = self.tasks.borrow_mut();
            match poll {
                Poll::Pending => {
                    if let Some(task) = tasks.get_mut(&id) {
                        task.future = Some(future);
                    }
                }
                Poll::Ready(()) => {
                    tasks.remove(&id);
                }
            }
        }
        if active == Owner::Root && owner != Owner::Root {
            let _ = hostcalls::set_effective_context(self.root);
        }
    }

    /// Books a callout that was sent, until its answer comes or nobody waits for it any more.
    pub fn sent(self: &Rc<Self>, token: u32) -> Booking {
        let call = Rc::new(Call::default());
        self.calls.borrow_mut().insert(token, call.clone());
        Booking { call, token: Some(token), executor: self.clone() }
    }

    /// A callout that could not be sent.
    pub fn not_sent(self: &Rc<Self>, error: CalloutError) -> Booking {
        let call = Rc::new(Call::default());
        call.complete(Err(error));
        Booking { call, token: None, executor: self.clone() }
    }

    /// The answer to a callout is there; who waited for it becomes ready.
    pub fn answered(&self, token: u32, reply: Result<CalloutReply, CalloutError>) {
        let call = self.calls.borrow_mut().remove(&token);
        if let Some(call) = call {
            call.complete(reply);
        }
    }

    /// The timers that are due make their tasks ready.
    pub fn fire_timers(&self) {
        let now = Instant::now();
        loop {
            let mut timers = self.timers.borrow_mut();
            match timers.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let waker = entry.remove();
                    drop(timers);
                    waker.wake();
                }
                _ => return,
            }
        }
    }

    /// Asks for a tick at the next deadline. A tick that comes early enough is left alone: setting the period starts
    /// it anew.
    pub fn arm(&self) {
        let now = Instant::now();
        let due = if self.ready.is_empty() {
            self.timers.borrow().first_key_value().map(|((deadline, _), _)| *deadline)
        } else {
            Some(now)
        };
        let Some(due) = due else { return };
        let left = due.saturating_duration_since(now).min(MAX_TICK).max(MIN_TICK);
        let at = now.checked_add(left).unwrap_or(now);
        if self.tick_at.get().is_none_or(|pending| at < pending) {
            self.tick_at.set(Some(at));
            hostcalls::set_tick_period(u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
        }
    }

    /// The host ticked; it goes on with the same period until it gets another one.
    pub fn ticked(&self) {
        self.tick_at.set(None);
    }
}

impl Call {
    pub fn complete(&self, reply: Result<CalloutReply, CalloutError>) {
        *self.reply.borrow_mut() = Some(reply);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A callout that somebody waits for. The host sends no answer to a stream that is gone, so its booking has to go with
/// the stream's future.
pub struct Booking {
    call: Rc<Call>,
    token: Option<u32>,
    executor: Rc<Executor>,
}

impl Booking {
    /// Completes with the answer.
    pub async fn answer(self) -> Result<CalloutReply, CalloutError> {
        std::future::poll_fn(|context| match self.call.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                *self.call.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.executor.calls.borrow_mut().remove(&token);
        }
    }
}

/// Completes when `duration` is over.
pub struct Sleep {
    executor: Rc<Executor>,
    key: (Instant, u64),
}

impl Sleep {
    pub fn new(executor: Rc<Executor>, duration: Duration) -> Self {
        let id = executor.next_id.replace(executor.next_id.get().wrapping_add(1));
        let now = Instant::now();
        let deadline = now.checked_add(duration).unwrap_or(now);
        Self { executor, key: (deadline, id) }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.key.0 {
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
