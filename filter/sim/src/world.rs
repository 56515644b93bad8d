//! Builds the world of a plan, runs it to its end, and returns the outcome.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_core::config::{self, Config};
use oidc_gate_redis_model::server::Server;
use serde_json::json;

use crate::client::{administrator, api, attacker, browser, credential_replayer, flood};
use crate::envoy::{Envoy, WorkerId};
use crate::executor::{Executor, Moment, Owner, Sleep, Span, Step};
use crate::faults::{self, Faults, Scope};
use crate::ledger::{Ledger, Rule, Violation};
use crate::plan::{Event, FaultProfile, Plan};
use crate::poison;
use crate::provider::{CLIENT, ISSUER, ORIGIN, Provider, SECRET};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::trace::{Detail, Trace};

/// The wall clock when a run begins, in milliseconds since the epoch.
pub const EPOCH_MILLIS: u64 = 1_767_225_600_000;
/// Redis' password, if the plan has one.
pub const REDIS_PASSWORD: &str = "redis-s3cret-7";
/// The key that seals sessions.
pub const KEY: &str = "mJ3vQ8zZ1uR5xkT0aWc7yLh4eNf9bGd2PsVoIqXrCtE=";
/// `clock_leeway`
pub const LEEWAY: Duration = Duration::from_secs(2);
/// `limits.unknown_tickets`: burst, and rate per second.
pub const UNKNOWN_TICKETS: (u32, u32) = (64, 8);
/// `limits.callbacks`: burst, and rate per second.
pub const CALLBACKS: (u32, u32) = (64, 8);
/// How long users then check that everything works.
const SHOWING: Duration = Duration::from_secs(60);
/// How long the remaining tasks then have to end.
const DRAINING: Duration = Duration::from_secs(90);
/// How long any request may wait for its decision.
const PATIENCE: Duration = Duration::from_secs(45);

/// The true wall clock, in milliseconds since the epoch.
pub fn epoch_millis(now: Moment) -> u64 {
    EPOCH_MILLIS + now.micros() / 1000
}

/// The true wall clock, in seconds since the epoch.
pub fn epoch_secs(now: Moment) -> u64 {
    epoch_millis(now) / 1000
}

/// The `sub` of the user with this number.
pub fn subject(user: usize) -> String {
    format!("subject-{user}")
}

/// What users do in a phase of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// They use the gate while faults occur.
    Use,
    /// They wait until the world has settled.
    Wait,
    /// They check that everything works.
    Show,
    /// They leave.
    Leave,
}

/// A simulated world.
pub struct World {
    /// The plan of the seed.
    pub plan: Plan,
    /// The gate's configuration.
    pub config: Config,
    /// Virtual time, and the tasks in it.
    pub executor: Rc<Executor>,
    /// The event trace.
    pub trace: Trace,
    /// The faults.
    pub faults: Rc<Faults>,
    /// The true state.
    pub ledger: Rc<Ledger>,
    /// Redis.
    pub redis: Server,
    /// The provider.
    pub provider: Provider,
    /// The Envoys.
    pub envoys: Vec<Envoy>,
    /// Randomness for users and workers.
    pub rng: Rng,
    /// Randomness for the network.
    pub net_rng: Rng,
    act: Cell<Act>,
    requests: Cell<u64>,
    calls: Cell<u64>,
    counters: RefCell<BTreeMap<u32, u64>>,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// A hash of the whole event trace.
    pub hash: u64,
    /// The last lines of the trace, if requested.
    pub lines: Vec<String>,
    /// Event counts.
    pub tally: Tally,
}

/// Event counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps of the executor.
    pub steps: u64,
    /// Requests that reached the application.
    pub forwarded: u64,
    /// Requests to which the gate replied itself.
    pub answered: u64,
    /// Completed logins.
    pub logins: u64,
    /// Refresh tokens presented to the provider.
    pub refreshes: u64,
    /// Confirmed sign-outs.
    pub sign_outs: u64,
    /// Confirmed logout notifications.
    pub announcements: u64,
    /// Commands that Redis executed.
    pub commands: u64,
    /// Executions of scripts with a planted bug.
    pub sabotaged: u64,
}

