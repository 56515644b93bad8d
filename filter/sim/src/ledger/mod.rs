//! What is true: who holds which credential, which session has ended and when. Every rule is checked against this,
//! never against what the gate believes.

mod choices;
mod decisions;
mod presentations;
mod strangers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use presentations::Presentation;

use crate::client::exchange::Ask;
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::plan::{FaultProfile, Plan};

/// The session cookie's name.
pub const SESSION_COOKIE: &str = "__Host-oidc-gate";

/// Times in tokens are whole seconds, and clocks differ.
const SAME_SECOND: Duration = Duration::from_millis(2_500);

/// How long after a rotation keys may be unknown.
const KEYS_UNKNOWN: Duration = Duration::from_secs(13);

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing reaches the application without a permit for the principal that this request's own credential stands
    /// for.
    PermitOfItsOwn,
    /// What reaches the application carries no identity but the one that the gate knows, and no credential.
    CleanUpstream,
    /// No refresh token is presented twice, unless a fault may have swallowed the first answer.
    SpentOnce,
    /// No code is presented twice.
    CodeOnce,
    /// A session's refresh token is never presented twice at the same time.
    OneAtATime,
    /// A session that has ended opens nothing any more, on any worker.
    DeadStaysDead,
    /// Nobody is signed out, and nobody is refused, without a reason.
    NobodyThrownOut,
    /// When nothing goes wrong any more, everything works again, and nothing waits for ever.
    Settles,
    /// What strangers send costs nothing that a limit does not allow, and takes no turn of anybody else's.
    StrangersCostLittle,
    /// A task acts on its own context: never on another stream, and an answer never belongs to another one.
    OwnContext,
    /// Secrets are in no log line.
    NoSecretsInLogs,
    /// Nothing panics.
    NoPanic,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When.
    pub at: Moment,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.rule, self.at, self.what)
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token.
    Access,
    /// An ID token.
    Id,
}

/// A token that the provider gave out.
#[derive(Clone, Debug)]
pub struct Issued {
    /// What it is for.
    pub kind: TokenKind,
    /// Whose it is.
    pub subject: String,
    /// The provider's session.
    pub sid: Option<String>,
    /// When it was given out.
    pub issued: Moment,
    /// Its `exp`.
    pub ends: Moment,
}

/// The truth of one run.
pub struct Ledger {
    facts: Facts,
    tokens: RefCell<BTreeMap<String, Issued>>,
    codes: RefCell<BTreeMap<String, Code>>,
    sessions: RefCell<BTreeMap<String, Session>>,
    tickets: RefCell<BTreeMap<String, Ticket>>,
    groups_taken: RefCell<BTreeMap<String, Moment>>,
    ever_lacked: RefCell<BTreeSet<String>>,
    ever_disabled: RefCell<BTreeSet<String>>,
    refresh: presentations::Presentations,
    strangers: strangers::Strangers,
    disturbed: Cell<Moment>,
    /// Until when new sessions may rightly end at once: of everybody, and of some users.
    void_until: Cell<Moment>,
    users_void_until: RefCell<BTreeMap<String, Moment>>,
    /// When the provider got new keys last.
    rotated: Cell<Moment>,
    /// When Redis lost everything last.
    forgotten: Cell<Option<Moment>>,
    /// When the revocation stream was taken away last.
    stream_lost: Cell<Option<Moment>>,
    violation: RefCell<Option<Violation>>,
    counts: Counts,
}

/// What happened how often, to see that a run was worth it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that reached the application.
    pub forwarded: Cell<u64>,
    /// Requests that the gate answered.
    pub answered: Cell<u64>,
    /// Logins that were completed.
    pub logins: Cell<u64>,
    /// Refresh tokens that were presented.
    pub refreshes: Cell<u64>,
    /// Sign-outs that were confirmed.
    pub sign_outs: Cell<u64>,
    /// Announcements that were confirmed.
    pub announcements: Cell<u64>,
}

