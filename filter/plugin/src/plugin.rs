//! The root context: configuration in, gate out, and the jobs that outlive requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use oidc_gate_core::config;
use oidc_gate_core::gate::Gate;
use oidc_gate_core::host::{CalloutError, CalloutReply, Level};
use oidc_gate_core::jose::probe;
use oidc_gate_core::metrics::RuleReasons;

use crate::executor::{Executor, Owner};
use crate::host::{EnvoyHost, log};
use crate::hostcalls::{self, Buffer};
use crate::stream::Stream;

/// One plugin instance in one worker.
pub struct Plugin {
    executor: Rc<Executor>,
    host: Rc<EnvoyHost>,
    gate: RefCell<Option<Rc<Gate>>>,
    bodies: Rc<Cell<usize>>,
    /// The host has no more use for this instance; it goes when its jobs are done.
    closing: Cell<bool>,
}

impl Plugin {
    pub fn new(id: u32) -> Self {
        let executor = Rc::new(Executor::new(id));
        Self {
            host: Rc::new(EnvoyHost::new(executor.clone())),
            executor,
            gate: RefCell::default(),
            bodies: Rc::default(),
            closing: Cell::default(),
        }
    }

    /// A new configuration, of `size` bytes; false when it is not good.
    pub fn configure(&self, size: usize) -> bool {
        let gate = self.load(&hostcalls::bytes(Buffer::PluginConfiguration, size));
        if let Some(gate) = &gate {
            gate.background();
            // First work happens in the first tick: the instance that only tries a configuration never gets one.
            self.executor.arm();
        }
        // Without a gate Envoy refuses the configuration and goes on with the one before.
        let is_good = gate.is_some();
        self.gate.replace(gate);
        is_good
    }

    pub fn tick(&self) {
        self.executor.ticked();
        self.executor.fire_timers();
        self.run();
    }

    /// The host wants to let go of this instance, because another configuration has taken its place. Whether it may: a
    /// refresh that is under way has spent a refresh token, and what it bought exists nowhere else.
    pub fn done(&self) -> bool {
        // It must not take the turns of those that go on.
        self.executor.end_endless();
        let is_idle = self.executor.is_idle();
        self.closing.set(!is_idle);
        is_idle
    }

    pub fn stream(&self, id: u32) -> Stream {
        Stream::new(id, self.gate.borrow().clone(), self.executor.clone(), self.bodies.clone())
    }

    pub fn answered(&self, token: u32, reply: Result<CalloutReply, CalloutError>) {
        self.executor.answered(token, reply);
        self.run();
    }

    fn run(&self) {
        self.executor.run(Owner::Root);
        if self.closing.get() && self.executor.is_idle() {
            self.closing.set(false);
            hostcalls::done();
        }
    }

    fn load(&self, json: &[u8]) -> Option<Rc<Gate>> {
        let config = match config::load(json, &|name| std::env::var(name).ok()) {
            Ok(config) => config,
            Err(errors) => {
                log(
                    Level::Error,
                    &format!("the configuration has {} error(s) and is refused:", errors.iter().len()),
                );
                for error in errors.iter() {
                    log(Level::Error, &format!("  {error}"));
                }
                return None;
            }
        };
        for warning in &config.warnings {
            log(Level::Warn, warning);
        }
        for algorithm in config.algorithms() {
            if let Err(problem) = probe::check(algorithm.host_signature(), &*self.host) {
                log(
                    Level::Error,
                    &format!(
                        "{} can't be used in this Envoy: {problem}; Envoy 1.30 or newer is needed",
                        algorithm.name()
                    ),
                );
                return None;
            }
        }
        self.host.define_counters(&RuleReasons::new(&config.policy));
        Some(Gate::new(config, self.host.clone()))
    }
}

impl Drop for Plugin {
    /// Tasks hold the host, which holds the executor, which holds the tasks: without this nothing would ever be freed.
    fn drop(&mut self) {
        self.executor.clear();
    }
}
