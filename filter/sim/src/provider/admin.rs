//! Actions of an administrator at the provider.

use super::{GROUP, Key, Provider};
use crate::executor::Moment;
use crate::world::epoch_secs;

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
    pub fn administer(&self, action: Action, now: Moment) -> Vec<String> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let chosen = self.rng.index(state.users.len());
        let of_user: Vec<String> = state
            .sessions
            .iter()
            .filter(|(_, session)| session.alive && session.user == chosen)
            .map(|(sid, _)| sid.clone())
            .collect();
        match action {
            Action::LogOutUser => {
                state.users[chosen].not_before = epoch_secs(now);
                of_user.into_iter().filter(|sid| self.end_session(state, sid, now)).collect()
            }
            Action::DeleteSession => {
                let one = (!of_user.is_empty()).then(|| self.rng.pick(&of_user).clone());
                one.into_iter().filter(|sid| self.end_session(state, sid, now)).collect()
            }
            Action::LogOutAll => {
                let all: Vec<String> = state.sessions.keys().cloned().collect();
                for sid in all {
                    self.end_session(state, &sid, now);
                }
                Vec::new()
            }
            Action::PushNotBefore => {
                state.not_before = epoch_secs(now);
                let all: Vec<String> = state.sessions.keys().cloned().collect();
                all.iter().for_each(|sid| self.ledger.session_weakened(sid, now));
                Vec::new()
            }
            Action::ChangeGroups => {
                let user = &mut state.users[chosen];
                if user.groups.is_empty() {
                    user.groups = vec![GROUP.to_owned()];
                    self.ledger.group_given(&user.subject);
                } else {
                    user.groups.clear();
                    self.ledger.group_taken(&user.subject, now);
                }
                Vec::new()
            }
            Action::DisableUser => {
                let user = &mut state.users[chosen];
                user.enabled = !user.enabled;
                if !user.enabled {
                    self.ledger.user_disabled(&user.subject);
                    of_user.iter().for_each(|sid| self.ledger.session_weakened(sid, now));
                }
                Vec::new()
            }
            Action::RotateKeys => {
                state.keys.push(Key::new(state.keys.len() as u64));
                self.ledger.keys_rotated(now);
                Vec::new()
            }
        }
    }

    /// Restores all rights that were taken away, so that every user can show that the gate works.
    pub fn pardon(&self) {
        let mut state = self.state.borrow_mut();
        for user in &mut state.users {
            user.enabled = true;
            if user.groups.is_empty() {
                user.groups = vec![GROUP.to_owned()];
                self.ledger.group_given(&user.subject);
            }
        }
    }
}
