//! Decides which faults occur, when and where. Every fault is recorded, so that rules can check whether a fault excuses
//! a deviation.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_redis_model::server::Mood;

use crate::executor::Moment;
use crate::plan::{Event, Plan};
use crate::poison;
use crate::rng::Rng;
use crate::world::World;

/// The fate of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The call and its reply arrive.
    Delivered,
    /// The connection is refused.
    Refused,
    /// The call never arrives, and the caller learns nothing until its timeout.
    Swallowed,
    /// The call never arrives, and the caller sees a lost connection.
    LostRequest,
    /// The call arrives, but the reply is lost.
    LostReply,
    /// The call arrives, and the reply comes after the timeout.
    Late,
    /// Only this many of 1000 parts of the call arrive.
    Cut(u64),
    /// The call arrives and is answered with an error.
    Error(u64),
}

/// Who is affected by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody.
    All,
    /// One Envoy.
    Envoy(usize),
    /// One worker.
    Worker(usize, usize),
    /// Everybody who writes to Redis.
    Writers,
}

impl Scope {
    fn covers(self, envoy: usize, worker: usize) -> bool {
        match self {
            Self::All | Self::Writers => true,
            Self::Envoy(hit) => hit == envoy,
            Self::Worker(hit, one) => (hit, one) == (envoy, worker),
        }
    }
}

/// The current faults and their record.
pub struct Faults {
    log: RefCell<Vec<(Moment, Scope)>>,
    stalls: RefCell<Vec<(Moment, Scope)>>,
    clock_steps: Cell<u64>,
    on: Cell<bool>,
    rng: Rng,
    redis: Cell<Outage>,
    redis_ahead: Cell<u64>,
    stream_away: Cell<Moment>,
    provider_away: Cell<Moment>,
    from_redis: Vec<Cell<Moment>>,
    from_provider: Vec<Cell<Moment>>,
}

#[derive(Clone, Copy, Default)]
struct Outage {
    until: Moment,
    kind: RedisTrouble,
    error: &'static str,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum RedisTrouble {
    #[default]
    Away,
    Hanging,
    ReadOnly,
    Loading,
}

/// The error replies of a Redis in trouble.
const REDIS_ERRORS: [&str; 8] = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MOVED 3999 127.0.0.1:6381",
    "CLUSTERDOWN The cluster is down",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
];
/// The error replies that refuse only writes.
const WRITE_REFUSALS: [&str; 4] = ["READONLY", "OOM", "MISCONF", "NOREPLICAS"];

fn refuses_writes_only(error: &str) -> bool {
    WRITE_REFUSALS.iter().any(|kind| error.starts_with(kind))
}

impl Faults {
    /// No faults yet.
    pub fn new(plan: &Plan, rng: Rng) -> Self {
        let cells = || (0..plan.envoys).map(|_| Cell::default()).collect();
        Self {
            log: RefCell::default(),
            stalls: RefCell::default(),
            clock_steps: Cell::default(),
            on: Cell::new(true),
            rng,
            redis: Cell::default(),
            redis_ahead: Cell::default(),
            stream_away: Cell::default(),
            provider_away: Cell::default(),
            from_redis: cells(),
            from_provider: cells(),
        }
    }

    /// Ends all faults.
    pub fn end(&self) {
        self.on.set(false);
        self.redis.set(Outage::default());
        self.redis_ahead.set(0);
        self.stream_away.set(Moment::ZERO);
        self.provider_away.set(Moment::ZERO);
        self.from_redis.iter().chain(&self.from_provider).for_each(|until| until.set(Moment::ZERO));
    }

    /// Whether faults can still occur.
    pub fn are_on(&self) -> bool {
        self.on.get()
    }

    /// Records a fault.
    pub fn happened(&self, at: Moment, scope: Scope) {
        self.log.borrow_mut().push((at, scope));
    }

    /// Whether a fault since then may explain a worker's behaviour.
    pub fn excuse(&self, envoy: usize, worker: usize, since: Moment) -> bool {
        self.log
            .borrow()
            .iter()
            .rev()
            .take_while(|(at, _)| *at >= since)
            .any(|(_, scope)| scope.covers(envoy, worker))
    }

    /// When the last fault affected a reader of this Envoy.
    pub fn last_of(&self, envoy: usize) -> Moment {
        self.latest(|scope| match scope {
            Scope::All => true,
            Scope::Envoy(hit) | Scope::Worker(hit, _) => hit == envoy,
            Scope::Writers => false,
        })
    }

    /// When Redis last began or stopped to refuse all writes.
    pub fn last_refusal(&self) -> Moment {
        self.latest(|scope| scope == Scope::Writers)
    }

    fn latest(&self, is_meant: impl Fn(Scope) -> bool) -> Moment {
        let log = self.log.borrow();
        log.iter().rev().find(|(_, scope)| is_meant(*scope)).map_or(Moment::ZERO, |(at, _)| *at)
    }

