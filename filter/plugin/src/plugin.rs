//! The root context of one configuration: the adapter's instance, and the ticks that drive it.

use std::rc::Rc;

use oidc_gate_adapter::call::Answer;
use oidc_gate_adapter::instance::Instance;
use oidc_gate_adapter::scheduler::Fifo;
use oidc_gate_adapter::stream::Stream;

use crate::host::{EnvoyRoot, EnvoyStream};
use crate::hostcalls::{self, Buffer};
use crate::ticks::Ticks;

/// One plugin instance in one worker.
pub struct Plugin {
    instance: Instance,
    ticks: Rc<Ticks>,
}

impl Plugin {
    pub fn new(id: u32) -> Self {
        let ticks = Rc::new(Ticks::new());
        let instance = Instance::new(Rc::new(EnvoyRoot { id }), Rc::new(Fifo::new(ticks.clone())));
        Self { instance, ticks }
    }

    /// Loads a new configuration of `size` bytes. False if it is invalid.
    pub fn configure(&self, size: usize) -> bool {
        self.instance.configure(&hostcalls::bytes(Buffer::PluginConfiguration, size))
    }

    pub fn tick(&self) {
        self.ticks.ticked();
        self.instance.tick();
    }

    /// Whether the host may destroy this instance at once.
    pub fn done(&self) -> bool {
        self.instance.done()
    }

    pub fn stream(&self, id: u32) -> Stream {
        self.instance.stream(id, Rc::new(EnvoyStream))
    }

    pub fn answered(&self, token: u32, answer: Answer) {
        self.instance.answered(token, answer);
    }
}
