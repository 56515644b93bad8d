//! Bugs that are planted on purpose, to show that the rules would find them.

use std::time::Duration;

use crate::plan::{Event, FaultProfile, Faults, Plan};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// Whoever asks for the lease on a session gets it, and several may refresh it at once.
    GrantEveryLease,
    /// Nobody looks whether a session is still the one that was read.
    IgnoreVersion,
    /// A lease that ran out is as good as the one that came after it.
    IgnoreFence,
    /// Whoever reads the log of endings finds none: other Envoys never hear of one.
    HideRevocations,
    /// What the workers of an Envoy tell each other about endings is not there.
    HideEndings,
    /// A code is never taken: every callback may spend it.
    GrantEveryCode,
    /// Every signature is good.
    AcceptEverySignature,
    /// A session whose use is to be written down while it is renewed is taken for gone.
    TakeBusyForGone,
    /// A lease never ends by itself.
    KeepLeasesForEver,
    /// What a permit takes out of a request stays in it.
    KeepClientHeaders,
    /// What is sent to others is written into the log.
    LogCallouts,
    /// A worker takes it for granted that it gets an answer.
    PanicOnTrouble,
    /// That a session is in use is never written down.
    NeverWriteUse,
    /// Whose use could not be written is taken for idle.
    TakeUnwrittenForIdle,
    /// Whatever stands in the log of endings is a position, however far it is ahead of the clock.
    ReadAhead,
    /// A logout message is noted before it is carried out.
    NoteMessagesFirst,
    /// Redis is asked about tickets whatever their signature is.
    AskAboutForgedTickets,
    /// Every callback has its turn.
    IgnoreCallbackLimit,
    /// In the callback of a stream, other tasks that are ready run, too.
    PollOtherStreams,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::GrantEveryLease,
        Self::IgnoreVersion,
        Self::IgnoreFence,
        Self::HideRevocations,
        Self::HideEndings,
        Self::GrantEveryCode,
        Self::AcceptEverySignature,
        Self::TakeBusyForGone,
        Self::KeepLeasesForEver,
        Self::KeepClientHeaders,
        Self::LogCallouts,
        Self::PanicOnTrouble,
        Self::NeverWriteUse,
        Self::TakeUnwrittenForIdle,
        Self::ReadAhead,
        Self::NoteMessagesFirst,
        Self::AskAboutForgedTickets,
        Self::IgnoreCallbackLimit,
        Self::PollOtherStreams,
    ];

    /// Changes to the texts of the core's scripts: what stands there, and what stands there instead.
    pub fn scripts(self) -> Vec<(String, String)> {
        let changes: &[(&str, &str)] = match self {
            Self::GrantEveryLease => &[("if h[3] and not again then local held", "if false then local held")],
            Self::IgnoreVersion => &[
                ("if h[1] ~= ARGV[1] then return {'changed'", "if false then return {'changed'"),
                (" or h[2] ~= ARGV[2] then return 0 end", " then return 0 end"),
            ],
            Self::IgnoreFence => &[
                (
                    "if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] then return 0 end",
                    "if h[2] ~= ARGV[2] then return 0 end",
                ),
                ("if h[1] ~= ARGV[1] or not h[2] then return 0 end", "if not h[2] then return 0 end"),
                ("if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end", ""),
            ],
            Self::HideRevocations => &[("then found[#found + 1] = fields[2] end", "then found[1] = nil end")],
            Self::TakeBusyForGone => {
                &[("if h[3] then return {'busy'} end", "if h[3] then return {'gone'} end")]
            }
            Self::KeepLeasesForEver => {
                &[("if held > 0 then return {'held', held} end", "if true then return {'held', 1000} end")]
            }
            Self::NeverWriteUse => &[(
                "redis.call('HSET', KEYS[1], 'ver', ARGV[2], 'rec', ARGV[3], 'idle', ARGV[5]) \
                 redis.call('PEXPIRE', KEYS[1], ARGV[4]) return {'written'}",
                "return {'written'}",
            )],
            Self::TakeUnwrittenForIdle => &[("redis.call('HSET', KEYS[1], 'ver', h[1])", "")],
            Self::ReadAhead => &[("local most = string.format('%.0f', now + ARGV[2])", "local most = '+'")],
            _ => &[],
        };
        changes.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    /// Some bugs show only when something goes wrong besides: then these worlds are made so.
    pub fn provoke(self, plan: &mut Plan) {
        let pressure =
            |event| Faults { events: vec![event], pause: Duration::from_secs(3), ..Faults::default() };
        match self {
            Self::TakeUnwrittenForIdle => {
                plan.fault_profile = FaultProfile::Pressure;
                plan.faults = pressure(Event::RedisReadOnly);
                plan.idle_timeout = Duration::from_secs(8);
                plan.duration = Duration::from_secs(36);
                plan.envoys = 2;
            }
            Self::ReadAhead => {
                plan.fault_profile = FaultProfile::Pressure;
                plan.faults = pressure(Event::Poison);
                plan.envoys = 2;
                plan.people.credential_replayer = true;
                plan.people.sign_out = 80;
                plan.people.administrator = Duration::from_secs(3);
            }
            Self::NoteMessagesFirst => {
                plan.fault_profile = FaultProfile::Pressure;
                plan.faults = pressure(Event::RedisReadOnly);
                plan.envoys = 2;
                plan.people.credential_replayer = true;
                plan.people.administrator = Duration::from_secs(6);
                plan.provider.announces_again = true;
            }
            Self::AskAboutForgedTickets | Self::IgnoreCallbackLimit => plan.people.flood = true,
            _ => {}
        }
        if self == Self::IgnoreFence {
            // It takes a lease that runs out while its holder stands still, a call of the next holder that takes long,
            // and the first one waking up meanwhile.
            plan.fault_profile = FaultProfile::Storm;
            plan.faults = Faults {
                provider_lost_request: 300,
                events: vec![Event::Stall],
                pause: Duration::from_secs(6),
                ..Faults::default()
            };
            (plan.envoys, plan.workers) = (2, 3);
            plan.duration = Duration::from_secs(36);
            plan.redis_timeout = Duration::from_millis(300);
            plan.issuer_timeout = Duration::from_secs(5);
            plan.check_interval = Some(Duration::from_secs(1));
            plan.slow_calls = 60;
            plan.provider.refresh_tokens = true;
            plan.people.think = Duration::from_millis(400);
            plan.people.administrator = Duration::ZERO;
        }
    }
}
