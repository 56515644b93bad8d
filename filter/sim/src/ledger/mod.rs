//! The true state of a run: who holds which credential, and which session has ended and when. Every rule is checked
//! against this state and never against what the gate believes.

mod choices;
mod decisions;
mod presentations;
mod strangers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_provider_model::Kind;
pub use presentations::Presentation;
use serde_json::Value;

use crate::client::exchange::Ask;
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::plan::Plan;
use crate::world::Tally;

/// The session cookie's name.
pub const SESSION_COOKIE: &str = "__Host-oidc-gate";

/// Tokens carry whole seconds, and clocks differ. Times closer than this may be in the same second.
const SAME_SECOND: Duration = Duration::from_millis(2_500);

/// How long after a rotation the gate may not know the new keys.
const KEYS_UNKNOWN: Duration = Duration::from_secs(13);

/// The rules that must never be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A request reaches the application only with a permit for the principal of its own credential.
    PermitOfItsOwn,
    /// A request reaches the application with the identity that the gate verified and no other, and without a
    /// credential.
    CleanUpstream,
    /// A refresh token is presented only once, unless a fault may have lost the first reply.
    SpentOnce,
    /// A code is presented only once.
    CodeOnce,
    /// A session's refresh token is never presented by two calls at the same time.
    OneAtATime,
    /// A session that has ended is refused by every worker.
    DeadStaysDead,
    /// No user is signed out or refused without a reason.
    NobodyThrownOut,
    /// After all faults have ended, everything works again, and nothing waits for ever.
    Settles,
    /// Requests of strangers cost no more than the limits allow, and do not use up the limits of others.
    StrangersCostLittle,
    /// A task acts only on its own context, and a reply reaches only the task that it belongs to.
    OwnContext,
    /// No log line contains a secret.
    NoSecretsInLogs,
    /// Nothing panics.
    NoPanic,
}

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// When it was broken.
    pub at: Moment,
    /// A description.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.rule, self.at, self.what)
    }
}

/// A token that the provider issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its purpose.
    pub kind: Kind,
    /// Its subject.
    pub subject: String,
    /// Its session at the provider.
    pub sid: Option<String>,
    /// When it was issued.
    pub issued: Moment,
    /// Its `exp`.
    pub ends: Moment,
}

/// The true state of one run.
pub struct Ledger {
    plan: Plan,
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
    /// Until when new sessions may be ended at once: those of all users, and those of some users.
    void_until: Cell<Moment>,
    users_void_until: RefCell<BTreeMap<String, Moment>>,
    /// When the provider last rotated its keys.
    rotated: Cell<Moment>,
    /// When Redis last lost its data.
    forgotten: Cell<Option<Moment>>,
    /// When the revocation stream was last removed.
    stream_lost: Cell<Option<Moment>>,
    violation: RefCell<Option<Violation>>,
    /// Counted events, to see whether a run was worthwhile.
    tally: Cell<Tally>,
}

struct Code {
    sid: String,
    chain: u64,
    presented: Option<Moment>,
}

/// A session at the provider.
#[derive(Clone, Debug, Default)]
struct Session {
    subject: String,
    opened: Moment,
    /// From when on the gate may end what depends on it.
    weakened: Option<Moment>,
    /// When the provider ended it.
    ended: Option<Moment>,
    /// When the gate confirmed the logout notification.
    announced: Option<Moment>,
}

/// A session at the gate, identified by its cookie.
#[derive(Clone, Debug)]
struct Ticket {
    subject: String,
    sid: String,
    chain: u64,
    /// When its callback arrived. Its lifetimes count from then; the reply may take seconds.
    begun: Moment,
    /// When its callback was answered.
    created: Moment,
    /// When a request with it was last let through, or at least recognised.
    used: Moment,
    /// When a request with it last arrived. It may count as a use, whatever the reply was.
    tried: Moment,
    /// From when on it may be gone.
    weakened: Option<Moment>,
    /// The Envoy at which a new login in the same browser replaced it. Other Envoys learn that later.
    replaced: Option<usize>,
    /// When its sign-out was confirmed, and by which Envoy. `None` if another Envoy had ended it before.
    signed_out: Option<(Moment, Option<usize>)>,
}

impl Ledger {
    /// A ledger without any events.
    pub fn new(plan: &Plan) -> Rc<Self> {
        Rc::new(Self {
            plan: plan.clone(),
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
            tally: Cell::default(),
        })
    }

    /// The event counts.
    pub fn tally(&self) -> Tally {
        self.tally.get()
    }

    fn count(&self, event: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        event(&mut tally);
        self.tally.set(tally);
    }

    /// Records a broken rule. Only the first one is kept.
    pub fn violate(&self, rule: Rule, at: Moment, what: impl Into<String>) {
        self.violation.borrow_mut().get_or_insert_with(|| Violation { rule, at, what: what.into() });
    }

