//! The sessions, tokens and codes that clients and attackers choose from.

use oidc_gate_provider_model::Kind;

use super::{Issued, Ledger, Moment};
use crate::rng::Rng;
use crate::world::subject;

/// Credentials that an observer may have seen.
impl Ledger {
    /// A session cookie and its session at the provider.
    pub fn some_session(&self, rng: &Rng) -> Option<(String, String)> {
        let tickets = self.tickets.borrow();
        let all: Vec<_> = tickets.iter().map(|(value, ticket)| (value.clone(), ticket.sid.clone())).collect();
        rng.pick_any(&all).cloned()
    }

    /// The cookie of one of the three sessions that ended last.
    pub fn some_ended_session(&self, rng: &Rng) -> Option<String> {
        let tickets = self.tickets.borrow();
        let sessions = self.sessions.borrow();
        let mut ended: Vec<(Moment, &String)> = tickets
            .iter()
            .filter_map(|(value, ticket)| {
                let signed_out = ticket.signed_out.map(|(at, _)| at);
                Some((signed_out.or(sessions.get(&ticket.sid)?.ended)?, value))
            })
            .collect();
        ended.sort();
        let latest = ended.len().saturating_sub(3);
        rng.pick_any(&ended[latest..]).map(|(_, value)| (*value).clone())
    }

    /// An access token that has not expired, although its session has ended.
    pub fn some_ended_token(&self, rng: &Rng, now: Moment) -> Option<String> {
        let sessions = self.sessions.borrow();
        let tokens = self.tokens.borrow();
        let is_ended = |issued: &Issued| {
            let session = issued.sid.as_ref().and_then(|sid| sessions.get(sid));
            issued.kind == Kind::Access && now < issued.ends && session.is_some_and(|s| s.ended.is_some())
        };
        let ended: Vec<&String> =
            tokens.iter().filter(|(_, issued)| is_ended(issued)).map(|(text, _)| text).collect();
        rng.pick_any(&ended).map(|text| (*text).clone())
    }

    /// When the latest access token of a session at the gate expires.
    pub fn token_end(&self, cookie: &str) -> Option<Moment> {
        let tickets = self.tickets.borrow();
        let sid = &tickets.get(cookie)?.sid;
        let tokens = self.tokens.borrow();
        tokens.values().filter(|issued| issued.sid.as_ref() == Some(sid)).map(|issued| issued.ends).max()
    }

    /// A random ID token.
    pub fn some_id_token(&self, rng: &Rng) -> Option<String> {
        let tokens = self.tokens.borrow();
        let all: Vec<_> =
            tokens.iter().filter(|(_, token)| token.kind == Kind::Id).map(|(text, _)| text).collect();
        rng.pick_any(&all).map(|text| (*text).clone())
    }

    /// A random code.
    pub fn some_code(&self, rng: &Rng) -> Option<String> {
        let codes = self.codes.borrow();
        let all: Vec<_> = codes.keys().collect();
        rng.pick_any(&all).map(|text| (*text).clone())
    }

    /// Whether a user's rights have ever changed.
    pub fn user_is_disturbed(&self, user: usize) -> bool {
        let subject = subject(user);
        self.ever_lacked.borrow().contains(&subject) || self.ever_disabled.borrow().contains(&subject)
    }

    /// Records that a user was disabled.
    pub fn user_disabled(&self, subject: &str) {
        self.ever_disabled.borrow_mut().insert(subject.to_owned());
    }
}
