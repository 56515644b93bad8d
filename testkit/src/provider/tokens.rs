//! Tokens that are created directly, valid and forged.

use oidc_gate_provider_model::{Holder, Kind, User};
use serde_json::Value;

use super::misbehaviour::Forgery;
use super::state::State;
use super::{Provider, SigningKey};

/// A callback to the client's `adminUrl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// `k_logout`
    LogOut,
    /// `k_push_not_before`
    PushNotBefore,
}

impl Callback {
    /// The path below the `adminUrl`.
    pub fn path(self) -> &'static str {
        match self {
            Self::LogOut => "k_logout",
            Self::PushNotBefore => "k_push_not_before",
        }
    }

    /// The claim `action`.
    pub fn action(self) -> &'static str {
        match self {
            Self::LogOut => "LOGOUT",
            Self::PushNotBefore => "PUSH_NOT_BEFORE",
        }
    }
}

impl Provider {
    /// A valid access token of this user in a new session, as from the password grant.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn access_token(&self, username: &str) -> String {
        let (user, mut state) = (self.user(username), self.lock());
        let sid = state.realm.begin_session(&user, None);
        valid_access_token(&mut state, &user, &sid)
    }

    /// A valid access token in an existing session, as from a refresh.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn access_token_in(&self, sid: &str) -> String {
        let mut state = self.lock();
        let session = state.realm.sessions.get(sid);
        let user = session.and_then(|session| state.realm.user(&session.username)).cloned();
        let Some(user) = user else { panic!("the provider has no session {sid}") };
        valid_access_token(&mut state, &user, sid)
    }

    /// An access token of this user with `forgery` applied. The provider does not store it.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn forged_access_token(&self, username: &str, forgery: &Forgery) -> String {
        let (user, mut state) = (self.user(username), self.lock());
        let sid = state.realm.begin_session(&user, None);
        let claims = state.realm.access_claims(&bearer(&user, &sid));
        state.mint(Kind::Access, claims, forgery)
    }

    /// An ID token of this user, as from a login that sent `nonce`.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn id_token(&self, username: &str, nonce: &str) -> String {
        let (user, mut state) = (self.user(username), self.lock());
        let realm = &mut state.realm;
        let sid = realm.begin_session(&user, None);
        let auth_time = Some(realm.now);
        let holder = Holder { auth_time, nonce: Some(nonce), ..Holder::new(&user, Some(&sid), "openid") };
        let claims = realm.id_claims(&holder, "");
        state.mint(Kind::Id, claims, &Forgery::new())
    }

    /// A logout token for a session in Keycloak's form, with `forgery` applied. It is not sent and ends no session at
    /// the provider.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn logout_token(&self, sid: &str, forgery: &Forgery) -> String {
        let subject = self.lock().realm.sessions.get(sid).map(|session| session.subject.clone());
        assert!(subject.is_some(), "the provider has no session {sid}");
        self.logout_token_about(subject.as_deref(), Some(sid), forgery)
    }

    /// A logout token for the given subject and session. Both may be absent.
    pub fn logout_token_about(&self, subject: Option<&str>, sid: Option<&str>, forgery: &Forgery) -> String {
        let mut state = self.lock();
        let claims = state.realm.logout_claims(subject, sid);
        state.mint(Kind::Logout, claims, forgery)
    }

    /// The JWT of a callback with this "not before" in Keycloak's form, with `forgery` applied. It is not sent.
    pub fn callback(&self, callback: Callback, not_before: i64, forgery: &Forgery) -> String {
        let mut state = self.lock();
        let claims = state.realm.callback_claims(callback.action(), not_before);
        state.mint(Kind::Callback, claims, forgery)
    }

    /// A token with any header and claims, signed with any key.
    pub fn sign(&self, header: &Value, claims: &Value, key: &SigningKey) -> String {
        key.token(&header.to_string(), &claims.to_string())
    }
}

fn valid_access_token(state: &mut State, user: &User, sid: &str) -> String {
    let holder = bearer(user, sid);
    let claims = state.realm.access_claims(&holder);
    let token = state.mint(Kind::Access, claims.clone(), &Forgery::new());
    state.realm.remember_access_token(&token, &holder, claims);
    token
}

const fn bearer<'a>(user: &'a User, sid: &'a str) -> Holder<'a> {
    Holder::new(user, Some(sid), "profile email")
}
