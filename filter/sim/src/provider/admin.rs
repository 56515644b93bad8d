//! Actions of an administrator at the provider.

use oidc_gate_provider_model::{OldKeys, Session};

use super::{GROUP, Key, Provider};
use crate::executor::Moment;

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Signs a user out everywhere. The gate is notified of each session.
    LogOutUser,
    /// Deletes one session. The gate is notified.
    DeleteSession,
    /// Ends all sessions of the realm, without logout tokens.
    LogOutAll,
    /// Refuses tokens that were issued before now, without logout tokens.
    PushNotBefore,
    /// Removes a user's group, or restores it, without notice.
    ChangeGroups,
    /// Disables a user, or enables the user again, without notice.
    DisableUser,
    /// Creates a new signing key. The old one stays valid.
    RotateKeys,
}

/// All actions; the common ones are listed more than once.
pub const ACTIONS: [Action; 9] = [
    Action::LogOutUser,
    Action::LogOutUser,
    Action::DeleteSession,
    Action::DeleteSession,
    Action::LogOutAll,
    Action::PushNotBefore,
    Action::ChangeGroups,
    Action::DisableUser,
    Action::RotateKeys,
];

impl Provider {
    /// Performs an action on a random user or session. Returns the sessions for which logout tokens must be sent, one
    /// after the other.
    pub fn administer(&self, action: Action, now: Moment) -> Vec<Session> {
        let realm = &mut *self.realm(now);
        let chosen = realm.environment.rng.index(realm.users.len());
        let username = realm.users[chosen].username.clone();
        let mut of_user = realm.sessions_of(&username);
        of_user.sort_by(|one, other| one.sid.cmp(&other.sid));
        let mut ended = Vec::new();
        match action {
            Action::LogOutUser => {
                ended = realm.log_out_user(&username);
                ended.sort_by(|one, other| one.sid.cmp(&other.sid));
            }
            Action::DeleteSession => {
                if !of_user.is_empty() {
                    let one = realm.environment.rng.pick(&of_user);
                    ended.extend(realm.end_session(&one.sid));
                }
            }
            Action::LogOutAll => realm.log_out_all(),
            Action::PushNotBefore => {
                realm.not_before = realm.now.secs();
                realm.sessions.keys().for_each(|sid| self.ledger.session_weakened(sid, now));
            }
            Action::ChangeGroups => {
                let user = &mut realm.users[chosen];
                if user.groups.is_empty() {
                    user.groups = vec![GROUP.to_owned()];
                    self.ledger.group_given(&user.subject);
                } else {
                    user.groups.clear();
                    self.ledger.group_taken(&user.subject, now);
                }
            }
            Action::DisableUser => {
                let user = &mut realm.users[chosen];
                user.enabled = !user.enabled;
                if !user.enabled {
                    self.ledger.user_disabled(&user.subject);
                    of_user.iter().for_each(|session| self.ledger.session_weakened(&session.sid, now));
                }
            }
            Action::RotateKeys => {
                let new = Key::new(realm.keys.listed.len() as u64);
                realm.keys.rotate(vec![new], OldKeys::StayListed);
                self.ledger.keys_rotated(now);
            }
        }
        ended.retain(|session| session.attached);
        ended
    }

    /// Restores all rights that were taken away, so that every user can show that the gate works.
    pub fn pardon(&self) {
        for user in &mut self.realm.borrow_mut().users {
            user.enabled = true;
            if user.groups.is_empty() {
                user.groups = vec![GROUP.to_owned()];
                self.ledger.group_given(&user.subject);
            }
        }
    }
}
