//! Bugs that are planted on purpose, to show that the rules find them.

use std::time::Duration;

use crate::plan::{Event, FaultProfile, Faults, Plan};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// Every request for the lease on a session succeeds, so several workers may refresh it at once.
    GrantEveryLease,
    /// Writes do not check whether a session is still at the version that was read.
    IgnoreVersion,
    /// An expired lease is still accepted after another one was granted.
    IgnoreFence,
    /// Reads of the revocation log return no entries, so Envoys never learn of revocations elsewhere.
    HideRevocations,
    /// The workers of an Envoy do not see each other's revocations.
    HideEndings,
    /// No login flow is ever claimed, so every callback can redeem its code.
    GrantEveryCode,
    /// Every signature is accepted.
    AcceptEverySignature,
    /// A use that is recorded during a refresh makes the session count as gone.
    TakeBusyForGone,
    /// A lease never expires.
    KeepLeasesForEver,
    /// Headers that a permit removes stay in the request.
    KeepClientHeaders,
    /// The bodies of callouts are logged.
    LogCallouts,
    /// A worker panics if a callout fails.
    PanicOnTrouble,
    /// The use of a session is never recorded.
    NeverWriteUse,
    /// A session whose use could not be written is treated as idle.
    TakeUnwrittenForIdle,
    /// Every id in the revocation log is accepted as a position, however far it is ahead of the clock.
    ReadAhead,
    /// A logout token is recorded as processed before its revocations are written.
    NoteMessagesFirst,
    /// Tickets are looked up in Redis whatever their signature is.
    AskAboutForgedTickets,
    /// Callbacks are not limited.
    IgnoreCallbackLimit,
    /// In the callback of a stream, other ready tasks run as well.
    PollOtherStreams,
}

impl Sabotage {
    /// All planted bugs.
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

    /// Changes to the text of the core's scripts: the original part and its replacement.
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

    /// Some bugs show only together with certain faults. This changes the plan so that they occur.
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
            // This bug shows only if a lease expires while its holder is stalled, the call of the next holder is slow,
            // and the first holder resumes during that call.
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
