//! An Envoy: its clock, the data that its workers share, and the workers, each with a gate of its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use oidc_gate_core::gate::Gate;
use oidc_gate_core::host::{
    Callout, CalloutError, CalloutReply, CasMismatch, Counter, CryptoUnavailable, Host, HostSignature, Level,
    LocalFuture, RandomUnavailable,
};
use oidc_gate_core::time::Timestamp;

use crate::executor::{Owner, Span};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::world::{EPOCH_MILLIS, World};
use crate::{net, provider};

/// Which worker of which Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    /// The Envoy.
    pub envoy: usize,
    /// Its worker.
    pub worker: usize,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.envoy, self.worker)
    }
}

/// One Envoy.
pub struct Envoy {
    /// Its workers.
    pub workers: Vec<Worker>,
    shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    next_cas: Cell<u32>,
    /// How far its wall clock is from the true one, in milliseconds.
    offset: Cell<i64>,
    healthy_offset: i64,
}

/// One worker.
pub struct Worker {
    id: WorkerId,
    life: Cell<u32>,
    gate: RefCell<Option<Rc<Gate>>>,
}

impl Envoy {
    /// None of its workers runs yet.
    pub fn new(envoy: usize, workers: usize, offset: i64) -> Self {
        let worker = |worker| Worker {
            id: WorkerId { envoy, worker },
            life: Cell::default(),
            gate: RefCell::default(),
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            shared: RefCell::default(),
            next_cas: Cell::new(1),
            offset: Cell::new(offset),
            healthy_offset: offset,
        }
    }

    /// Its wall clock jumps: from now on it is that far from where it was in the beginning.
    pub fn step_clock(&self, millis: i64) {
        self.offset.set(self.healthy_offset + millis);
    }

    /// Its wall clock is right again.
    pub fn repair_clock(&self) {
        self.offset.set(self.healthy_offset);
    }

    /// Whether its wall clock is as right as it was in the beginning.
    pub fn clock_is_right(&self) -> bool {
        self.offset.get() == self.healthy_offset
    }

    /// It starts anew and has no shared data.
    pub fn forget(&self) {
        self.shared.borrow_mut().clear();
    }

    /// As proxy-wasm does it: a number of 0 means "whatever is there", and a key that is not there is written with any
    /// number.
    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), CasMismatch> {
        let mut shared = self.shared.borrow_mut();
        if let Some((_, current)) = shared.get(key)
            && cas != 0
            && cas != *current
        {
            return Err(CasMismatch);
        }
        let next = self.next_cas.get();
        // Never 0 again, however long it counts.
        self.next_cas.set(next.checked_add(1).unwrap_or(1));
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }
}

impl Worker {
    /// Who owns its tasks, in this life.
    pub fn owner(&self) -> Owner {
        Owner::Worker { envoy: self.id.envoy, worker: self.id.worker, life: self.life.get() }
    }

    /// Its gate, when it runs.
    pub fn gate(&self) -> Option<Rc<Gate>> {
        self.gate.borrow().clone()
    }

    /// A new life begins.
    pub fn start(&self, world: &Rc<World>) {
        self.life.set(self.life.get() + 1);
        let host = Rc::new(SimHost {
            world: Rc::downgrade(world),
            id: self.id,
            owner: self.owner(),
            rng: world.rng.fork("host"),
        });
        let gate = Gate::new(world.config.clone(), host);
        gate.background();
        *self.gate.borrow_mut() = Some(gate);
    }

    /// It dies, and all that it was doing with it.
    pub fn stop(&self, world: &World) {
        let gate = self.gate.borrow_mut().take();
        world.executor.kill(self.owner());
        drop(gate);
    }
}

/// One worker's view of its Envoy.
struct SimHost {
    world: Weak<World>,
    id: WorkerId,
    owner: Owner,
    rng: Rng,
}

impl SimHost {
    /// The world outlives its workers, except while it is being taken down.
    fn world(&self) -> Option<Rc<World>> {
        self.world.upgrade()
    }
}