impl World {
    /// A world before its first event.
    pub fn new(plan: Plan, detail: Detail) -> Rc<Self> {
        let rng = Rng::new(plan.seed);
        let executor = Executor::new(rng.fork("executor"));
        let ledger = Ledger::new(&plan);
        let faults = Rc::new(Faults::new(&plan, rng.fork("faults")));
        ledger.set_faults(faults.clone());
        let password = plan.redis_password.then(|| REDIS_PASSWORD.to_owned());
        let skew = i64::try_from(plan.skew.as_millis()).unwrap_or_default();
        let envoys = (0..plan.envoys)
            .map(|envoy| {
                let offset = rng.below(plan.skew.as_millis() as u64 * 2 + 1);
                Envoy::new(envoy, plan.workers, i64::try_from(offset).unwrap_or_default() - skew)
            })
            .collect();
        Rc::new(Self {
            config: configuration(&plan),
            executor,
            trace: Trace::new(detail),
            redis: Server::new(password, plan.sabotage.map(|what| what.scripts()).unwrap_or_default()),
            provider: Provider::new(&plan.provider, plan.people.users, rng.fork("provider"), ledger.clone()),
            faults,
            ledger,
            envoys,
            net_rng: rng.fork("net"),
            rng: rng.fork("world"),
            act: Cell::new(Act::Use),
            requests: Cell::default(),
            calls: Cell::default(),
            counters: RefCell::default(),
            plan,
        })
    }

    /// Runs the world to its end.
    pub fn run(self: &Rc<Self>) -> Outcome {
        for envoy in &self.envoys {
            envoy.workers.iter().for_each(|worker| worker.start(self));
        }
        self.people_come();
        self.spawn_outside("faults", faults::run(self.clone()));
        let mut steps = 0;
        let mut end = Moment::ZERO.saturating_add(self.plan.duration);
        for act in [Act::Use, Act::Wait, Act::Show, Act::Leave] {
            self.act.set(act);
            if act == Act::Wait {
                self.repair();
            }
            self.go_on_until(end, act, &mut steps);
            let next = match act {
                Act::Use => self.settling(),
                Act::Wait => SHOWING,
                Act::Show | Act::Leave => DRAINING,
            };
            end = self.executor.now().max(end).saturating_add(next);
            if self.ledger.violation().is_some() {
                break;
            }
        }
        self.check_end();
        let outcome = self.outcome(steps);
        self.take_down();
        outcome
    }

    fn go_on_until(self: &Rc<Self>, end: Moment, act: Act, steps: &mut u64) {
        loop {
            let step = self.executor.step(end);
            *steps += 1;
            if self.ledger.violation().is_some() {
                return;
            }
            match step {
                Step::Idle => return,
                Step::Polled(Owner::Worker { envoy, worker, .. }) if self.faults.crashes_now(&self.plan) => {
                    self.crash(WorkerId { envoy, worker });
                }
                Step::Polled(_) => {}
                Step::Advanced => self.check_patience(),
            }
            // Only the workers' endless jobs are left, and nothing more will happen.
            if act == Act::Leave && self.executor.unfinished_count() == 0 {
                return;
            }
            if act == Act::Show && self.executor.unfinished_count() == 0 {
                return;
            }
        }
    }

    /// How long after the last fault everything must work again. After a failed call, the next refresh of a session may
    /// be delayed by 30 s, and a clock step can delay it by as much again.
    fn settling(&self) -> Duration {
        Duration::from_secs(match self.plan.fault_profile {
            FaultProfile::Calm if self.plan.people.administrator.is_zero() => 4,
            FaultProfile::Calm => 14,
            FaultProfile::Crashes => 15,
            FaultProfile::Storm
                if [Event::ClockStep, Event::RedisClockStep]
                    .iter()
                    .any(|step| self.plan.faults.events.contains(step)) =>
            {
                65
            }
            FaultProfile::Storm | FaultProfile::Pressure => 35,
        })
    }

