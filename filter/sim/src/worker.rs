//! A worker: adapter and core, driven by the callbacks of an Envoy. Each turn of a task is one callback.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use oidc_gate_adapter::call::Answer;
use oidc_gate_adapter::context::Owner;
use oidc_gate_adapter::instance::Instance;
use oidc_gate_adapter::scheduler::TaskId;
use oidc_gate_adapter::stream::{Action, Stream};

use crate::client::exchange::Ask;
use crate::contexts::{Decided, SimRoot, SimStream, UnderWay};
use crate::envoy::WorkerId;
use crate::executor;
use crate::turns::Turns;
use crate::world::World;

/// One worker.
pub struct Worker {
    id: WorkerId,
    number: Cell<u32>,
    life: RefCell<Option<Rc<Life>>>,
}

/// One life of a worker. A restart after a crash begins a new one.
pub struct Life {
    instance: Instance,
    root: Rc<SimRoot>,
    turns: Rc<Turns>,
}

impl Worker {
    /// A worker that does not run yet.
    pub fn new(id: WorkerId) -> Self {
        Self { id, number: Cell::default(), life: RefCell::default() }
    }

    /// The owner of its tasks in this life.
    pub fn owner(&self) -> executor::Owner {
        executor::Owner::Worker { envoy: self.id.envoy, worker: self.id.worker, life: self.number.get() }
    }

    /// Its current life, if it runs.
    pub fn life(&self) -> Option<Rc<Life>> {
        self.life.borrow().clone()
    }

    /// Starts a new life.
    pub fn start(&self, world: &Rc<World>) {
        self.number.set(self.number.get() + 1);
        let root = SimRoot::new(world, self.id);
        let turns = Turns::new(Rc::downgrade(world), root.clone(), self.owner());
        let instance = Instance::new(root.clone(), turns.clone());
        let life = Rc::new(Life { instance, root, turns });
        life.turns.belong_to(&life);
        life.instance.serve(world.config.clone());
        *self.life.borrow_mut() = Some(life);
    }

    /// Stops the worker and drops all its tasks.
    pub fn stop(&self, world: &World) {
        let life = self.life.borrow_mut().take();
        world.executor.kill(self.owner());
        drop(life);
    }
}

/// The callouts of one task.
#[derive(Default)]
struct Calls(Vec<UnderWay>);

impl Calls {
    /// Removes and returns those that were answered.
    fn answered(&mut self, context: &mut Context<'_>) -> Vec<(u32, Owner, Answer)> {
        let mut answered = Vec::new();
        self.0.retain_mut(|call| match call.answer.as_mut().poll(context) {
            Poll::Ready(answer) => {
                answered.push((call.token, call.owner, answer));
                false
            }
            Poll::Pending => true,
        });
        answered
    }
}

impl Life {
    /// One turn of a task: delivers the replies to its callouts, each in a callback of the context that sent it.
    /// Without a reply it is a tick.
    fn turn(&self, task: TaskId, stream: Option<&Stream>, calls: &mut Calls, context: &mut Context<'_>) {
        let answers = calls.answered(context);
        if answers.is_empty() {
            self.turns.give(task, || self.root.in_context(Owner::Root, || self.instance.tick()));
        }
        self.deliver(answers, task, stream, calls, context);
    }

    /// Delivers replies, and those that arrive meanwhile.
    fn deliver(
        &self,
        mut answers: Vec<(u32, Owner, Answer)>,
        task: TaskId,
        stream: Option<&Stream>,
        calls: &mut Calls,
        context: &mut Context<'_>,
    ) {
        loop {
            for (token, owner, answer) in answers {
                let callback = || match (owner, stream) {
                    (Owner::Stream(_), Some(stream)) => stream.answered(token, answer),
                    _ => self.instance.answered(token, answer),
                };
                self.turns.give(task, || self.root.in_context(owner, callback));
            }
            calls.0.extend(self.root.take_sent());
            answers = calls.answered(context);
            if answers.is_empty() {
                return;
            }
        }
    }
}

/// Represents a job of the root context in the world's executor.
pub struct Job {
    life: Weak<Life>,
    task: TaskId,
    calls: Calls,
}