impl Host for SimHost {
    fn call(&self, callout: Callout) -> LocalFuture<'static, Result<CalloutReply, CalloutError>> {
        let Some(world) = self.world() else {
            return Box::pin(std::future::ready(Err(CalloutError::NotSent)));
        };
        if world.plan.sabotage == Some(Sabotage::LogCallouts) {
            self.log(Level::Debug, &String::from_utf8_lossy(&callout.body));
        }
        let call = net::call(&world, self.id, callout);
        if world.plan.sabotage == Some(Sabotage::PanicOnTrouble) {
            return Box::pin(async move {
                let answer = call.await;
                assert!(answer.is_ok(), "no answer: {answer:?}");
                answer
            });
        }
        call
    }

    fn now(&self) -> Timestamp {
        let (micros, offset) = self.world().map_or((0, 0), |world| {
            (world.executor.now().micros(), world.envoys[self.id.envoy].offset.get())
        });
        Timestamp::from_millis((EPOCH_MILLIS + micros / 1000).saturating_add_signed(offset))
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.rng.fill(buffer);
        Ok(())
    }

    fn verify_signature(
        &self,
        algorithm: HostSignature,
        spki_der: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, CryptoUnavailable> {
        if self.world().is_some_and(|world| world.plan.sabotage == Some(Sabotage::AcceptEverySignature)) {
            return Ok(true);
        }
        match algorithm {
            HostSignature::RsaPkcs1Sha256 => Ok(provider::verify(spki_der, signed, signature)),
            _ => Err(CryptoUnavailable("the simulated provider signs with RS256 only")),
        }
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        let world = self.world()?;
        if world.plan.sabotage == Some(Sabotage::HideEndings) && key.starts_with("oidc-gate.endings.") {
            return None;
        }
        if world.plan.sabotage == Some(Sabotage::TakeUnwrittenForIdle)
            && key.starts_with("oidc-gate.unwritten.")
        {
            return None;
        }
        world.envoys[self.id.envoy].shared.borrow().get(key).cloned()
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        let world = self.world().ok_or(CasMismatch)?;
        world.envoys[self.id.envoy].set(key, value, cas.unwrap_or_default())
    }

    fn spawn(&self, job: LocalFuture<'static, ()>) {
        if let Some(world) = self.world() {
            world.executor.spawn(self.owner, Span::Finite, "job", job);
        }
    }

    fn spawn_endless(&self, job: LocalFuture<'static, ()>) {
        if let Some(world) = self.world() {
            world.executor.spawn(self.owner, Span::Endless, "job", job);
        }
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        match self.world() {
            // Envoy ticks no finer than a millisecond, and never too early.
            Some(world) => {
                let jitter = Duration::from_micros(world.rng.below(1_500));
                Box::pin(world.executor.sleep(duration.saturating_add(jitter)))
            }
            None => Box::pin(std::future::pending()),
        }
    }

    fn count(&self, counter: Counter) {
        if let Some(world) = self.world() {
            world.count(counter.0);
        }
    }

    fn log(&self, level: Level, message: &str) {
        if let Some(world) = self.world() {
            world.ledger.logged(message);
            let now = world.executor.now();
            world.trace.event(now, "log", level as u64, || format!("{} {level:?} {message}", self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_and_swap_is_that_of_proxy_wasm() {
        let envoy = Envoy::new(0, 1, 0);
        assert_eq!(envoy.set("k", b"1", 77), Ok(()), "a key that is not there takes any number");
        let cas = envoy.shared.borrow()["k"].1;
        assert_eq!(envoy.set("k", b"2", cas + 1), Err(CasMismatch));
        assert_eq!(envoy.set("k", b"2", cas), Ok(()));
        assert_eq!(envoy.set("k", b"3", cas), Err(CasMismatch), "every write makes a new number");
        assert_eq!(envoy.set("k", b"4", 0), Ok(()), "0 asks for nothing");
        envoy.forget();
        assert!(envoy.shared.borrow().is_empty());
    }
}