    /// Whether a worker was stalled at some time since then.
    pub fn stalled_since(&self, envoy: usize, worker: usize, since: Moment) -> bool {
        self.stalls.borrow().iter().any(|(until, scope)| *until >= since && scope.covers(envoy, worker))
    }

    /// Whether a worker was stalled at that time, or until shortly before.
    pub fn stalled_within(&self, envoy: usize, worker: usize, before: Duration, at: Moment) -> bool {
        let mut stalls = self.stalls.borrow().clone().into_iter();
        stalls.any(|(until, scope)| {
            scope.covers(envoy, worker) && (until >= at || at.duration_since(until) <= before)
        })
    }

    /// Whether any worker was stalled since then.
    pub fn any_stall_since(&self, since: Moment) -> bool {
        self.stalls.borrow().iter().any(|(until, _)| *until >= since)
    }

    /// Whether no clock has jumped so far.
    pub fn clocks_were_right(&self) -> bool {
        self.clock_steps.get() == 0
    }

    /// Whether any fault occurred since then.
    pub fn any_since(&self, since: Moment) -> bool {
        self.log.borrow().last().is_some_and(|(at, _)| *at >= since)
    }

    /// Draws the fate of a call to Redis.
    pub fn to_redis(&self, plan: &Plan, envoy: usize, now: Moment) -> Fate {
        let outage = self.redis.get();
        if now < self.from_redis[envoy].get() {
            return if self.rng.permille(500) { Fate::Swallowed } else { Fate::Refused };
        }
        if now < outage.until {
            match outage.kind {
                RedisTrouble::Away => return Fate::Refused,
                RedisTrouble::Hanging => return Fate::Swallowed,
                RedisTrouble::ReadOnly | RedisTrouble::Loading => {}
            }
        }
        if !self.on.get() {
            return Fate::Delivered;
        }
        let faults = &plan.faults;
        self.draw(&[
            (faults.redis_lost_request, Fate::LostRequest),
            (faults.redis_lost_reply, Fate::LostReply),
            (faults.redis_late, Fate::Late),
            (faults.redis_cut, Fate::Cut(self.rng.below(1000))),
            (faults.redis_error, Fate::Error(self.rng.below(REDIS_ERRORS.len() as u64))),
        ])
    }

    /// Draws the fate of a call to the provider.
    pub fn to_provider(&self, plan: &Plan, envoy: usize, now: Moment) -> Fate {
        if now < self.from_provider[envoy].get() {
            return if self.rng.permille(500) { Fate::Swallowed } else { Fate::Refused };
        }
        if now < self.provider_away.get() {
            return Fate::Refused;
        }
        if !self.on.get() {
            return Fate::Delivered;
        }
        let faults = &plan.faults;
        self.draw(&[
            (faults.provider_lost_request, Fate::LostRequest),
            (faults.provider_lost_reply, Fate::LostReply),
            (faults.provider_late, Fate::Late),
            (faults.provider_error, Fate::Error(*self.rng.pick(&[500, 502, 503]))),
        ])
    }

    fn draw(&self, chances: &[(u64, Fate)]) -> Fate {
        let hit = chances.iter().find(|(chance, _)| *chance > 0 && self.rng.permille(*chance));
        hit.map_or(Fate::Delivered, |(_, fate)| *fate)
    }

    /// Draws whether a logout notification is lost.
    pub fn loses_announcement(&self, plan: &Plan) -> bool {
        self.on.get()
            && plan.faults.lost_announcement > 0
            && self.rng.permille(plan.faults.lost_announcement * 5)
    }

    /// Whether the provider is unavailable to browsers.
    pub fn provider_is_away(&self, now: Moment) -> bool {
        now < self.provider_away.get()
    }

    /// Whether this Envoy is cut off from Redis, or Redis is unavailable to all.
    pub fn redis_is_away(&self, envoy: usize, now: Moment) -> bool {
        let outage = self.redis.get();
        now < self.from_redis[envoy].get() || now < outage.until && outage.kind != RedisTrouble::ReadOnly
    }

    /// Whether Redis refuses all writes; it may still serve reads.
    pub fn writes_are_refused(&self, now: Moment) -> bool {
        now < self.redis.get().until
    }

    /// How far Redis' clock is ahead of the true one, in milliseconds.
    pub fn redis_ahead(&self) -> u64 {
        self.redis_ahead.get()
    }

    /// Whether another key type has replaced the revocation stream.
    pub fn stream_is_away(&self, now: Moment) -> bool {
        now < self.stream_away.get()
    }

    /// Replaces the revocation stream until then.
    pub fn take_stream_away(&self, until: Moment) {
        self.stream_away.set(until);
    }