/// What the rules need to know of the plan.
struct Facts {
    fault_profile: FaultProfile,
    rotation: bool,
    cache_ttl: Duration,
    redis_timeout: Duration,
    /// Longest time from the moment when a callback took its flow in Redis to the arrival of its code at the provider.
    callback: Duration,
    idle_timeout: Duration,
    absolute_timeout: Duration,
    access_lifetime: Duration,
    sso_idle: Duration,
    sso_max: Duration,
    refresh_tokens: bool,
    skew: Duration,
    keeps_without_refresh: bool,
    check_interval: Option<Duration>,
    announces_sid: bool,
    slow_call: Duration,
}

struct Code {
    sid: String,
    chain: u64,
    presented: Option<Moment>,
}

/// A session of the provider.
#[derive(Clone, Debug, Default)]
struct Session {
    subject: String,
    opened: Moment,
    /// From when on the gate may rightly end what hangs on it.
    weakened: Option<Moment>,
    /// When the provider ended it.
    ended: Option<Moment>,
    /// When the gate confirmed that it knows.
    announced: Option<Moment>,
}

/// A session of the gate, by its cookie.
#[derive(Clone, Debug)]
struct Ticket {
    subject: String,
    sid: String,
    chain: u64,
    /// When its callback arrived. Its lifetimes count from then on, and the answer may take seconds.
    begun: Moment,
    /// When its callback was answered.
    created: Moment,
    /// When it was last let in, or at least known.
    used: Moment,
    /// When somebody last came with it: that may count as use, whatever came of it.
    tried: Moment,
    /// From when on it may rightly be gone.
    weakened: Option<Moment>,
    /// The Envoy where a new login in its browser took its place; others hear of it later.
    replaced: Option<usize>,
    /// When its sign-out was confirmed, and by which Envoy; `None` where it was over already, by another one.
    signed_out: Option<(Moment, Option<usize>)>,
}

impl Ledger {
    /// Nothing has happened yet.
    pub fn new(plan: &Plan) -> Rc<Self> {
        Rc::new(Self {
            facts: Facts {
                fault_profile: plan.fault_profile,
                rotation: plan.provider.rotation,
                cache_ttl: plan.cache_ttl,
                redis_timeout: plan.redis_timeout,
                callback: plan.redis_timeout + plan.issuer_timeout,
                idle_timeout: plan.idle_timeout,
                absolute_timeout: plan.absolute_timeout,
                access_lifetime: plan.provider.access_lifetime,
                sso_idle: plan.provider.sso_idle,
                sso_max: plan.provider.sso_max,
                refresh_tokens: plan.provider.refresh_tokens,
                skew: plan.skew,
                keeps_without_refresh: plan.keep_without_refresh,
                check_interval: plan.check_interval,
                announces_sid: plan.provider.announces_sid,
                slow_call: plan.issuer_timeout * 8 / 10,
            },
            tokens: RefCell::default(),
            codes: RefCell::default(),
            sessions: RefCell::default(),
            tickets: RefCell::default(),
            groups_taken: RefCell::default(),
            ever_lacked: RefCell::default(),
            ever_disabled: RefCell::default(),
            refresh: presentations::Presentations::default(),
            strangers: strangers::Strangers::default(),
            stream_lost: Cell::default(),
            disturbed: Cell::default(),
            void_until: Cell::default(),
            users_void_until: RefCell::default(),
            forgotten: Cell::default(),
            rotated: Cell::default(),
            violation: RefCell::default(),
            counts: Counts::default(),
        })
    }

    /// What happened how often.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// A rule was broken; the first one counts.
    pub fn violate(&self, rule: Rule, at: Moment, what: impl Into<String>) {
        self.violation.borrow_mut().get_or_insert_with(|| Violation { rule, at, what: what.into() });
    }

