//! What a seed decides before anything happens: how large the world is, how it is configured, who uses it, and what may
//! go wrong. Printed with every failure.

use std::time::Duration;

use crate::rng::Rng;
use crate::sabotage::Sabotage;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultProfile {
    /// Nothing. Calls may be slow, though within their limits, and people close tabs.
    Calm,
    /// Workers die, between any two steps.
    Crashes,
    /// Nothing is lost and nobody dies. Redis takes no writes for a while, somebody writes into its stream, and
    /// strangers send what they like.
    Pressure,
    /// Whatever [`Faults`] says.
    Storm,
}

/// Everything that a seed decides in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// How much goes wrong.
    pub fault_profile: FaultProfile,
    /// What goes wrong, and how often.
    pub faults: Faults,
    /// Number of Envoys.
    pub envoys: usize,
    /// Workers of each Envoy.
    pub workers: usize,
    /// How long people use the gate, before faults end and everything has to settle.
    pub duration: Duration,
    /// `session.cache_ttl`
    pub cache_ttl: Duration,
    /// `session.idle_timeout`
    pub idle_timeout: Duration,
    /// `session.absolute_timeout`
    pub absolute_timeout: Duration,
    /// `session.refresh_ahead`
    pub refresh_ahead: Duration,
    /// `session.check_interval`
    pub check_interval: Option<Duration>,
    /// Whether a session without refresh token goes on until its timeouts (`session.without_refresh_token`).
    pub keep_without_refresh: bool,
    /// `bearer.check_interval`
    pub bearer_check_interval: Option<Duration>,
    /// `session.redis.timeout`
    pub redis_timeout: Duration,
    /// `issuer.timeout`
    pub issuer_timeout: Duration,
    /// Whether Redis asks for a password.
    pub redis_password: bool,
    /// How many calls in 100 take about as long as they may.
    pub slow_calls: u64,
    /// How far an Envoy's clock is from the true one at most.
    pub skew: Duration,
    /// How the provider is configured.
    pub provider: ProviderPlan,
    /// Who uses the gate.
    pub people: People,
}

/// How the provider is configured.
#[derive(Clone, Debug)]
pub struct ProviderPlan {
    /// How long an access token lives.
    pub access_lifetime: Duration,
    /// A session that is not refreshed for that long ends (ssoSessionIdleTimeout).
    pub sso_idle: Duration,
    /// A session ends after that long (ssoSessionMaxLifespan).
    pub sso_max: Duration,
    /// Whether it gives out refresh tokens at all.
    pub refresh_tokens: bool,
    /// revokeRefreshToken with refreshTokenMaxReuse=0.
    pub rotation: bool,
    /// Whether a logout is announced to one Envoy or to each.
    pub announces_to_each: bool,
    /// Whether a logout token names the session, or the user only (backchannel.logout.session.required).
    pub announces_sid: bool,
    /// Whether a logout that was not confirmed is announced again with the same token, and now and then one that was.
    pub announces_again: bool,
    /// Whether the client has an admin URL, where "Logout all" and "not before" are announced.
    pub admin_url: bool,
}

/// Who uses the gate, and how.
#[derive(Clone, Debug)]
pub struct People {
    /// Users of the provider.
    pub users: usize,
    /// Browsers; several may belong to one user.
    pub browsers: usize,
    /// Tabs of each browser.
    pub tabs: usize,
    /// Clients with bearer tokens.
    pub api_clients: usize,
    /// Whether somebody tries what is forbidden.
    pub attacker: bool,
    /// Whether somebody sends forged tickets and made-up codes, many at once.
    pub flood: bool,
    /// Whether somebody kept copies of credentials, and tries them when their session has ended.
    pub credential_replayer: bool,
    /// Requests at once around the end of an access token.
    pub herd: u64,
    /// How long people wait between two clicks, on average.
    pub think: Duration,
    /// Requests at once, when a tab loads a page.
    pub burst: u64,
    /// How often a click is on "sign out", in 1000.
    pub sign_out: u64,
    /// How often a click is on a button of the account page, in 1000.
    pub account: u64,
    /// How often a tab is closed before its answer is there, in 1000.
    pub abort: u64,
    /// How long the administrator waits between two actions, on average; zero for one who does nothing.
    pub administrator: Duration,
    /// Whether a browser's requests stay with one Envoy.
    pub sticky: bool,
}

