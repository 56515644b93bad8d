//! Tokens that are created directly, valid and forged.

use serde_json::Value;

use super::mint::Holder;
use super::misbehaviour::Forgery;
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
        let (user, mut realm) = (self.user(username), self.lock());
        let sid = realm.begin_session(&user, None);
        let holder = bearer(&user, &sid);
        let claims = realm.access_claims(&holder);
        let key = realm.keys.active(realm.algorithm);
        let token = Forgery::new().mint(&key, "at+jwt", claims.clone());
        realm.remember_access_token(&token, &holder, claims);
        token
    }

    /// A valid access token in an existing session, as from a refresh.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn access_token_in(&self, sid: &str) -> String {
        let mut realm = self.lock();
        let user = realm.sessions.get(sid).and_then(|session| realm.user(&session.username)).cloned();
        let Some(user) = user else { panic!("the provider has no session {sid}") };
        let holder = bearer(&user, sid);
        let claims = realm.access_claims(&holder);
        let key = realm.keys.active(realm.algorithm);
        let token = Forgery::new().mint(&key, "at+jwt", claims.clone());
        realm.remember_access_token(&token, &holder, claims);
        token
    }

    /// An access token of this user with `forgery` applied. The provider does not store it.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn forged_access_token(&self, username: &str, forgery: &Forgery) -> String {
        let (user, mut realm) = (self.user(username), self.lock());
        let sid = realm.begin_session(&user, None);
        let key = realm.keys.active(realm.algorithm);
        forgery.mint(&key, "at+jwt", realm.access_claims(&bearer(&user, &sid)))
    }

    /// An ID token of this user, as from a login that sent `nonce`.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn id_token(&self, username: &str, nonce: &str) -> String {
        let (user, mut realm) = (self.user(username), self.lock());
        let sid = realm.begin_session(&user, None);
        let auth_time = Some(realm.now());
        let holder = Holder { user: &user, sid: Some(&sid), auth_time, nonce: Some(nonce), scope: "openid" };
        let key = realm.keys.active(realm.algorithm);
        let claims = realm.id_claims(&holder, "");
        key.token(&key.header("JWT").to_string(), &claims.to_string())
    }

    /// A logout token for a session in Keycloak's form, with `forgery` applied. It is not sent and ends no session at
    /// the provider.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn logout_token(&self, sid: &str, forgery: &Forgery) -> String {
        let realm = self.lock();
        let Some(session) = realm.sessions.get(sid) else { panic!("the provider has no session {sid}") };
        realm.logout_token(Some(&session.subject), Some(sid), forgery)
    }

    /// A logout token for the given subject and session. Both may be absent.
    pub fn logout_token_about(&self, subject: Option<&str>, sid: Option<&str>, forgery: &Forgery) -> String {
        self.lock().logout_token(subject, sid, forgery)
    }

    /// The JWT of a callback with this "not before" in Keycloak's form, with `forgery` applied. It is not sent.
    pub fn callback(&self, callback: Callback, not_before: i64, forgery: &Forgery) -> String {
        self.lock().callback(callback.action(), not_before, forgery)
    }

    /// A token with any header and claims, signed with any key.
    pub fn sign(&self, header: &Value, claims: &Value, key: &SigningKey) -> String {
        key.token(&header.to_string(), &claims.to_string())
    }
}

fn bearer<'a>(user: &'a super::User, sid: &'a str) -> Holder<'a> {
    Holder { user, sid: Some(sid), auth_time: None, nonce: None, scope: "profile email" }
}
