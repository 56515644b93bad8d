//! The adapter's scheduler in virtual time: a random task runs next, and each turn is one callback.
//!
//! Each task of an instance is represented by a task in the world's executor. In its turn, that task makes the host
//! call the instance. In a callback of the root context, only this task is offered to the instance, so the order within
//! a worker is as free as between workers. In a callback of a stream, all ready tasks are offered, and the adapter's
//! executor must refuse those of other owners.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use oidc_gate_adapter::context::Owner;
use oidc_gate_adapter::scheduler::{Scheduler, Span, TaskId};
use oidc_gate_core::host::LocalFuture;

use crate::contexts::SimRoot;
use crate::executor;
use crate::sabotage::Sabotage;
use crate::worker::{Job, Life};
use crate::world::World;

/// The tasks of one life of a worker.
pub struct Turns {
    world: Weak<World>,
    root: Rc<SimRoot>,
    /// The owner of these tasks in the world.
    owner: executor::Owner,
    life: RefCell<Weak<Life>>,
    tasks: RefCell<BTreeMap<TaskId, Admitted>>,
    /// The task whose turn it is, until it runs.
    turn: Cell<Option<TaskId>>,
    /// The world's task for the stream that is being opened.
    opening: RefCell<Option<(u64, Waker)>>,
    opened: Cell<Option<TaskId>>,
    /// Tasks that ran in this callback although it was not their turn.
    strays: RefCell<Vec<TaskId>>,
}

struct Admitted {
    owner: Owner,
    /// Its id in the world.
    number: u64,
    waker: Arc<TurnWaker>,
}

/// Requests a turn, unless the task already has one.
struct TurnWaker {
    has_turn: AtomicBool,
    world: Waker,
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        if !self.has_turn.load(Ordering::Relaxed) {
            self.world.wake_by_ref();
        }
    }
}

impl Turns {
    /// A scheduler without tasks.
    pub fn new(world: Weak<World>, root: Rc<SimRoot>, owner: executor::Owner) -> Rc<Self> {
        Rc::new(Self {
            world,
            root,
            owner,
            life: RefCell::default(),
            tasks: RefCell::default(),
            turn: Cell::default(),
            opening: RefCell::default(),
            opened: Cell::default(),
            strays: RefCell::default(),
        })
    }

    /// Sets the life to which these tasks belong.
    pub fn belong_to(&self, life: &Rc<Life>) {
        *self.life.borrow_mut() = Rc::downgrade(life);
    }

    /// Runs `callback`, which opens a stream. The world's task with this id and waker represents the stream. Returns
    /// the stream's task, if there is one.
    pub fn open<T>(&self, number: u64, waker: Waker, callback: impl FnOnce() -> T) -> (T, Option<TaskId>) {
        *self.opening.borrow_mut() = Some((number, waker));
        let output = callback();
        *self.opening.borrow_mut() = None;
        self.end();
        (output, self.opened.take())
    }

    /// Runs a callback in which it is this task's turn.
    pub fn give<T>(&self, task: TaskId, callback: impl FnOnce() -> T) -> T {
        self.turn.set(Some(task));
        self.set_turn(task, true);
        let output = callback();
        self.end();
        output
    }

    fn end(&self) {
        if let Some(task) = self.turn.take() {
            self.set_turn(task, false);
        }
        self.strays.borrow_mut().clear();
    }

    /// Forgets a task that has ended.
    pub fn forget(&self, task: TaskId) {
        self.tasks.borrow_mut().remove(&task);
    }

    fn set_turn(&self, task: TaskId, has_turn: bool) {
        if let Some(task) = self.tasks.borrow().get(&task) {
            task.waker.has_turn.store(has_turn, Ordering::Relaxed);
        }
    }

    /// Another ready task of this worker in a stream's callback. The executor must not run it.
    fn stray(&self, may_run: &dyn Fn(TaskId) -> bool) -> Option<TaskId> {
        let world = self.world.upgrade()?;
        if self.root.effective() == Owner::Root {
            return None;
        }
        let all_may = world.plan.sabotage == Some(Sabotage::PollOtherStreams);
        let mut strays = self.strays.borrow_mut();
        let tasks = self.tasks.borrow();
        let is_stray = |(task, admitted): &(&TaskId, &Admitted)| {
            admitted.owner != self.root.effective()
                && world.executor.is_ready(admitted.number)
                && !strays.contains(task)
                && (all_may || may_run(**task))
        };
        let task = tasks.iter().find(is_stray).map(|(task, _)| *task)?;
        strays.push(task);
        Some(task)
    }
}

impl Scheduler for Turns {
    fn admit(&self, task: TaskId, owner: Owner, span: Span) -> Waker {
        let (number, waker) = match (owner, self.world.upgrade()) {
            (_, None) => return Waker::noop().clone(),
            (Owner::Stream(_), Some(_)) => {
                self.turn.set(Some(task));
                self.opened.set(Some(task));
                self.opening.take().expect("a stream begins only where a task stands for it")
            }
            (Owner::Root, Some(world)) => {
                let span = match span {
                    Span::Finite => executor::Span::Finite,
                    Span::Endless => executor::Span::Endless,
                };
                let job = Job::new(self.life.borrow().clone(), task);
                let number = world.executor.spawn(self.owner, span, "job", job);
                (number, world.executor.waker(number).expect("it was just spawned"))
            }
        };
        let has_turn = AtomicBool::new(self.turn.get() == Some(task));
        let waker = Arc::new(TurnWaker { has_turn, world: waker });
        self.tasks.borrow_mut().insert(task, Admitted { owner, number, waker: waker.clone() });
        Waker::from(waker)
    }

    fn next(&self, may_run: &dyn Fn(TaskId) -> bool) -> Option<TaskId> {
        let task = match self.turn.take() {
            Some(task) => {
                self.set_turn(task, false);
                Some(task).filter(|task| may_run(*task))
            }
            None => self.stray(may_run),
        };
        let owner = task.and_then(|task| self.tasks.borrow().get(&task).map(|admitted| admitted.owner));
        self.root.runs(owner);
        task
    }

    /// Envoy's ticks are at least a millisecond apart, and never early.
    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        match self.world.upgrade() {
            Some(world) => {
                let jitter = Duration::from_micros(world.rng.below(1_500));
                Box::pin(world.executor.sleep(duration.saturating_add(jitter)))
            }
            None => Box::pin(std::future::pending()),
        }
    }

    /// Sleeps are timers of the world, which wake their tasks.
    fn tick(&self) {}

    /// The remaining tasks get their turns later.
    fn settle(&self) {}
}