/// What goes wrong: calls, each in so many of 1000 cases; and events, with the mean time between two of them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A request to Redis that never arrives.
    pub redis_lost_request: u64,
    /// A reply of Redis that never arrives.
    pub redis_lost_reply: u64,
    /// A reply of Redis after the time limit.
    pub redis_late: u64,
    /// A request to Redis of which only a part arrives.
    pub redis_cut: u64,
    /// An error reply.
    pub redis_error: u64,
    /// A request to the provider that never arrives.
    pub provider_lost_request: u64,
    /// A reply of the provider that never arrives.
    pub provider_lost_reply: u64,
    /// A reply of the provider after the time limit.
    pub provider_late: u64,
    /// A status 500, 502, 503.
    pub provider_error: u64,
    /// An announcement of a logout that never arrives.
    pub lost_announcement: u64,
    /// A worker dies after one of its steps, in so many of a million.
    pub worker_crash: u64,
    /// Events, drawn one after the other.
    pub events: Vec<Event>,
    /// The mean time between two events.
    pub pause: Duration,
}

/// Something that happens to a whole part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Redis is away for a while.
    RedisOutage,
    /// Redis accepts and says nothing for a while.
    RedisHang,
    /// Redis refuses writes for a while: it has no memory or no disk left, or it is a replica.
    RedisReadOnly,
    /// Redis starts anew and has lost everything.
    RedisLoss,
    /// The provider is away for a while.
    ProviderOutage,
    /// One Envoy does not reach Redis for a while.
    PartitionFromRedis,
    /// One Envoy does not reach the provider for a while.
    PartitionFromProvider,
    /// One worker does nothing for a while.
    Stall,
    /// One Envoy is killed and starts anew, without its shared data.
    EnvoyKill,
    /// One Envoy's clock jumps.
    ClockStep,
    /// Redis' clock is ahead for a while.
    RedisClockStep,
    /// Somebody writes into the revocation stream what does not belong there, and takes it out again.
    Poison,
}

const EVENTS: [Event; 12] = [
    Event::RedisOutage,
    Event::RedisHang,
    Event::RedisReadOnly,
    Event::RedisLoss,
    Event::ProviderOutage,
    Event::PartitionFromRedis,
    Event::PartitionFromProvider,
    Event::Stall,
    Event::EnvoyKill,
    Event::ClockStep,
    Event::RedisClockStep,
    Event::Poison,
];

