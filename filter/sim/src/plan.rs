//! The choices that a seed makes in advance: the size of the world, its configuration, its users and its faults.
//! Printed with every failure.

use std::time::Duration;

use crate::rng::Rng;
use crate::sabotage::Sabotage;

/// How much goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultProfile {
    /// No faults. Calls may be slow, within their limits, and users close tabs.
    Calm,
    /// Workers crash between any two steps.
    Crashes,
    /// No messages are lost and no worker crashes. Redis refuses writes for a while, somebody writes into its stream,
    /// and strangers send anything.
    Pressure,
    /// The faults of [`Faults`].
    Storm,
}

/// Everything that a seed decides in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The planted bug, if any.
    pub sabotage: Option<Sabotage>,
    /// How much goes wrong.
    pub fault_profile: FaultProfile,
    /// The faults and their rates.
    pub faults: Faults,
    /// The number of Envoys.
    pub envoys: usize,
    /// The number of workers in each Envoy.
    pub workers: usize,
    /// How long users use the gate. Then all faults end, and everything must settle.
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
    /// Whether Redis requires a password.
    pub redis_password: bool,
    /// Of 100 calls, how many take almost the maximum time.
    pub slow_calls: u64,
    /// The largest difference between an Envoy's clock and the true one.
    pub skew: Duration,
    /// How the provider is configured.
    pub provider: ProviderPlan,
    /// The users and clients of the gate.
    pub people: People,
}

/// How the provider is configured.
#[derive(Clone, Debug)]
pub struct ProviderPlan {
    /// The lifetime of an access token.
    pub access_lifetime: Duration,
    /// A session ends if it is not refreshed for this long (ssoSessionIdleTimeout).
    pub sso_idle: Duration,
    /// A session ends after this long (ssoSessionMaxLifespan).
    pub sso_max: Duration,
    /// Whether it issues refresh tokens.
    pub refresh_tokens: bool,
    /// Whether refresh tokens rotate: revokeRefreshToken with refreshTokenMaxReuse=0.
    pub rotation: bool,
    /// Whether a logout is sent to every Envoy or only to one.
    pub announces_to_each: bool,
    /// Whether a logout token names the session or only the user (backchannel.logout.session.required).
    pub announces_sid: bool,
    /// Whether an unconfirmed logout is sent again with the same token, and sometimes a confirmed one, too.
    pub announces_again: bool,
    /// Whether the client has an admin URL, to which "Logout all" and "not before" are sent.
    pub admin_url: bool,
}

/// The users and clients of the gate, and their behaviour.
#[derive(Clone, Debug)]
pub struct People {
    /// Users of the provider.
    pub users: usize,
    /// Browsers. Several may belong to one user.
    pub browsers: usize,
    /// Tabs of each browser.
    pub tabs: usize,
    /// Clients with bearer tokens.
    pub api_clients: usize,
    /// Whether an attacker tries what is forbidden.
    pub attacker: bool,
    /// Whether somebody floods the gate with forged tickets and made-up codes.
    pub flood: bool,
    /// Whether somebody keeps copies of credentials and replays them after their session has ended.
    pub credential_replayer: bool,
    /// How many requests a browser sends at once around the expiry of an access token.
    pub herd: u64,
    /// The mean time between two clicks of a user.
    pub think: Duration,
    /// How many requests a tab sends at once to load a page.
    pub burst: u64,
    /// Of 1000 clicks, how many sign out.
    pub sign_out: u64,
    /// Of 1000 clicks, how many are on a button of the account page.
    pub account: u64,
    /// Of 1000 clicks, in how many the tab is closed before the reply arrives.
    pub abort: u64,
    /// The mean time between two actions of the administrator; zero if there is none.
    pub administrator: Duration,
    /// Whether a browser always uses the same Envoy.
    pub sticky: bool,
}

/// The faults: for calls the rate in 1000, and for events the mean time between two of them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A request to Redis that never arrives.
    pub redis_lost_request: u64,
    /// A reply of Redis that never arrives.
    pub redis_lost_reply: u64,
    /// A reply of Redis after the time limit.
    pub redis_late: u64,
    /// A request to Redis that arrives only in part.
    pub redis_cut: u64,
    /// An error reply of Redis.
    pub redis_error: u64,
    /// A request to the provider that never arrives.
    pub provider_lost_request: u64,
    /// A reply of the provider that never arrives.
    pub provider_lost_reply: u64,
    /// A reply of the provider after the time limit.
    pub provider_late: u64,
    /// A reply of the provider with status 500, 502 or 503.
    pub provider_error: u64,
    /// A logout notification that never arrives.
    pub lost_announcement: u64,
    /// A worker crashes after a step; the rate in a million.
    pub worker_crash: u64,
    /// The kinds of events, one of which is drawn each time.
    pub events: Vec<Event>,
    /// The mean time between two events.
    pub pause: Duration,
}

/// A fault that affects a whole part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Redis is unavailable for a while.
    RedisOutage,
    /// Redis accepts connections but does not reply for a while.
    RedisHang,
    /// Redis refuses writes for a while: it has no memory or disk left, or it is a replica.
    RedisReadOnly,
    /// Redis restarts without its data.
    RedisLoss,
    /// The provider is unavailable for a while.
    ProviderOutage,
    /// One Envoy cannot reach Redis for a while.
    PartitionFromRedis,
    /// One Envoy cannot reach the provider for a while.
    PartitionFromProvider,
    /// One worker makes no progress for a while.
    Stall,
    /// One Envoy is killed and restarts without its shared data.
    EnvoyKill,
    /// The clock of one Envoy jumps.
    ClockStep,
    /// Redis' clock is ahead for a while.
    RedisClockStep,
    /// Somebody puts foreign entries into the revocation stream and removes them later.
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
    /// The plan of this seed.
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
        // Limits are either well within the run or far beyond it. In the second case they must never sign anybody out.
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
            // Without refreshes, a session at the provider would end as idle.
            plan.provider.sso_idle = Duration::from_secs(1_800);
        }
        if let Some(sabotage) = sabotage {
            sabotage.provoke(&mut plan);
        }
        plan
    }

    /// Longest time from the moment when a callback took its flow in Redis to the arrival of its code at the provider.
    pub fn longest_callback(&self) -> Duration {
        self.redis_timeout + self.issuer_timeout
    }

    /// Longest time of a call to the provider that no fault delays.
    pub fn slow_call(&self) -> Duration {
        self.issuer_timeout * 8 / 10
    }

    /// The number of workers in all Envoys.
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
                // Each kind of fault is only in some of the runs, since some faults would hide the effects of others.
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
