//! A provider behind its lock: the model, the clock, and what the test wants to know.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use oidc_gate_provider_model::{Client, Kind, Realm, Session, Time, User};
use serde_json::Value;

use super::back_channel::{Delivery, Outgoing};
use super::environment::Kit;
use super::keys::key_ring;
use super::misbehaviour::{Forgery, Misbehaviour};
use super::traffic::Traffic;
use super::{Callback, Setup};

/// The whole state of a provider.
pub(super) struct State {
    pub realm: Realm<Kit>,
    pub setup: Setup,
    /// In seconds.
    pub clock_offset: i64,
    /// How often the keys were replaced.
    pub rotations: usize,
    pub traffic: Traffic,
    pub deliveries: Vec<Delivery>,
    pub misbehaviour: Misbehaviour,
}

impl State {
    pub fn new(issuer: &str, setup: Setup) -> Self {
        let client = Client {
            id: setup.client_id.clone(),
            secret: setup.client_secret.clone(),
            redirect_uris: setup.redirect_uris.clone(),
        };
        let users = vec![
            User::new("mlflow_user", &["/mlflow_users"]),
            User::new("mlflow_admin", &["/mlflow_admins"]),
            User::new("outsider", &[]),
        ];
        Self {
            realm: Realm::new(issuer, client, users, key_ring(), Kit::new()),
            setup,
            clock_offset: 0,
            rotations: 0,
            traffic: Traffic::default(),
            deliveries: Vec::new(),
            misbehaviour: Misbehaviour::default(),
        }
    }

    /// A token with this forgery and no other.
    pub fn mint(&self, kind: Kind, claims: Value, forgery: &Forgery) -> String {
        forgery.mint(self.realm.key(kind), kind.typ(), claims)
    }

    /// Locks the state and reads the clock.
    pub fn lock(state: &Mutex<Self>) -> MutexGuard<'_, Self> {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        state.realm.now = Time::from_secs(now.saturating_add(state.clock_offset));
        state
    }

    /// The call that notifies the client of the end of a session, if there is one.
    pub fn announcement(&mut self, ended: &Session) -> Option<Outgoing> {
        let url = self.setup.backchannel_logout_url.clone().filter(|_| self.realm.is_announced(ended))?;
        Some(Outgoing::LogoutToken { url, token: self.realm.logout_token(&ended.subject, &ended.sid) })
    }

    /// The call to the `adminUrl`, with the realm's "not before".
    pub fn callback(&mut self, callback: Callback) -> Option<Outgoing> {
        let url = format!("{}/{}", self.setup.admin_url.as_deref()?, callback.path());
        let claims = self.realm.callback_claims(callback.action(), self.realm.not_before);
        Some(Outgoing::Callback { url, token: self.realm.sign(Kind::Callback, claims) })
    }
}
