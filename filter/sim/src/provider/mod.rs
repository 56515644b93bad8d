//! An OpenID provider that behaves like Keycloak: sessions, rotating refresh tokens whose reuse detaches the client,
//! changing groups, and ends of sessions, only some of which cause a logout token.

pub mod admin;
mod announce;
pub mod endpoints;
mod sign;
mod token;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

pub use announce::{announce, tell_admin_url};
pub use sign::{Key, verify};

use crate::executor::Moment;
use crate::ledger::Ledger;
use crate::plan::ProviderPlan;
use crate::rng::Rng;

/// The issuer.
pub const ISSUER: &str = "https://idp.example/realms/mlflow";
/// The client's id.
pub const CLIENT: &str = "mlflow";
/// The client's secret.
pub const SECRET: &str = "client s3cret+%";
/// The group that grants access.
pub const GROUP: &str = "/mlflow_users";
/// The gate's origin.
pub const ORIGIN: &str = "https://mlflow.example";
/// The gate's host.
pub const AUTHORITY: &str = "mlflow.example";
/// The lifetime of a code.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// The provider.
pub struct Provider {
    plan: ProviderPlan,
    rng: Rng,
    ledger: Rc<Ledger>,
    state: RefCell<State>,
    requests: Cell<u64>,
}

#[derive(Default)]
struct State {
    users: Vec<User>,
    sessions: BTreeMap<String, Session>,
    codes: BTreeMap<String, Code>,
    refresh: BTreeMap<String, Refresh>,
    /// Chain of refresh tokens → the number of the valid one.
    chains: BTreeMap<u64, u64>,
    keys: Vec<Key>,
    /// Tokens of the realm that were issued before this time are refused; in whole seconds.
    not_before: u64,
    serial: u64,
}

struct User {
    subject: String,
    name: String,
    groups: Vec<String>,
    enabled: bool,
    not_before: u64,
}

/// A session at the provider. Browsers and clients may share it.
struct Session {
    user: usize,
    started: Moment,
    refreshed: Moment,
    /// Whether the gate's client takes part in it.
    attached: bool,
    alive: bool,
}

struct Code {
    sid: String,
    nonce: String,
    challenge: String,
    redirect_uri: String,
    issued: Moment,
    used: bool,
    chain: u64,
}

struct Refresh {
    sid: String,
    chain: u64,
    number: u64,
    issued: Moment,
    expires: Moment,
}

impl Provider {
    /// A provider with this many users.
    pub fn new(plan: ProviderPlan, users: usize, rng: Rng, ledger: Rc<Ledger>) -> Self {
        let users = (0..users).map(|number| User {
            subject: format!("subject-{number}"),
            name: format!("person{number}"),
            groups: vec![GROUP.to_owned()],
            enabled: true,
            not_before: 0,
        });
        let state = State { users: users.collect(), keys: vec![Key::new(0)], ..State::default() };
        Self { plan, rng, ledger, state: RefCell::new(state), requests: Cell::default() }
    }

    /// The number of requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    fn random(&self) -> String {
        let mut bytes = [0; 18];
        self.rng.fill(&mut bytes);
        oidc_gate_core::encoding::base64url(bytes)
    }

    /// Whether a session is alive and within its own limits.
    fn is_alive(&self, state: &State, sid: &str, now: Moment) -> bool {
        state.sessions.get(sid).is_some_and(|session| {
            session.alive
                && now.duration_since(session.started) < self.plan.sso_max
                && now.duration_since(session.refreshed) < self.plan.sso_idle
        })
    }

    /// Opens a session for a user.
    fn open_session(&self, state: &mut State, user: usize, now: Moment) -> String {
        let sid = self.random();
        let session = Session { user, started: now, refreshed: now, attached: true, alive: true };
        state.sessions.insert(sid.clone(), session);
        self.ledger.session_opened(&sid, &state.users[user].subject, now);
        sid
    }

    /// Ends a session. True if the gate's client took part in it, so that a logout token must be sent.
    fn end_session(&self, state: &mut State, sid: &str, now: Moment) -> bool {
        let Some(session) = state.sessions.get_mut(sid) else { return false };
        let told = session.alive && session.attached;
        session.alive = false;
        self.ledger.session_ended(sid, now);
        told
    }

    /// Detaches the client from a session, as after the reuse of a refresh token or code: all its tokens in that
    /// session become invalid.
    fn detach(&self, state: &mut State, sid: &str, now: Moment) {
        if let Some(session) = state.sessions.get_mut(sid) {
            session.attached = false;
        }
        self.ledger.session_weakened(sid, now);
    }
}