    /// The rule that was broken first.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.borrow().clone()
    }

    /// A line in the gate's log.
    pub fn logged(&self, line: &str) {
        let secrets =
            ["eyJ", "refresh.", crate::provider::SECRET, crate::world::REDIS_PASSWORD, crate::world::KEY];
        if let Some(secret) = secrets.iter().find(|secret| line.contains(**secret)) {
            self.violate(Rule::NoSecretsInLogs, Moment::ZERO, format!("{secret:?} in {line:?}"));
        }
    }

    // What the provider did.

    /// It gave out a token.
    pub fn issued(&self, text: &str, kind: TokenKind, whose: (&str, &str), from: Moment, ends: Moment) {
        let (subject, sid) = (whose.0.to_owned(), Some(whose.1.to_owned()));
        let issued = Issued { kind, subject, sid, issued: from, ends };
        self.tokens.borrow_mut().insert(text.to_owned(), issued);
    }

    /// An access token, if it is one.
    pub fn access_token(&self, text: &str) -> Option<Issued> {
        self.tokens.borrow().get(text).filter(|issued| issued.kind == TokenKind::Access).cloned()
    }

    /// An ID token, if it is one.
    pub fn id_token(&self, text: &str) -> Option<Issued> {
        self.tokens.borrow().get(text).filter(|issued| issued.kind == TokenKind::Id).cloned()
    }

    /// It gave out a code.
    pub fn code_issued(&self, code: &str, sid: &str, chain: u64) {
        let new = Code { sid: sid.to_owned(), chain, presented: None };
        self.codes.borrow_mut().insert(code.to_owned(), new);
    }

    /// A code arrived at the token endpoint. Only a store that forgot that it was taken excuses a second time.
    pub fn code_presented(&self, code: &str, now: Moment) {
        if let Some(code) = self.codes.borrow_mut().get_mut(code)
            && let Some(first) = code.presented.replace(now)
            && self
                .forgotten
                .get()
                .is_none_or(|forgotten| forgotten.saturating_add(self.facts.callback) < first)
        {
            self.violate(
                Rule::CodeOnce,
                now,
                format!("a code that was presented at {first} is presented again"),
            );
        }
    }

    /// A session began.
    pub fn session_opened(&self, sid: &str, subject: &str, now: Moment) {
        let user = self.users_void_until.borrow().get(subject).copied();
        let void = now < self.void_until.get() || user.is_some_and(|until| now < until);
        let weakened = void.then_some(now);
        let session = Session { subject: subject.to_owned(), opened: now, weakened, ..Session::default() };
        self.sessions.borrow_mut().insert(sid.to_owned(), session);
    }

    /// A session has ended.
    pub fn session_ended(&self, sid: &str, now: Moment) {
        self.session_weakened(sid, now);
        if let Some(session) = self.sessions.borrow_mut().get_mut(sid) {
            session.ended.get_or_insert(now);
        }
    }

    /// Something happened after which the gate may end what hangs on a session.
    pub fn session_weakened(&self, sid: &str, now: Moment) {
        self.disturbed.set(now);
        if let Some(session) = self.sessions.borrow_mut().get_mut(sid) {
            session.weakened.get_or_insert(now);
        }
    }

    /// All sessions of a user may end, and those that begin in the same second.
    pub fn user_weakened(&self, subject: &str, now: Moment) {
        self.disturbed.set(now);
        self.users_void_until.borrow_mut().insert(subject.to_owned(), now.saturating_add(SAME_SECOND));
        for session in self.sessions.borrow_mut().values_mut().filter(|session| session.subject == subject) {
            session.weakened.get_or_insert(now);
        }
        for ticket in self.tickets.borrow_mut().values_mut().filter(|ticket| ticket.subject == subject) {
            ticket.weakened.get_or_insert(now);
        }
    }

    /// [`Ledger::user_weakened`], by a session of the user's.
    pub fn user_of_session_weakened(&self, sid: &str, now: Moment) {
        let subject = self.sessions.borrow().get(sid).map(|session| session.subject.clone());
        if let Some(subject) = subject {
            self.user_weakened(&subject, now);
        }
    }

    /// Everything that was issued until now may end, and what is issued in the same second.
    pub fn everybody_is_void(&self, now: Moment) {
        self.disturbed.set(now);
        self.void_until.set(now.saturating_add(SAME_SECOND));
        for session in self.sessions.borrow_mut().values_mut() {
            session.weakened.get_or_insert(now);
        }
    }

    /// Sessions that the provider has ended until then, and for which nothing was issued for so long before.
    pub fn ended_and_idle(&self, now: Moment, before: Duration) -> Vec<String> {
        let sessions = self.sessions.borrow();
        let tokens = self.tokens.borrow();
        let ended = sessions.iter().filter(|(_, session)| session.ended.is_some_and(|ended| ended <= now));
        let latest = |sid: &String| {
            let his = tokens.values().filter(|token| token.sid.as_ref() == Some(sid));
            his.map(|token| token.issued).max().unwrap_or_default()
        };
        ended.map(|(sid, _)| sid).filter(|sid| now.duration_since(latest(sid)) >= before).cloned().collect()
    }

    /// The gate confirmed that it knows of a session's end.
    pub fn announced(&self, sid: &str, now: Moment) {
        bump(&self.counts.announcements);
        if let Some(session) = self.sessions.borrow_mut().get_mut(sid) {
            session.announced.get_or_insert(now);
        }
    }

    /// A user may not come in any more.
    pub fn group_taken(&self, subject: &str, now: Moment) {
        self.disturbed.set(now);
        self.ever_lacked.borrow_mut().insert(subject.to_owned());
        self.groups_taken.borrow_mut().insert(subject.to_owned(), now);
    }

    /// A user may come in again.
    pub fn group_given(&self, subject: &str) {
        self.groups_taken.borrow_mut().remove(subject);
    }

    /// The provider has new keys.
    pub fn keys_rotated(&self, now: Moment) {
        self.rotated.set(now);
    }

    /// Whether the gate may not have found the newest keys yet: it looks for unknown ones every 10 s at most.
    pub fn keys_are_new(&self, now: Moment) -> bool {
        self.rotated.get() != Moment::ZERO && now.duration_since(self.rotated.get()) < KEYS_UNKNOWN
    }

    // What went wrong.

    /// Redis has lost everything.
    pub fn lost_everything(&self, now: Moment) {
        self.disturbed.set(now);
        self.forgotten.set(Some(now));
        for ticket in self.tickets.borrow_mut().values_mut() {
            ticket.weakened.get_or_insert(now);
        }
    }

    /// The revocation stream is gone, and nothing else.
    pub fn lost_stream(&self, now: Moment) {
        self.stream_lost.set(Some(now));
    }

    /// A worker died: what it was refreshing may be lost.
    pub fn crashed(&self, at: WorkerId, now: Moment) {
        self.worker_starts(at);
        for chain in self.refresh.recently_by(at, now) {
            for ticket in self.tickets.borrow_mut().values_mut().filter(|ticket| ticket.chain == chain) {
                ticket.weakened.get_or_insert(now);
            }
        }
    }

    /// Whether anything has happened since then that may change who is signed in.
    pub fn is_disturbed_since(&self, since: Moment) -> bool {
        self.disturbed.get() != Moment::ZERO && self.disturbed.get() >= since
    }

    /// What a request brings, in words.
    pub fn describe(&self, ask: &Ask) -> String {
        if let Some(token) = ask.get("authorization") {
            let token = token.strip_prefix("Bearer ").unwrap_or(token);
            return match self.tokens.borrow().get(token) {
                Some(issued) => format!("bearer of {} sid {:?}", issued.subject, issued.sid),
                None => "bearer that the provider never gave out".to_owned(),
            };
        }
        match session_cookie(ask) {
            None => "no credential".to_owned(),
            Some(value) => match self.tickets.borrow().get(value) {
                Some(ticket) => {
                    format!(
                        "session {} of {} sid {} chain {}",
                        short(value),
                        ticket.subject,
                        ticket.sid,
                        ticket.chain
                    )
                }
                None => format!("unknown session {}", short(value)),
            },
        }
    }
}

fn short(value: &str) -> &str {
    value.get(..6).unwrap_or(value)
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// The session cookie of a request.
pub fn session_cookie(ask: &Ask) -> Option<&str> {
    ask.get("cookie")?.split("; ").find_map(|pair| pair.strip_prefix(SESSION_COOKIE)?.strip_prefix('='))
}
