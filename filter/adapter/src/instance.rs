//! The root context of one configuration in one worker: configuration in, gate out, and the jobs that outlive requests.
//!
//! Envoy also creates an instance only to try a configuration. Such an instance does no work: work begins in the first
//! tick, and it never gets one.
//!
//! When another configuration replaces this one, [`Instance::done`] says "not yet" while jobs are under way. Every job
//! ends. The loops that do not (`Host::spawn_endless`) are dropped at once, so that the old instance no longer takes
//! the leases for fetching keys and reading the revocation stream. The longest job writes a revocation that Redis does
//! not accept, for up to 50 minutes. Envoy keeps the old instance only as long as its VM, that is, if the new
//! configuration uses the same `.wasm`. A new `.wasm` gets a new VM, and nothing keeps the old one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use oidc_gate_core::config::{self, Config};
use oidc_gate_core::gate::Gate;
use oidc_gate_core::host::Level;
use oidc_gate_core::jose::probe;
use oidc_gate_core::metrics::RuleReasons;

use crate::call::{Answer, Calls};
use crate::context::{Owner, RootContext, StreamContext};
use crate::executor::Executor;
use crate::host::AdapterHost;
use crate::scheduler::{Scheduler, TaskId};
use crate::stream::{Stream, Worker};

/// One plugin instance in one worker.
pub struct Instance {
    root: Rc<dyn RootContext>,
    scheduler: Rc<dyn Scheduler>,
    executor: Rc<Executor>,
    calls: Calls,
    pub(crate) host: Rc<AdapterHost>,
    gate: RefCell<Option<Rc<Gate>>>,
    bodies: Rc<Cell<usize>>,
    /// The host wants to destroy this instance. It may do so when its jobs are done.
    closing: Cell<bool>,
}

impl Instance {
    /// An instance without a configuration. No request passes.
    pub fn new(root: Rc<dyn RootContext>, scheduler: Rc<dyn Scheduler>) -> Self {
        let executor = Rc::new(Executor::new(root.clone(), scheduler.clone()));
        let calls = Calls::default();
        let host = AdapterHost {
            root: root.clone(),
            scheduler: scheduler.clone(),
            executor: executor.clone(),
            calls: calls.clone(),
            counters: RefCell::default(),
        };
        Self {
            root,
            scheduler,
            executor,
            calls,
            host: Rc::new(host),
            gate: RefCell::default(),
            bodies: Rc::default(),
            closing: Cell::default(),
        }
    }

    /// Loads a configuration, as JSON or as a protobuf `Struct`. False if it is invalid; every error is logged.
    pub fn configure(&self, text: &[u8]) -> bool {
        // After an error there is no gate. Envoy rejects the configuration and keeps using the previous one.
        self.gate.replace(None);
        let Some(config) = self.load(text) else { return false };
        self.serve(config);
        true
    }

    /// Serves this configuration from now on. This does not probe the host: a host that loads once and serves in many
    /// threads calls [`Instance::configure`] first. Background work begins in the next callback. An instance that only
    /// validates a configuration never gets one.
    pub fn serve(&self, config: Config) {
        self.host.define_counters(&RuleReasons::new(&config.policy));
        let gate = Gate::new(config, self.host.clone());
        gate.background();
        self.scheduler.settle();
        self.gate.replace(Some(gate));
    }

    /// The gate, if a valid configuration was loaded.
    pub fn gate(&self) -> Option<Rc<Gate>> {
        self.gate.borrow().clone()
    }

    /// A callback of the root context: wakes tasks whose sleep is over, and runs every task that is ready.
    pub fn tick(&self) {
        self.scheduler.tick();
        self.run();
    }

    /// A callout of the root context was answered.
    pub fn answered(&self, token: u32, answer: Answer) {
        self.calls.answered(token, answer);
        self.run();
    }

    /// The host wants to destroy this instance because a new configuration has replaced it. True if it may do so now. A
    /// refresh in progress must finish: it has used a refresh token, and nothing else holds the new tokens.
    pub fn done(&self) -> bool {
        // End the endless jobs, so that they do not take leases from the new instance.
        self.executor.end_endless();
        let is_idle = self.executor.is_idle();
        self.closing.set(!is_idle);
        is_idle
    }

    /// A new stream, with the host's number for it.
    pub fn stream(&self, id: u32, context: Rc<dyn StreamContext>) -> Stream {
        let worker = Worker {
            gate: self.gate.borrow().clone(),
            executor: self.executor.clone(),
            calls: self.calls.clone(),
            bodies: self.bodies.clone(),
        };
        Stream::new(id, context, worker)
    }

    /// Whether a task has not ended.
    pub fn has(&self, task: TaskId) -> bool {
        self.executor.has(task)
    }

    /// Drops a task.
    pub fn cancel(&self, task: TaskId) {
        self.executor.cancel(task);
    }

    fn run(&self) {
        self.executor.run(Owner::Root);
        if self.closing.get() && self.executor.is_idle() {
            self.closing.set(false);
            self.root.done();
        }
    }

    fn load(&self, text: &[u8]) -> Option<Config> {
        let config = match config::load(text, &|name| self.root.variable(name)) {
            Ok(config) => config,
            Err(errors) => {
                let count = errors.iter().len();
                let what = format!("the configuration has {count} error(s) and is refused:");
                self.root.log(Level::Error, &what);
                for error in errors.iter() {
                    self.root.log(Level::Error, &format!("  {error}"));
                }
                return None;
            }
        };
        for warning in &config.warnings {
            self.root.log(Level::Warn, warning);
        }
        for algorithm in config.algorithms() {
            if let Err(problem) = probe::check(algorithm.host_signature(), &*self.host) {
                let name = algorithm.name();
                let what =
                    format!("{name} can't be used in this Envoy: {problem}; Envoy 1.30 or newer is needed");
                self.root.log(Level::Error, &what);
                return None;
            }
        }
        Some(config)
    }
}

impl Drop for Instance {
    /// Tasks hold the host, which holds the executor, which holds the tasks. This breaks the cycle, so that they are
    /// freed.
    fn drop(&mut self) {
        self.executor.clear();
        self.calls.clear();
    }
}
