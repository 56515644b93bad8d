//! Actions of an administrator on users and sessions, and the messages that the client receives about them.

use super::back_channel::{Delivery, Outgoing, send_all};
use super::realm::Realm;
use super::user::User;
use super::{Provider, RealmSettings, lock};

/// A session at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// `sid`.
    pub sid: String,
    /// The user's name.
    pub username: String,
    /// Whether the client still belongs to the session. Reuse of a code or refresh token detaches it.
    pub attached: bool,
    /// Whether it was started with `offline_access`.
    pub offline: bool,
}

/// An administrator's action that is reported to clients.
pub(super) enum Change {
    /// One call for each online session of the user.
    LogOutUser(String),
    /// One call.
    DeleteSession(String),
    /// No logout token. `k_logout` if an `adminUrl` is registered.
    LogOutAll,
    /// `k_push_not_before`, with the realm's "not before".
    PushNotBefore,
}

impl Change {
    /// Applies the change. Returns the calls to make, one after the other.
    pub fn apply(self, realm: &mut Realm) -> Vec<Outgoing> {
        let now = realm.now();
        match self {
            Self::LogOutUser(username) => {
                if let Some(user) = realm.user_mut(&username) {
                    user.not_before = now;
                }
                let online = realm.sids_of(&username);
                // Offline sessions continue, but their tokens become stale.
                let online =
                    online.into_iter().filter(|sid| !realm.sessions.get(sid).is_some_and(|s| s.offline));
                let online: Vec<_> = online.collect();
                online.iter().filter_map(|sid| realm.end_session(sid)).collect()
            }
            Self::DeleteSession(sid) => realm.end_session(&sid).into_iter().collect(),
            Self::LogOutAll => {
                realm.sessions.retain(|_, session| session.offline);
                realm.browsers.clear();
                realm.not_before = now;
                realm.callback_to("k_logout", "LOGOUT").into_iter().collect()
            }
            Self::PushNotBefore => {
                realm.callback_to("k_push_not_before", "PUSH_NOT_BEFORE").into_iter().collect()
            }
        }
    }
}

impl Realm {
    fn callback_to(&self, path: &str, action: &str) -> Option<Outgoing> {
        let url = format!("{}/{path}", self.setup.admin_url.as_deref()?);
        let token = self.callback(action, self.not_before, &self.misbehaviour.logout_token);
        Some(Outgoing::Callback { url, token })
    }
}

impl Provider {
    /// Changes settings of the realm or client.
    pub fn settings(&self, edit: impl FnOnce(&mut RealmSettings)) {
        edit(&mut self.lock().settings);
    }

    /// Adds a user, or replaces the one with this name.
    pub fn add_user(&self, user: User) {
        let mut realm = self.lock();
        realm.users.retain(|other| other.username != user.username);
        realm.users.push(user);
    }

