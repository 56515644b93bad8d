//! A host for unit tests: scripted answers, a clock that is set by hand, real signature checks, deterministic
//! randomness.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oidc_gate_envoy_model::SharedData;

use crate::host::*;
use crate::jose::signature::SignatureVerifier as _;
use crate::time::Timestamp;

/// The attribute of a test: `#[test]`, or under node that of `wasm_bindgen_test`.
#[cfg(not(target_arch = "wasm32"))]
pub use std::prelude::v1::test;
#[cfg(target_arch = "wasm32")]
pub use wasm_bindgen_test::wasm_bindgen_test as test;

pub mod config;
#[cfg(not(target_arch = "wasm32"))]
pub mod provider;
#[cfg(not(target_arch = "wasm32"))]
pub mod redis;
#[cfg(not(target_arch = "wasm32"))]
pub mod world;

type Answer = Box<dyn Fn(&Callout) -> Result<CalloutReply, CalloutError>>;

/// A host in memory.
pub struct TestHost {
    now: Cell<Timestamp>,
    seed: Cell<u64>,
    random_works: Cell<bool>,
    clusters: RefCell<HashMap<String, Answer>>,
    shared: SharedData,
    jobs: RefCell<VecDeque<LocalFuture<'static, ()>>>,
    log: RefCell<Vec<String>>,
    counts: RefCell<HashMap<usize, u64>>,
    calls: RefCell<Vec<Callout>>,
}

impl TestHost {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(Timestamp::from_secs(1_767_225_600)),
            seed: Cell::new(1),
            random_works: Cell::new(true),
            clusters: RefCell::default(),
            shared: SharedData::default(),
            jobs: RefCell::default(),
            log: RefCell::default(),
            counts: RefCell::default(),
            calls: RefCell::default(),
        })
    }

    pub fn break_randomness(&self) {
        self.random_works.set(false);
    }

    pub fn advance(&self, duration: Duration) {
        self.now.set(self.now.get().saturating_add(duration));
    }

    /// Sets the replies of a cluster.
    pub fn on(
        &self,
        cluster: &str,
        answer: impl Fn(&Callout) -> Result<CalloutReply, CalloutError> + 'static,
    ) {
        self.clusters.borrow_mut().insert(cluster.to_owned(), Box::new(answer));
    }

    /// Lets time pass while jobs run.
    pub async fn sleep_for(self: Rc<Self>, duration: Duration) {
        self.sleep(duration).await;
    }

    pub fn calls(&self) -> Vec<Callout> {
        self.calls.borrow().clone()
    }

    /// Runs a future and the jobs that it spawns. Each round moves the clock by 5 ms.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.run_jobs();
            self.advance(Duration::from_millis(5));
        }
        panic!("the future never completes; log: {:#?}", self.log.borrow());
    }

    /// Polls every job once.
    pub fn run_jobs(&self) {
        let mut context = Context::from_waker(Waker::noop());
        let jobs = std::mem::take(&mut *self.jobs.borrow_mut());
        for mut job in jobs {
            if job.as_mut().poll(&mut context).is_pending() {
                self.jobs.borrow_mut().push_back(job);
            }
        }
    }
}

impl Host for TestHost {
    fn call(&self, callout: Callout) -> LocalFuture<'static, Result<CalloutReply, CalloutError>> {
        let answer = match self.clusters.borrow().get(&callout.cluster) {
            Some(answer) => answer(&callout),
            None => Err(CalloutError::UnknownCluster),
        };
        self.calls.borrow_mut().push(callout);
        Box::pin(std::future::ready(answer))
    }

    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn random(&self, buffer: &mut [u8]) -> Result<(), RandomUnavailable> {
        if !self.random_works.get() {
            return Err(RandomUnavailable);
        }
        for byte in buffer {
            // splitmix64: different every time, the same in every run.
            let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.seed.set(seed);
            let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed >> 56) as u8;
        }
        Ok(())
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        crate::jose::testing::Verifier.verify_signature(check)
    }

    fn shared_get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.shared.get(key)
    }

    fn shared_set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), CasMismatch> {
        self.shared.set(key, value, cas).map_err(|_| CasMismatch)
    }

    fn spawn(&self, job: LocalFuture<'static, ()>) {
        self.jobs.borrow_mut().push_back(job);
    }

    fn spawn_endless(&self, job: LocalFuture<'static, ()>) {
        self.spawn(job);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        // One poll is 5 ms: see `run`.
        let polls = Cell::new(duration.as_millis() / 5);
        Box::pin(std::future::poll_fn(move |_| match polls.get() {
            0 => Poll::Ready(()),
            left => {
                polls.set(left - 1);
                Poll::Pending
            }
        }))
    }

    fn count(&self, Counter(place): Counter) {
        *self.counts.borrow_mut().entry(place).or_default() += 1;
    }

    fn log(&self, level: Level, message: &str) {
        self.log.borrow_mut().push(format!("{level:?} {message}"));
    }
}