    /// The mood of Redis for a call with this fate.
    pub fn mood(&self, fate: Fate, now: Moment) -> Mood {
        if let Fate::Error(which) = fate {
            let error = REDIS_ERRORS[usize::try_from(which).unwrap_or_default()];
            return if refuses_writes_only(error) { Mood::ReadOnly(error) } else { Mood::Refusing(error) };
        }
        let outage = self.redis.get();
        match outage.kind {
            RedisTrouble::ReadOnly if now < outage.until => Mood::ReadOnly(outage.error),
            RedisTrouble::Loading if now < outage.until => Mood::Refusing(REDIS_ERRORS[0]),
            _ => Mood::Well,
        }
    }

    /// Draws whether a worker crashes after this step.
    pub fn crashes_now(&self, plan: &Plan) -> bool {
        self.on.get() && plan.faults.worker_crash > 0 && self.rng.below(1_000_000) < plan.faults.worker_crash
    }
}

/// The task that causes events until faults end.
pub async fn run(world: Rc<World>) {
    let faults = &world.faults;
    let plan = &world.plan.faults;
    if plan.events.is_empty() {
        return;
    }
    loop {
        let pause = faults.rng.between(1, 2 * u64::try_from(plan.pause.as_millis()).unwrap_or(1));
        world.executor.sleep(Duration::from_millis(pause)).await;
        if !faults.on.get() {
            return;
        }
        happen(&world, *faults.rng.pick(&plan.events)).await;
    }
}

async fn happen(world: &Rc<World>, event: Event) {
    let faults = &world.faults;
    let now = world.executor.now();
    let envoy = faults.rng.index(world.plan.envoys);
    let worker = faults.rng.index(world.plan.workers);
    let mut until = now.saturating_add(Duration::from_millis(faults.rng.between(100, 6_000)));
    world.trace.event(now, "fault", envoy as u64, || format!("{event:?}, Envoy {envoy}, until {until}"));
    // A lasting fault is recorded at its beginning and its end. Rules about the time between them check the state.
    let mut scope = Scope::All;
    match event {
        Event::RedisOutage => faults.redis.set(Outage { until, kind: RedisTrouble::Away, error: "" }),
        Event::RedisHang => faults.redis.set(Outage { until, kind: RedisTrouble::Hanging, error: "" }),
        Event::RedisReadOnly => {
            scope = Scope::Writers;
            if faults.rng.permille(500) {
                until = now.saturating_add(Duration::from_millis(faults.rng.between(6_000, 25_000)));
            }
            let errors: Vec<_> =
                REDIS_ERRORS.into_iter().filter(|error| refuses_writes_only(error)).collect();
            let error = faults.rng.pick(&errors);
            faults.redis.set(Outage { until, kind: RedisTrouble::ReadOnly, error });
        }
        Event::RedisLoss => {
            world.redis.lose_everything();
            world.ledger.lost_everything(now);
            let until = now.saturating_add(Duration::from_millis(faults.rng.below(1_500)));
            faults.redis.set(Outage { until, kind: RedisTrouble::Loading, error: "" });
        }
        Event::ProviderOutage => faults.provider_away.set(until),
        Event::PartitionFromRedis => {
            scope = Scope::Envoy(envoy);
            faults.from_redis[envoy].set(until);
        }
        Event::PartitionFromProvider => {
            scope = Scope::Envoy(envoy);
            faults.from_provider[envoy].set(until);
        }
        Event::Stall => {
            scope = Scope::Worker(envoy, worker);
            until = now.saturating_add(Duration::from_millis(faults.rng.between(100, 14_000)));
            faults.stalls.borrow_mut().push((until, scope));
            world.executor.stall(world.envoys[envoy].workers[worker].owner(), until);
        }
        Event::EnvoyKill => {
            scope = Scope::Envoy(envoy);
            world.kill_envoy(envoy);
        }
        Event::ClockStep => {
            scope = Scope::Envoy(envoy);
            let step = *faults.rng.pick(&[-3_600_000_i64, -30_000, -2_000, 2_000, 30_000, 3_600_000]);
            world.envoys[envoy].step_clock(step);
            faults.clock_steps.set(faults.clock_steps.get() + 1);
        }
        Event::RedisClockStep => {
            faults.redis_ahead.set(*faults.rng.pick(&[30_000, 3_600_000]));
            faults.clock_steps.set(faults.clock_steps.get() + 1);
            // Keys that expire before that time are gone.
            world.ledger.lost_everything(now);
        }
        // Not recorded as a fault: readers and writers must cope with it. See [`poison`].
        Event::Poison => return poison::pour(world, &faults.rng, now, until),
    }
    faults.happened(now, scope);
    if matches!(event, Event::EnvoyKill | Event::ClockStep | Event::RedisLoss) {
        return;
    }
    let faults_end = world.clone();
    world.spawn_outside("end of a fault", async move {
        faults_end.executor.sleep(until.duration_since(now)).await;
        if event == Event::RedisClockStep {
            faults_end.faults.redis_ahead.set(0);
        }
        faults_end.faults.happened(faults_end.executor.now(), scope);
    });
}