    fn check_patience(&self) {
        let now = self.executor.now();
        if let Some(stream) = self.executor.oldest("stream")
            && now.duration_since(stream.since) > PATIENCE
        {
            let what = format!("a request waits for its decision since {}", stream.since);
            self.ledger.violate(Rule::Settles, now, what);
        }
    }

    /// After all users have left, no task of theirs may remain.
    fn check_end(&self) {
        if self.ledger.violation().is_some() {
            return;
        }
        let left = self.executor.unfinished();
        if let Some(task) = left.first() {
            let now = self.executor.now();
            let what = format!(
                "{} tasks never end, such as {} of {:?} since {}",
                left.len(),
                task.name,
                task.owner,
                task.since
            );
            self.ledger.violate(Rule::Settles, now, what);
        }
    }

    fn people_come(self: &Rc<Self>) {
        let people = &self.plan.people;
        for number in 0..people.browsers {
            browser::open(self, number);
        }
        for number in 0..people.api_clients {
            self.spawn_outside("API client", api::run(self.clone(), number));
        }
        if people.attacker {
            self.spawn_outside("attacker", attacker::run(self.clone()));
        }
        if people.flood {
            self.spawn_outside("flood", flood::run(self.clone()));
        }
        if people.credential_replayer {
            self.spawn_outside("ghost", credential_replayer::run(self.clone()));
        }
        if !people.administrator.is_zero() {
            self.spawn_outside("administrator", administrator::run(self.clone()));
        }
    }

    /// Ends all faults.
    fn repair(&self) {
        self.faults.end();
        self.executor.end_stalls();
        self.envoys.iter().for_each(Envoy::repair_clock);
        self.provider.pardon();
        poison::cure(self);
        self.trace.event(self.executor.now(), "repaired", 0, String::new);
    }

    /// Crashes a worker. Another one replaces it soon after.
    pub fn crash(self: &Rc<Self>, at: WorkerId) {
        let now = self.executor.now();
        self.trace.event(now, "crash", 0, || at.to_string());
        self.faults.happened(now, Scope::Worker(at.envoy, at.worker));
        self.ledger.crashed(at, now);
        self.envoys[at.envoy].workers[at.worker].stop(self);
        self.restart_later(at, 1_000);
    }

    /// Kills an Envoy, with the data that its workers share.
    pub fn kill_envoy(self: &Rc<Self>, envoy: usize) {
        let now = self.executor.now();
        self.envoys[envoy].shared.clear();
        for worker in 0..self.plan.workers {
            let at = WorkerId { envoy, worker };
            self.ledger.crashed(at, now);
            self.envoys[envoy].workers[worker].stop(self);
            self.restart_later(at, 3_000);
        }
    }

    fn restart_later(self: &Rc<Self>, at: WorkerId, within_millis: u64) {
        let world = self.clone();
        let pause = Duration::from_millis(self.rng.below(within_millis));
        self.spawn_outside("restart", async move {
            world.executor.sleep(pause).await;
            let worker = &world.envoys[at.envoy].workers[at.worker];
            if worker.life().is_none() {
                worker.start(&world);
                let now = world.executor.now();
                world.trace.event(now, "restart", 0, || at.to_string());
            }
        });
    }

    /// Spawns a task that belongs to no worker.
    pub fn spawn_outside(&self, name: &'static str, future: impl Future<Output = ()> + 'static) -> u64 {
        self.executor.spawn(Owner::Outside, Span::Finite, name, future)
    }

    /// A random pause of this mean length.
    pub fn pause_about(&self, mean: Duration) -> Sleep {
        let most = 2 * u64::try_from(mean.as_millis()).unwrap_or(u64::MAX / 2);
        self.executor.sleep(Duration::from_millis(self.rng.between(1, most)))
    }