    /// The first broken rule.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.borrow().clone()
    }

    /// Checks a line of the gate's log.
    pub fn logged(&self, line: &str) {
        let secrets =
            ["eyJ", "refresh.", crate::provider::SECRET, crate::world::REDIS_PASSWORD, crate::world::KEY];
        if let Some(secret) = secrets.iter().find(|secret| line.contains(**secret)) {
            self.violate(Rule::NoSecretsInLogs, Moment::ZERO, format!("{secret:?} in {line:?}"));
        }
    }

    // What the provider did.

    /// The provider issued a token with these claims.
    pub fn issued(&self, text: &str, kind: Kind, claims: &Value, now: Moment) {
        let claimed = |name: &str| claims[name].as_str().map(str::to_owned);
        let secs = |name: &str| claims[name].as_u64().unwrap_or_default();
        let lifetime = Duration::from_secs(secs("exp").saturating_sub(secs("iat")));
        let issued = Issued {
            kind,
            subject: claimed("sub").unwrap_or_default(),
            sid: claimed("sid"),
            issued: now,
            ends: now.saturating_add(lifetime),
        };
        self.tokens.borrow_mut().insert(text.to_owned(), issued);
    }

    /// The provider issued a code.
    pub fn code_issued(&self, code: &str, sid: &str, chain: u64) {
        let new = Code { sid: sid.to_owned(), chain, presented: None };
        self.codes.borrow_mut().insert(code.to_owned(), new);
    }

    /// A code was presented to the token endpoint. A second time is allowed only if Redis lost the record of the first.
    pub fn code_presented(&self, code: &str, now: Moment) {
        if let Some(code) = self.codes.borrow_mut().get_mut(code)
            && let Some(first) = code.presented.replace(now)
            && self
                .forgotten
                .get()
                .is_none_or(|forgotten| forgotten.saturating_add(self.plan.longest_callback()) < first)
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

    /// A session ended.
    pub fn session_ended(&self, sid: &str, now: Moment) {
        self.session_weakened(sid, now);
        if let Some(session) = self.sessions.borrow_mut().get_mut(sid) {
            session.ended.get_or_insert(now);
        }
    }

    /// After this event, the gate may end what depends on a session.
    pub fn session_weakened(&self, sid: &str, now: Moment) {
        self.disturbed.set(now);
        if let Some(session) = self.sessions.borrow_mut().get_mut(sid) {
            session.weakened.get_or_insert(now);
        }
    }

    /// After this event, the gate may end all sessions of a user, including those that begin in the same second.
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

    /// [`Ledger::user_weakened`] for the user of a session.
    pub fn user_of_session_weakened(&self, sid: &str, now: Moment) {
        let subject = self.sessions.borrow().get(sid).map(|session| session.subject.clone());
        if let Some(subject) = subject {
            self.user_weakened(&subject, now);
        }
    }

    /// After this event, the gate may end everything that was issued until now or in the same second.
    pub fn everybody_is_void(&self, now: Moment) {
        self.disturbed.set(now);
        self.void_until.set(now.saturating_add(SAME_SECOND));
        for session in self.sessions.borrow_mut().values_mut() {
            session.weakened.get_or_insert(now);
        }
    }

    /// Sessions that the provider has ended by now, and for which it had issued nothing for at least `before`.
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

    /// The gate confirmed a logout notification for a session.
    pub fn announced(&self, sid: &str, now: Moment) {
        self.count(|tally| tally.announcements += 1);
        if let Some(session) = self.sessions.borrow_mut().get_mut(sid) {
            session.announced.get_or_insert(now);
        }
    }

    /// A user lost access.
    pub fn group_taken(&self, subject: &str, now: Moment) {
        self.disturbed.set(now);
        self.ever_lacked.borrow_mut().insert(subject.to_owned());
        self.groups_taken.borrow_mut().insert(subject.to_owned(), now);
    }

    /// A user got access again.
    pub fn group_given(&self, subject: &str) {
        self.groups_taken.borrow_mut().remove(subject);
    }

    /// The provider rotated its keys.
    pub fn keys_rotated(&self, now: Moment) {
        self.rotated.set(now);
    }

    /// Whether the gate may not have found the newest keys yet: it fetches keys for an unknown `kid` at most every 10
    /// s.
    pub fn keys_are_new(&self, now: Moment) -> bool {
        self.rotated.get() != Moment::ZERO && now.duration_since(self.rotated.get()) < KEYS_UNKNOWN
    }

    // Faults.

    /// Redis lost its data.
    pub fn lost_everything(&self, now: Moment) {
        self.disturbed.set(now);
        self.forgotten.set(Some(now));
        for ticket in self.tickets.borrow_mut().values_mut() {
            ticket.weakened.get_or_insert(now);
        }
    }

    /// Only the revocation stream was lost.
    pub fn lost_stream(&self, now: Moment) {
        self.stream_lost.set(Some(now));
    }

    /// A worker crashed. The sessions that it was refreshing may be lost.
    pub fn crashed(&self, at: WorkerId, now: Moment) {
        self.worker_starts(at);
        for chain in self.refresh.recently_by(at, now) {
            for ticket in self.tickets.borrow_mut().values_mut().filter(|ticket| ticket.chain == chain) {
                ticket.weakened.get_or_insert(now);
            }
        }
    }

    /// Whether an event since then may have changed who is signed in.
    pub fn is_disturbed_since(&self, since: Moment) -> bool {
        self.disturbed.get() != Moment::ZERO && self.disturbed.get() >= since
    }

    /// Describes the credential of a request.
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

/// The session cookie of a request.
pub fn session_cookie(ask: &Ask) -> Option<&str> {
    ask.get("cookie")?.split("; ").find_map(|pair| pair.strip_prefix(SESSION_COOKIE)?.strip_prefix('='))
}
