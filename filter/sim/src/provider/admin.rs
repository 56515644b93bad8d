//! What an administrator does at the provider.

use super::{GROUP, Key, Provider};
use crate::executor::Moment;
use crate::world::epoch_secs;

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Signs a user out everywhere: announced, session by session.
    LogOutUser,
    /// Deletes one session: announced.
    DeleteSession,
    /// Ends all sessions of the realm: not announced.
    LogOutAll,
    /// Refuses tokens that were issued before now: not announced.
    PushNotBefore,
    /// Takes a user's group away, or gives it back: not announced.
    ChangeGroups,
    /// Disables a user, or enables one again: not announced.
    DisableUser,
    /// Makes a new signing key; the old one stays good.
    RotateKeys,
}

/// All of them, the usual ones more often.
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
    /// Does it, to a user or session by chance. Gives back the sessions whose end has to be announced, one after the
    /// other.
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

    /// Everybody may come in again: what was taken away is given back, so that the end of a run shows who can.
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
