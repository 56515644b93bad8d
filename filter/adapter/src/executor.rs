//! Polls the core's futures in the callbacks of a host.
//!
//! A task belongs to a stream or to the root context. Within a stream's callback only that stream's own task runs. All
//! other tasks wait for a callback of the root context.
//!
//! The reason is the effective context. The host delivers the answer to a callout to the context that was effective
//! when the callout was sent, and cancels the callout when that context is gone. If the callback of stream A polled the
//! task of stream B, an answer for B could be lost with A, and changes meant for B would be made to A.
//!
//! The root context lives as long as the instance, so in its callbacks any task may run. The executor makes the task's
//! stream effective, polls the task, and makes the root context effective again. If the stream no longer exists, its
//! task is dropped. If tasks are ready that may not run in the current callback, the scheduler asks for a tick.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use oidc_gate_core::host::LocalFuture;

use crate::context::{Owner, RootContext};
use crate::scheduler::{Scheduler, Span, TaskId};

/// The tasks of one instance in one worker.
pub struct Executor {
    root: Rc<dyn RootContext>,
    scheduler: Rc<dyn Scheduler>,
    tasks: RefCell<HashMap<TaskId, Task>>,
    next_id: Cell<u64>,
}

struct Task {
    owner: Owner,
    span: Span,
    /// `None` while it is polled.
    future: Option<LocalFuture<'static, ()>>,
    waker: Waker,
}

impl Executor {
    /// An executor without tasks.
    pub fn new(root: Rc<dyn RootContext>, scheduler: Rc<dyn Scheduler>) -> Self {
        Self { root, scheduler, tasks: RefCell::default(), next_id: Cell::new(1) }
    }

    /// Adds a task; it first runs at the next [`Executor::run`].
    pub fn spawn(&self, owner: Owner, span: Span, future: LocalFuture<'static, ()>) -> TaskId {
        let id = TaskId(self.next_id.replace(self.next_id.get().wrapping_add(1)));
        let waker = self.scheduler.admit(id, owner, span);
        self.tasks.borrow_mut().insert(id, Task { owner, span, future: Some(future), waker });
        id
    }

    /// Drops a task.
    pub fn cancel(&self, id: TaskId) {
        // Drop the future outside of the borrow: its destructor may wake other tasks.
        let task = self.tasks.borrow_mut().remove(&id);
        drop(task);
    }

    /// Whether a task has not ended.
    pub fn has(&self, id: TaskId) -> bool {
        self.tasks.borrow().contains_key(&id)
    }

    /// The number of requests that wait for a decision.
    pub fn waiting(&self) -> usize {
        self.tasks.borrow().values().filter(|task| task.owner != Owner::Root).count()
    }

    /// Whether all tasks that end by themselves have ended.
    pub fn is_idle(&self) -> bool {
        self.tasks.borrow().values().all(|task| task.span == Span::Endless)
    }

    /// Drops the endless tasks: another instance runs them now.
    pub fn end_endless(&self) {
        let is_endless = |(id, task): (&TaskId, &Task)| (task.span == Span::Endless).then_some(*id);
        let endless: Vec<TaskId> = self.tasks.borrow().iter().filter_map(is_endless).collect();
        endless.into_iter().for_each(|id| self.cancel(id));
    }

    /// Drops all tasks when the instance is destroyed.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }

    /// Runs the ready tasks that may run in a callback of `active`. The others run in a later callback, which it
    /// requests.
    pub fn run(&self, active: Owner) {
        while let Some(id) = self.scheduler.next(&|id| self.may_run(id, active)) {
            let owner = self.tasks.borrow().get(&id).map(|task| task.owner);
            if let Some(owner) = owner {
                self.poll(id, owner, active);
            }
        }
        self.scheduler.settle();
    }

    /// A removed task may run, so that the scheduler forgets it.
    fn may_run(&self, id: TaskId, active: Owner) -> bool {
        let tasks = self.tasks.borrow();
        active == Owner::Root || tasks.get(&id).is_none_or(|task| task.owner == active)
    }

    fn poll(&self, id: TaskId, owner: Owner, active: Owner) {
        let is_elsewhere = active == Owner::Root && owner != Owner::Root;
        if is_elsewhere && self.root.make_effective(owner).is_err() {
            // The stream no longer exists, so drop its task.
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
        if is_elsewhere {
            // The root context exists throughout its callbacks.
            let _ = self.root.make_effective(Owner::Root);
        }
    }
}
