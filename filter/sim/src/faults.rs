//! What goes wrong, when, and to whom. Every fault is written down: a rule that a fault excuses asks here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_redis_model::server::Mood;

use crate::executor::Moment;
use crate::plan::{Event, Plan};
use crate::poison;
use crate::rng::Rng;
use crate::world::World;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and so does its answer.
    Delivered,
    /// There is no connection.
    Refused,
    /// It never arrives, and the caller is told nothing until its time is up.
    Swallowed,
    /// It never arrives, and the caller is told that the connection is gone.
    LostRequest,
    /// It arrives; the answer does not.
    LostReply,
    /// It arrives; the answer comes after the time limit.
    Late,
    /// Only so many of 1000 parts of it arrive.
    Cut(u64),
    /// It arrives and is refused.
    Error(u64),
}

/// To whom a fault happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To everybody.
    All,
    /// To one Envoy.
    Envoy(usize),
    /// To one worker.
    Worker(usize, usize),
    /// To whoever writes to Redis.
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

/// The state of what can break.
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

/// The errors that a Redis in trouble answers with.
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
/// Those with which only writes are refused.
const WRITE_REFUSALS: [&str; 4] = ["READONLY", "OOM", "MISCONF", "NOREPLICAS"];

fn refuses_writes_only(error: &str) -> bool {
    WRITE_REFUSALS.iter().any(|kind| error.starts_with(kind))
}

impl Faults {
    /// Everything works.
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

    /// From now on everything works.
    pub fn end(&self) {
        self.on.set(false);
        self.redis.set(Outage::default());
        self.redis_ahead.set(0);
        self.stream_away.set(Moment::ZERO);
        self.provider_away.set(Moment::ZERO);
        self.from_redis.iter().chain(&self.from_provider).for_each(|until| until.set(Moment::ZERO));
    }

    /// Whether things still break.
    pub fn are_on(&self) -> bool {
        self.on.get()
    }

    /// Writes a fault down.
    pub fn happened(&self, at: Moment, scope: Scope) {
        self.log.borrow_mut().push((at, scope));
    }

    /// Whether a fault since then may be to blame for what a worker did.
    pub fn excuse(&self, envoy: usize, worker: usize, since: Moment) -> bool {
        self.log
            .borrow()
            .iter()
            .rev()
            .take_while(|(at, _)| *at >= since)
            .any(|(_, scope)| scope.covers(envoy, worker))
    }

    /// When something went wrong last for anybody of an Envoy who reads.
    pub fn last_of(&self, envoy: usize) -> Moment {
        self.latest(|scope| match scope {
            Scope::All => true,
            Scope::Envoy(hit) | Scope::Worker(hit, _) => hit == envoy,
            Scope::Writers => false,
        })
    }

    /// When Redis began or ended to refuse all writes last.
    pub fn last_refusal(&self) -> Moment {
        self.latest(|scope| scope == Scope::Writers)
    }

    fn latest(&self, is_meant: impl Fn(Scope) -> bool) -> Moment {
        let log = self.log.borrow();
        log.iter().rev().find(|(_, scope)| is_meant(*scope)).map_or(Moment::ZERO, |(at, _)| *at)
    }

    /// Whether a worker has stood still since then.
    pub fn stalled_since(&self, envoy: usize, worker: usize, since: Moment) -> bool {
        self.stalls.borrow().iter().any(|(until, scope)| *until >= since && scope.covers(envoy, worker))
    }

    /// Whether a worker stood still at that time, or until shortly before.
    pub fn stalled_within(&self, envoy: usize, worker: usize, before: Duration, at: Moment) -> bool {
        let mut stalls = self.stalls.borrow().clone().into_iter();
        stalls.any(|(until, scope)| {
            scope.covers(envoy, worker) && (until >= at || at.duration_since(until) <= before)
        })
    }

    /// Whether any worker has stood still since then.
    pub fn any_stall_since(&self, since: Moment) -> bool {
        self.stalls.borrow().iter().any(|(until, _)| *until >= since)
    }

    /// Whether no clock has ever jumped.
    pub fn clocks_were_right(&self) -> bool {
        self.clock_steps.get() == 0
    }

    /// Whether anything at all has gone wrong since then.
    pub fn any_since(&self, since: Moment) -> bool {
        self.log.borrow().last().is_some_and(|(at, _)| *at >= since)
    }

    /// What becomes of a call to Redis.
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

    /// What becomes of a call to the provider.
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

    /// Whether the announcement of a logout gets lost.
    pub fn loses_announcement(&self, plan: &Plan) -> bool {
        self.on.get()
            && plan.faults.lost_announcement > 0
            && self.rng.permille(plan.faults.lost_announcement * 5)
    }

    /// Whether browsers reach the provider.
    pub fn provider_is_away(&self, now: Moment) -> bool {
        now < self.provider_away.get()
    }

    /// Whether this Envoy is cut off from Redis, or Redis from everybody.
    pub fn redis_is_away(&self, envoy: usize, now: Moment) -> bool {
        let outage = self.redis.get();
        now < self.from_redis[envoy].get() || now < outage.until && outage.kind != RedisTrouble::ReadOnly
    }

    /// Whether Redis refuses all writes, and perhaps can be read.
    pub fn writes_are_refused(&self, now: Moment) -> bool {
        now < self.redis.get().until
    }

    /// How far Redis' clock is ahead of the true one, in milliseconds.
    pub fn redis_ahead(&self) -> u64 {
        self.redis_ahead.get()
    }

    /// Whether something else stands where the revocation stream should be.
    pub fn stream_is_away(&self, now: Moment) -> bool {
        now < self.stream_away.get()
    }

    /// Something else stands there until then.
    pub fn take_stream_away(&self, until: Moment) {
        self.stream_away.set(until);
    }

    /// What Redis refuses, for a call with that fate.
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

    /// Whether a worker dies after this step.
    pub fn crashes_now(&self, plan: &Plan) -> bool {
        self.on.get() && plan.faults.worker_crash > 0 && self.rng.below(1_000_000) < plan.faults.worker_crash
    }
}

/// The task that makes events happen, until faults end.
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
    // What lasts is a fault until its end; it is written down at both ends, and what happens between them asks for the
    // state.
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
            // What has its end before then is gone.
            world.ledger.lost_everything(now);
        }
        // It is none, for whoever reads and writes: see there.
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