    /// The current phase.
    pub fn act(&self) -> Act {
        self.act.get()
    }

    /// Redis' clock, in milliseconds since the epoch.
    pub fn redis_clock(&self, now: Moment) -> u64 {
        epoch_millis(now) + self.faults.redis_ahead()
    }

    /// A number for the next request.
    pub fn next_request(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// The number of the latest request.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// A number for the next callout.
    pub fn next_call(&self) -> u64 {
        self.calls.set(self.calls.get() + 1);
        self.calls.get()
    }

    /// Counts one of the gate's counters.
    pub fn count(&self, counter: u32) {
        *self.counters.borrow_mut().entry(counter).or_default() += 1;
    }

    /// A random worker of one Envoy, or of all.
    pub fn any_worker(&self, envoy: Option<usize>) -> WorkerId {
        let envoy = envoy.unwrap_or_else(|| self.rng.index(self.plan.envoys));
        WorkerId { envoy, worker: self.rng.index(self.plan.workers) }
    }

    fn outcome(&self, steps: u64) -> Outcome {
        Outcome {
            violation: self.ledger.violation(),
            hash: self.trace.hash(),
            lines: self.trace.lines(),
            tally: Tally {
                steps,
                commands: self.redis.commands(),
                sabotaged: self.redis.sabotaged(),
                ..self.ledger.tally()
            },
        }
    }

    /// Breaks the reference cycle: tasks hold the world, and the world holds tasks.
    fn take_down(&self) {
        for envoy in &self.envoys {
            envoy.workers.iter().for_each(|worker| worker.stop(self));
        }
        self.executor.clear();
    }
}

fn configuration(plan: &Plan) -> Config {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    let mut redis = json!({"cluster": "redis", "prefix": "mlflow", "timeout": millis(plan.redis_timeout)});
    if plan.redis_password {
        redis["password"] = json!(REDIS_PASSWORD);
    }
    let mut session = json!({
        "keys": [KEY], "cache_ttl": millis(plan.cache_ttl), "idle_timeout": millis(plan.idle_timeout),
        "absolute_timeout": millis(plan.absolute_timeout), "refresh_ahead": millis(plan.refresh_ahead),
        "without_refresh_token": if plan.keep_without_refresh { "keep" } else { "end" }, "redis": redis,
    });
    if let Some(interval) = plan.check_interval {
        session["check_interval"] = json!(millis(interval));
    }
    let mut bearer = json!({"audiences": [CLIENT], "algorithms": ["RS256"]});
    if let Some(interval) = plan.bearer_check_interval {
        bearer["check_interval"] = json!(millis(interval));
    }
    let document = json!({
        "public_url": ORIGIN,
        "issuer": {
            "url": ISSUER, "cluster": "keycloak", "timeout": millis(plan.issuer_timeout), "refresh_interval": "30s",
            // Discovery and the key fetch are two calls, each of which may take the maximum time.
            "startup_wait": millis(plan.issuer_timeout * 2),
        },
        "client": {"id": CLIENT, "secret": SECRET},
        "login": {},
        "session": session,
        "bearer": bearer,
        "groups": {},
        "policy": {"users": "mlflow_users"},
        "clock_leeway": millis(LEEWAY),
    });
    let mut config = config::load(document.to_string().as_bytes(), &|_| None)
        .unwrap_or_else(|errors| panic!("the plan makes no configuration: {errors}"));
    let limits = &mut config.limits;
    (limits.unknown_tickets.burst, limits.unknown_tickets.per_second) = UNKNOWN_TICKETS;
    (limits.callbacks.burst, limits.callbacks.per_second) = CALLBACKS;
    if plan.sabotage == Some(Sabotage::IgnoreCallbackLimit) {
        limits.callbacks.burst = u32::MAX;
    }
    config
}