    /// The current state of a user.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn user(&self, username: &str) -> User {
        match self.lock().user(username) {
            Some(user) => user.clone(),
            None => panic!("the provider has no user {username}"),
        }
    }

    /// Changes a user. The client is not notified.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn edit_user(&self, username: &str, edit: impl FnOnce(&mut User)) {
        match self.lock().user_mut(username) {
            Some(user) => edit(user),
            None => panic!("the provider has no user {username}"),
        }
    }

    /// Sets the groups of a user (full paths). The client is not notified; the next refresh has the new groups.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn set_groups(&self, username: &str, groups: &[&str]) {
        self.edit_user(username, |user| {
            user.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        });
    }

    /// Disables a user. The client is not notified; refreshes and introspection fail from now on.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn disable_user(&self, username: &str) {
        self.edit_user(username, |user| user.enabled = false);
    }

    /// Enables a user again.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn enable_user(&self, username: &str) {
        self.edit_user(username, |user| user.enabled = true);
    }

    /// Deletes a user with all sessions. The client is not notified.
    pub fn delete_user(&self, username: &str) {
        let mut realm = self.lock();
        realm.users.retain(|user| user.username != username);
        realm.sessions.retain(|_, session| session.username != username);
    }

    /// "Log out" of a user in the console. Ends the user's sessions and sends a logout token for each online one, one
    /// after the other, waiting up to 5 s for each response.
    pub fn log_out_user(&self, username: &str) -> Vec<Delivery> {
        self.change(Change::LogOutUser(username.to_owned()))
    }

    /// Deletes one session and sends its logout token. Sends nothing if the session does not exist, is detached or
    /// offline.
    pub fn delete_session(&self, sid: &str) -> Vec<Delivery> {
        self.change(Change::DeleteSession(sid.to_owned()))
    }

    /// "Logout all" of the realm. Ends every session, sets "not before" to now, and posts `k_logout` to the `adminUrl`.
    pub fn log_out_all(&self) -> Vec<Delivery> {
        self.change(Change::LogOutAll)
    }

    /// Sets the realm's "not before". The client is not notified.
    pub fn set_not_before(&self, seconds_since_1970: i64) {
        self.lock().not_before = seconds_since_1970;
    }

    /// "Push" of the realm's "not before". Posts `k_push_not_before` to the `adminUrl`.
    pub fn push_not_before(&self) -> Vec<Delivery> {
        self.change(Change::PushNotBefore)
    }

    /// Ends all sessions of a user. The client is not notified.
    pub fn end_sessions_of(&self, username: &str) {
        let mut realm = self.lock();
        for sid in realm.sids_of(username) {
            let _ = realm.end_session(&sid);
        }
    }

    /// Lets a session time out. The client is not notified.
    pub fn expire_session(&self, sid: &str) {
        let mut realm = self.lock();
        let long_ago = realm.now() - realm.settings.sso_session_max_lifespan;
        if let Some(session) = realm.sessions.get_mut(sid) {
            session.last_refresh = long_ago;
        }
    }

    /// How many live sessions there are.
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// The sessions of a user, oldest first.
    pub fn sessions_of(&self, username: &str) -> Vec<SessionInfo> {
        let realm = self.lock();
        let info = |sid: String| {
            let session = realm.sessions.get(&sid)?;
            let (username, attached, offline) = (session.username.clone(), session.attached, session.offline);
            Some(SessionInfo { sid, username, attached, offline })
        };
        realm.sids_of(username).into_iter().filter_map(info).collect()
    }

    /// All calls to the client so far, with the responses: those of the methods above, and those made when a browser
    /// signed out at the provider.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    /// Posts a logout token to the registered address, as Keycloak does.
    ///
    /// # Panics
    /// If no address is registered.
    pub fn deliver_logout_token(&self, token: &str) -> Delivery {
        let Some(url) = self.lock().setup.backchannel_logout_url.clone() else {
            panic!("no address for back-channel logout is registered")
        };
        self.send_one(Outgoing::LogoutToken { url, token: token.to_owned() })
    }

    /// Posts a callback to `<adminUrl>/<path>`, as Keycloak does.
    ///
    /// # Panics
    /// If no address is registered.
    pub fn deliver_callback(&self, path: &str, token: &str) -> Delivery {
        let Some(url) = self.lock().setup.admin_url.clone() else { panic!("no adminUrl is registered") };
        self.send_one(Outgoing::Callback { url: format!("{url}/{path}"), token: token.to_owned() })
    }

    fn send_one(&self, call: Outgoing) -> Delivery {
        match self.send(vec![call]).pop() {
            Some(delivery) => delivery,
            None => unreachable!("each call is delivered or given up"),
        }
    }

    fn change(&self, change: Change) -> Vec<Delivery> {
        let calls = change.apply(&mut lock(&self.realm));
        self.send(calls)
    }

    /// Makes the calls without locking the realm, because the receiver may query the provider before it responds.
    fn send(&self, calls: Vec<Outgoing>) -> Vec<Delivery> {
        let deliveries = send_all(calls).unwrap_or_else(|trouble| panic!("{trouble}"));
        self.lock().deliveries.extend(deliveries.iter().cloned());
        deliveries
    }
}