impl Plan {
    /// What this seed decides.
    pub fn from_seed(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let rng = Rng::new(seed).fork("plan");
        let millis = |least, most| Duration::from_millis(rng.between(least, most));
        let one_of = |millis: &[u64]| Duration::from_millis(*rng.pick(millis));
        let fault_profile = match rng.below(100) {
            0..35 => FaultProfile::Calm,
            35..47 => FaultProfile::Crashes,
            47..60 => FaultProfile::Pressure,
            _ => FaultProfile::Storm,
        };
        let access_lifetime = one_of(&[4_000, 6_000, 10_000, 15_000, 30_000]);
        // Limits either lie within the run, or far beyond it: then nobody may ever be signed out by them.
        let idle_timeout = one_of(&[8_000, 20_000, 3_600_000, 3_600_000, 3_600_000]);
        let absolute_timeout = one_of(&[25_000, 43_200_000, 43_200_000, 43_200_000]).max(idle_timeout);
        let mut plan = Self {
            seed,
            sabotage,
            fault_profile,
            faults: Faults::draw(&rng, fault_profile),
            envoys: *rng.pick(&[1, 2, 2, 2, 3]),
            workers: *rng.pick(&[1, 2, 2, 3]),
            duration: millis(8_000, 36_000),
            cache_ttl: one_of(&[0, 1_000, 2_000, 5_000, 5_000]),
            idle_timeout,
            absolute_timeout,
            refresh_ahead: one_of(&[0, 1_000, 2_000, 30_000]),
            check_interval: rng.permille(200).then(|| one_of(&[1_000, 3_000])),
            keep_without_refresh: rng.permille(500),
            bearer_check_interval: rng.permille(200).then(|| one_of(&[1_000, 3_000])),
            redis_timeout: one_of(&[300, 1_000, 2_000]),
            issuer_timeout: one_of(&[1_000, 5_000]),
            redis_password: rng.permille(500),
            slow_calls: *rng.pick(&[1, 1, 1, 5]),
            skew: one_of(&[0, 50, 400]),
            provider: ProviderPlan {
                access_lifetime,
                sso_idle: one_of(&[1_800_000, 1_800_000, 1_800_000, 20_000]).max(access_lifetime * 2),
                sso_max: one_of(&[36_000_000, 36_000_000, 36_000_000, 40_000]),
                refresh_tokens: rng.permille(900),
                rotation: rng.permille(800),
                announces_to_each: rng.permille(300),
                announces_sid: rng.permille(850),
                announces_again: rng.permille(500),
                admin_url: rng.permille(500),
            },
            people: People {
                users: *rng.pick(&[1, 2, 3]),
                browsers: *rng.pick(&[1, 2, 2, 3]),
                tabs: *rng.pick(&[1, 2, 3]),
                api_clients: *rng.pick(&[0, 1, 2]),
                attacker: rng.permille(300),
                flood: rng.permille(if fault_profile == FaultProfile::Pressure { 400 } else { 30 }),
                credential_replayer: rng.permille(600),
                herd: *rng.pick(&[0, 0, 4, 16]),
                think: one_of(&[400, 1_000, 2_500]),
                burst: *rng.pick(&[1, 2, 3, 10]),
                sign_out: *rng.pick(&[0, 0, 10, 40]),
                account: *rng.pick(&[0, 0, 20, 40]),
                abort: *rng.pick(&[0, 30, 100]),
                administrator: one_of(&[0, 0, 6_000, 12_000]),
                sticky: rng.permille(300),
            },
        };
        if fault_profile == FaultProfile::Pressure {
            // Where nothing is renewed, a session at the provider would end as idle.
            plan.provider.sso_idle = Duration::from_secs(1_800);
        }
        if let Some(sabotage) = sabotage {
            sabotage.provoke(&mut plan);
        }
        plan
    }

    /// How many workers there are in all.
    pub fn worker_count(&self) -> usize {
        self.envoys * self.workers
    }
}

impl Faults {
    fn draw(rng: &Rng, fault_profile: FaultProfile) -> Self {
        let crash = *rng.pick(&[300, 1_000, 3_000]);
        match fault_profile {
            FaultProfile::Calm => Self::default(),
            FaultProfile::Crashes => Self { worker_crash: crash, ..Self::default() },
            FaultProfile::Pressure => Self {
                events: match rng.below(3) {
                    0 => vec![Event::RedisReadOnly],
                    1 => vec![Event::Poison],
                    _ => vec![Event::RedisReadOnly, Event::Poison],
                },
                pause: Duration::from_millis(*rng.pick(&[3_000, 6_000])),
                ..Self::default()
            },
            FaultProfile::Storm => {
                // Each kind is in some storms and not in others: together they would hide each other.
                let rate = || if rng.permille(350) { *rng.pick(&[5, 20, 60]) } else { 0 };
                let events: Vec<Event> = EVENTS.into_iter().filter(|_| rng.permille(300)).collect();
                Self {
                    redis_lost_request: rate(),
                    redis_lost_reply: rate(),
                    redis_late: rate(),
                    redis_cut: rate(),
                    redis_error: rate(),
                    provider_lost_request: rate(),
                    provider_lost_reply: rate(),
                    provider_late: rate(),
                    provider_error: rate(),
                    lost_announcement: rate(),
                    worker_crash: if rng.permille(300) { crash } else { 0 },
                    events,
                    pause: Duration::from_millis(*rng.pick(&[3_000, 8_000])),
                }
            }
        }
    }
}