impl Job {
    /// A job that has not run yet.
    pub fn new(life: Weak<Life>, task: TaskId) -> Self {
        Self { life, task, calls: Calls::default() }
    }
}

impl Future for Job {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(life) = self.life.upgrade() else { return Poll::Ready(()) };
        let task = self.task;
        life.turn(task, None, &mut self.calls, context);
        if life.instance.has(task) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(life) = self.life.upgrade() {
            life.turns.forget(self.task);
            life.instance.cancel(self.task);
        }
    }
}

/// A request to a worker. Dropping it means that the client disconnects.
pub struct Request {
    world: Rc<World>,
    life: Rc<Life>,
    number: Rc<Cell<u64>>,
    seen: Rc<SimStream>,
    stream: Option<Stream>,
    task: Option<TaskId>,
    calls: Calls,
    /// The body, until it is sent.
    body: Option<Vec<u8>>,
    /// The part of the body that has arrived.
    arrived: Rc<Cell<Option<Vec<u8>>>>,
}

impl Request {
    /// A request that the worker has not seen yet. `number` is the id of the world's task for it.
    pub fn new(world: &Rc<World>, life: Rc<Life>, ask: &Ask, number: Rc<Cell<u64>>) -> Self {
        Self {
            world: world.clone(),
            seen: life.root.open(ask),
            life,
            number,
            stream: None,
            task: None,
            calls: Calls::default(),
            body: Some(ask.body.clone()),
            arrived: Rc::default(),
        }
    }

    fn begin(&mut self, context: &mut Context<'_>) {
        let life = self.life.clone();
        let gate = life.instance.gate();
        let reads_body = gate.is_some_and(|gate| gate.reads_body(&self.seen.request()));
        let body = self.body.take().filter(|_| reads_body).and_then(|body| self.send(body, context));
        let owner = Owner::Stream(self.seen.id);
        let stream = life.instance.stream(self.seen.id, self.seen.clone());
        let waker = context.waker().clone();
        let (action, task) = life.turns.open(self.number.get(), waker, || {
            life.root.in_context(owner, || stream.request_headers(!reads_body))
        });
        if action == Action::Continue {
            self.seen.forward();
        }
        (self.stream, self.task) = (Some(stream), task);
        if let Some(body) = body {
            self.receive(body);
        }
    }

    /// The body arrives with the headers and is returned, or it arrives a little later.
    fn send(&self, body: Vec<u8>, context: &Context<'_>) -> Option<Vec<u8>> {
        let world = &self.world;
        if world.rng.permille(500) {
            return Some(body);
        }
        let (arrived, waker) = (Rc::downgrade(&self.arrived), context.waker().clone());
        let pause = world.executor.sleep(Duration::from_micros(world.rng.between(50, 5_000)));
        world.spawn_outside("body", async move {
            pause.await;
            // If the stream is gone, nothing waits for the body.
            if let Some(arrived) = arrived.upgrade() {
                arrived.set(Some(body));
                waker.wake();
            }
        });
        None
    }

    fn receive(&self, body: Vec<u8>) {
        let (Some(stream), Some(task)) = (&self.stream, self.task) else { return };
        let len = body.len();
        self.seen.receive(body);
        let callback = || stream.request_body(len, true);
        self.life.turns.give(task, || self.life.root.in_context(Owner::Stream(self.seen.id), callback));
    }
}

impl Future for Request {
    type Output = (Decided, String);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(Decided, String)> {
        let this = &mut *self;
        let life = this.life.clone();
        if this.stream.is_none() {
            this.begin(context);
            if let Some(task) = this.task {
                life.deliver(Vec::new(), task, this.stream.as_ref(), &mut this.calls, context);
            }
        } else if let Some(task) = this.task {
            if let Some(body) = this.arrived.take() {
                this.receive(body);
                life.deliver(Vec::new(), task, this.stream.as_ref(), &mut this.calls, context);
            } else {
                life.turn(task, this.stream.as_ref(), &mut this.calls, context);
            }
        }
        this.seen.decided().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.life.root.close(self.seen.id);
        if let Some(task) = self.task {
            self.life.turns.forget(task);
        }
        self.stream = None;
    }
}
