//! The root context: configuration in, gate out, and the jobs that outlive requests.

use std::rc::Rc;

use oidc_gate_core::config;
use oidc_gate_core::gate::Gate;
use oidc_gate_core::host::Level;
use oidc_gate_core::jose::probe;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::executor::{Executor, Owner};
use crate::host::{EnvoyHost, callout_reply, log};
use crate::stream::Stream;

/// One plugin instance in one worker.
pub struct Plugin {
    executor: Rc<Executor>,
    host: Rc<EnvoyHost>,
    gate: Option<Rc<Gate>>,
}

impl Plugin {
    pub fn new(id: u32) -> Self {
        let executor = Rc::new(Executor::new(id));
        Self { host: Rc::new(EnvoyHost::new(executor.clone())), executor, gate: None }
    }

    fn configure(&self) -> Option<Rc<Gate>> {
        let json = self.get_plugin_configuration().unwrap_or_default();
        let config = match config::load(&json, &|name| std::env::var(name).ok()) {
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
        Some(Gate::new(config, self.host.clone()))
    }
}

impl Drop for Plugin {
    /// Tasks hold the host, which holds the executor, which holds the tasks: without this nothing would ever be freed.
    fn drop(&mut self) {
        self.executor.clear();
    }
}

impl Context for Plugin {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _: usize) {
        self.executor.answered(token, callout_reply(num_headers, body_size));
        self.executor.run(Owner::Root);
    }
}

impl RootContext for Plugin {
    fn on_configure(&mut self, _: usize) -> bool {
        self.host.define_counters();
        self.gate = self.configure();
        match &self.gate {
            Some(gate) => {
                gate.background();
                // First work happens in the first tick: the instance that only tries a configuration never gets one.
                self.executor.arm();
                true
            }
            // Envoy refuses the configuration and goes on with the one before.
            None => false,
        }
    }

    fn on_tick(&mut self) {
        self.executor.ticked();
        self.executor.fire_timers();
        self.executor.run(Owner::Root);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(id, self.gate.clone(), self.executor.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
