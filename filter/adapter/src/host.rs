//! The adapter as the core's [`Host`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_core::host::{
    Callout, CalloutError, CalloutReply, CasMismatch, Counter, CryptoUnavailable, Host, Level, LocalFuture,
    RandomUnavailable, SignatureCheck,
};
use oidc_gate_core::metrics::{self, RuleReasons};
use oidc_gate_core::time::Timestamp;

use crate::call::Calls;
use crate::context::{Owner, RootContext};
use crate::executor::Executor;
use crate::scheduler::{Scheduler, Span};

/// One instance's view of its host.
pub(crate) struct AdapterHost {
    pub(crate) root: Rc<dyn RootContext>,
    pub(crate) scheduler: Rc<dyn Scheduler>,
    pub(crate) executor: Rc<Executor>,
    pub(crate) calls: Calls,
    pub(crate) counters: RefCell<Vec<Option<u32>>>,
}

impl AdapterHost {
    /// Defines every counter, so that each is visible from the start. A counter that the host refuses is never
    /// incremented.
    pub(crate) fn define_counters(&self, rules: &RuleReasons) {
        let ids = metrics::names(rules).iter().map(|name| self.root.define_counter(name)).collect();
        *self.counters.borrow_mut() = ids;
    }
}

impl Host for AdapterHost {
    fn call(&self, callout: Callout) -> LocalFuture<'static, Result<CalloutReply, CalloutError>> {
        Box::pin(self.calls.book(self.root.send(&callout)).answer())
    }

    fn now(&self) -> Timestamp {
        self.root.now()
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.root.random(buffer)
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        self.root.verify_signature(check)
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.root.shared_get(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        self.root.shared_set(key, value, cas)
    }

    fn spawn(&self, job: LocalFuture<'static, ()>) {
        self.executor.spawn(Owner::Root, Span::Finite, job);
    }

    fn spawn_endless(&self, job: LocalFuture<'static, ()>) {
        self.executor.spawn(Owner::Root, Span::Endless, job);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        self.scheduler.sleep(duration)
    }

    fn count(&self, Counter(place): Counter) {
        let counter = self.counters.borrow().get(place).copied().flatten();
        if let Some(counter) = counter {
            self.root.increment(counter);
        }
    }

    fn log(&self, level: Level, message: &str) {
        self.root.log(level, message);
    }
}
