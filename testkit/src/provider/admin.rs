//! Actions of an administrator on users and sessions, and the messages that the client receives about them.

use oidc_gate_provider_model::{RealmSettings, Session, Time, User};

use super::back_channel::{Delivery, Outgoing};
use super::serving::make_calls;
use super::state::State;
use super::{Callback, Provider};

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
    pub fn apply(self, state: &mut State) -> Vec<Outgoing> {
        let ended = match self {
            Self::LogOutUser(username) => state.realm.log_out_user(&username),
            Self::DeleteSession(sid) => state.realm.end_session(&sid).into_iter().collect(),
            Self::LogOutAll => {
                state.realm.log_out_all();
                return state.callback(Callback::LogOut).into_iter().collect();
            }
            Self::PushNotBefore => return state.callback(Callback::PushNotBefore).into_iter().collect(),
        };
        ended.iter().filter_map(|ended| state.announcement(ended)).collect()
    }
}

impl Provider {
    /// Changes settings of the realm or client.
    pub fn settings(&self, edit: impl FnOnce(&mut RealmSettings)) {
        edit(&mut self.lock().realm.settings);
    }

    /// Adds a user, or replaces the one with this name.
    pub fn add_user(&self, user: User) {
        let users = &mut self.lock().realm.users;
        users.retain(|other| other.username != user.username);
        users.push(user);
    }

    /// The current state of a user.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn user(&self, username: &str) -> User {
        match self.lock().realm.user(username) {
            Some(user) => user.clone(),
            None => panic!("the provider has no user {username}"),
        }
    }

    /// Changes a user. The client is not notified.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn edit_user(&self, username: &str, edit: impl FnOnce(&mut User)) {
        match self.lock().realm.user_mut(username) {
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
        self.lock().realm.delete_user(username);
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
        self.lock().realm.not_before = seconds_since_1970;
    }

    /// "Push" of the realm's "not before". Posts `k_push_not_before` to the `adminUrl`.
    pub fn push_not_before(&self) -> Vec<Delivery> {
        self.change(Change::PushNotBefore)
    }

    /// Ends all sessions of a user. The client is not notified.
    pub fn end_sessions_of(&self, username: &str) {
        let realm = &mut self.lock().realm;
        for session in realm.sessions_of(username) {
            realm.end_session(&session.sid);
        }
    }

    /// Lets a session time out. The client is not notified.
    pub fn expire_session(&self, sid: &str) {
        if let Some(session) = self.lock().realm.sessions.get_mut(sid) {
            session.last_refresh = Time::default();
        }
    }

    /// How many live sessions there are.
    pub fn sessions(&self) -> usize {
        self.lock().realm.sessions.len()
    }

    /// The sessions of a user, oldest first.
    pub fn sessions_of(&self, username: &str) -> Vec<Session> {
        self.lock().realm.sessions_of(username)
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
        let calls = change.apply(&mut self.lock());
        self.send(calls)
    }

    /// Makes the calls. Blocks until the last one has a response or has timed out.
    fn send(&self, calls: Vec<Outgoing>) -> Vec<Delivery> {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(make_calls(&self.state, calls)),
            Err(error) => panic!("no runtime: {error}"),
        }
    }
}
