//! Refresh tokens on their way to the provider: each may be presented only once, and by one call at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_provider_model::{Grant, Request};

use super::{Ledger, Rule};
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::faults::Faults;

/// How long after a call to the provider a worker may still be writing its result.
const WRITING: Duration = Duration::from_secs(10);

/// For how long after a stall a worker may still act on outdated knowledge.
const STALLED: Duration = Duration::from_secs(2);

/// All refresh tokens that were ever presented.
#[derive(Default)]
pub struct Presentations {
    tokens: RefCell<BTreeMap<String, Token>>,
    calls: Rc<RefCell<BTreeMap<u64, Call>>>,
    next: Cell<u64>,
    faults: RefCell<Option<Rc<Faults>>>,
}

struct Token {
    chain: u64,
    number: u64,
    sid: String,
    /// The calls that carry it, in order.
    calls: Vec<(WorkerId, Moment)>,
    /// How often it arrived at the provider.
    arrived: u64,
}

struct Call {
    chain: u64,
    from: WorkerId,
    since: Moment,
    over: Option<Moment>,
}

/// A call that presents a refresh token. It ends when this is dropped.
pub struct Presentation {
    id: u64,
    calls: Rc<RefCell<BTreeMap<u64, Call>>>,
    clock: Rc<dyn Fn() -> Moment>,
}

impl Drop for Presentation {
    fn drop(&mut self) {
        let now = (self.clock)();
        if let Some(call) = self.calls.borrow_mut().get_mut(&self.id) {
            call.over = Some(now);
        }
    }
}

impl Presentations {
    /// Chains that a worker is refreshing, or refreshed a moment ago.
    pub(super) fn recently_by(&self, worker: WorkerId, now: Moment) -> Vec<u64> {
        let calls = self.calls.borrow();
        let recent = calls.values().filter(|call| {
            call.from == worker && call.over.is_none_or(|over| now.duration_since(over) < WRITING)
        });
        recent.map(|call| call.chain).collect()
    }

    fn excused(&self, calls: &[(WorkerId, Moment)]) -> bool {
        let faults = self.faults.borrow();
        calls.iter().any(|(by, since)| {
            // A worker that stalled after it got the lease cannot know that the lease has expired.
            faults.as_ref().is_some_and(|faults| {
                faults.excuse(by.envoy, by.worker, *since)
                    || faults.stalled_within(by.envoy, by.worker, STALLED, *since)
            })
        })
    }
}

impl Ledger {
    /// Sets the faults that may excuse a broken rule.
    pub fn set_faults(&self, faults: Rc<Faults>) {
        *self.refresh.faults.borrow_mut() = Some(faults);
    }

    /// The provider issued a refresh token: number `number` of its chain.
    pub fn refresh_token(&self, text: &str, chain: u64, number: u64, sid: &str) {
        let token = Token { chain, number, sid: sid.to_owned(), calls: Vec::new(), arrived: 0 };
        self.refresh.tokens.borrow_mut().insert(text.to_owned(), token);
    }

    /// The chain and the number of the refresh token that follows this code or refresh token.
    pub fn next_in_chain(&self, spent: &str) -> Option<(u64, u64)> {
        if let Some(code) = self.codes.borrow().get(spent) {
            return Some((code.chain, 0));
        }
        self.refresh.tokens.borrow().get(spent).map(|token| (token.chain, token.number + 1))
    }

    /// A worker sends this to the provider. If it carries a refresh token, the call is recorded until it ends.
    pub fn presenting(
        &self,
        request: &Request,
        from: WorkerId,
        now: Moment,
        clock: Rc<dyn Fn() -> Moment>,
    ) -> Option<Presentation> {
        if request.grant() != Some(Grant::RefreshToken) {
            return None;
        }
        let mut tokens = self.refresh.tokens.borrow_mut();
        let token = tokens.get_mut(request.form_field("refresh_token")?)?;
        self.count(|tally| tally.refreshes += 1);
        let under_way: Vec<(WorkerId, Moment)> = {
            let calls = self.refresh.calls.borrow();
            let others = calls.values().filter(|call| call.chain == token.chain && call.over.is_none());
            others.map(|call| (call.from, call.since)).collect()
        };
        if let Some((by, since)) = under_way.first()
            && !self.refresh.excused(&under_way)
        {
            let what = format!("{from} presents chain {} while {by} does so since {since}", token.chain);
            self.violate(Rule::OneAtATime, now, what);
        }
        token.calls.push((from, now));
        let id = self.refresh.next.get();
        self.refresh.next.set(id + 1);
        let call = Call { chain: token.chain, from, since: now, over: None };
        self.refresh.calls.borrow_mut().insert(id, call);
        Some(Presentation { id, calls: self.refresh.calls.clone(), clock })
    }

    /// A request with a session arrived, and its client did not wait for the reply. Its use may be recorded.
    pub fn went_away(&self, cookie: &str, arrived: Moment) {
        if let Some(ticket) = self.tickets.borrow_mut().get_mut(cookie) {
            ticket.tried = ticket.tried.max(arrived);
        }
    }

    /// A refresh token arrived at the provider.
    pub fn presented(&self, text: &str, now: Moment) {
        let mut tokens = self.refresh.tokens.borrow_mut();
        let Some(token) = tokens.get_mut(text) else { return };
        token.arrived += 1;
        let chain = token.chain;
        for ticket in self.tickets.borrow_mut().values_mut().filter(|ticket| ticket.chain == chain) {
            ticket.tried = ticket.tried.max(now);
        }
        if token.arrived > 1 && self.plan.provider.rotation && !self.refresh.excused(&token.calls) {
            let (chain, number) = (token.chain, token.number);
            let by: Vec<String> = token.calls.iter().map(|(by, at)| format!("{by} at {at}")).collect();
            self.violate(
                Rule::SpentOnce,
                now,
                format!("token {number} of chain {chain} is presented again: {by:?}"),
            );
        }
        if token.arrived > 1 {
            let sid = token.sid.clone();
            drop(tokens);
            self.session_weakened(&sid, now);
        }
    }
}
