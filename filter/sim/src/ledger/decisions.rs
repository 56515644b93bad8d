//! The rules about single requests: which may pass, which must not, and what the application receives.

use std::time::Duration;

use oidc_gate_core::session::ticket::UntrustedTicket;
use oidc_gate_provider_model::Kind;

use super::{Issued, Ledger, Rule, SAME_SECOND, SESSION_COOKIE, Ticket, session_cookie, short};
use crate::client::exchange::{Ask, parameter};
use crate::client::flood::NETWORK;
use crate::contexts::{Decided, Reply, Upstream};
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::plan::FaultProfile;
use crate::world::{LEEWAY, World};

/// How soon a revocation must be known everywhere, in addition to the configured times.
pub const PROMPT: Duration = Duration::from_millis(1_500);
/// How soon lost entries of the revocation stream are rewritten by their authors.
const WRITTEN_AGAIN: Duration = Duration::from_secs(8);
/// How long a refresh may be delayed after Redis did not accept its result.
const RELEASE_AFTER: Duration = Duration::from_secs(31);
/// After Redis refused a write, no session is treated as idle for this long (`session/unwritten.rs`).
const NOBODY_IS_IDLE: Duration = Duration::from_secs(31);
/// Allowance for a step or two of the clock and the network.
const SLACK: Duration = Duration::from_millis(1_100);

/// The true meaning of a request's credential.
enum Truth {
    Nobody,
    Session(Ticket),
    Bearer(Issued),
}

impl Ledger {
    /// A request reached a worker.
    pub fn arrived(&self, ask: &Ask, now: Moment) {
        // From here on the session may end: by a sign-out, or by a new login in the same browser.
        if matches!(ask.path(), "/oauth2/logout" | "/oauth2/callback")
            && let Some(value) = session_cookie(ask)
            && let Some(ticket) = self.tickets.borrow_mut().get_mut(value)
        {
            ticket.weakened.get_or_insert(now);
            self.disturbed.set(now);
        }
        if ask.path() == "/oauth2/account/sign-out"
            && let Truth::Session(ticket) = self.truth(ask)
        {
            self.user_weakened(&ticket.subject, now);
        }
    }

    /// The gate decided about a request.
    pub fn decided(
        &self,
        world: &World,
        ask: &Ask,
        at: WorkerId,
        arrived: Moment,
        decided: &Decided,
        reason: &str,
    ) {
        let now = world.executor.now();
        match decided {
            Decided::Forwarded(upstream) => {
                self.count(|tally| tally.forwarded += 1);
                self.check_upstream(ask, upstream, now);
                self.check_forward(world, ask, at, arrived, upstream.subject.as_deref(), now);
            }
            Decided::Answered(reply) => {
                self.count(|tally| tally.answered += 1);
                self.check_turn(world, ask, at, reason, now);
                // A 403 means that the session was recognised, which counts as a use.
                let mut tickets = self.tickets.borrow_mut();
                if let Some(ticket) = session_cookie(ask).and_then(|value| tickets.get_mut(value)) {
                    ticket.tried = now;
                    if reply.status == 403 {
                        ticket.used = now;
                    }
                }
                drop(tickets);
                match ask.path() {
                    "/oauth2/callback" => self.login_answered(ask, reply, at, arrived, now),
                    "/oauth2/logout" => self.logout_answered(ask, reply, at, now),
                    "/oauth2/account/sign-out" => self.account_answered(ask, reply, at, arrived, now),
                    path if path.starts_with("/oauth2/") => {}
                    _ => self.check_refusal(world, ask, at, arrived, reply, now),
                }
            }
        }
    }

    fn truth(&self, ask: &Ask) -> Truth {
        if let Some(value) = ask.get("authorization") {
            let token = value.strip_prefix("Bearer ").unwrap_or_default();
            return match self.tokens.borrow().get(token) {
                Some(issued) if issued.kind == Kind::Access => Truth::Bearer(issued.clone()),
                _ => Truth::Nobody,
            };
        }
        let ticket = session_cookie(ask).and_then(|value| self.tickets.borrow().get(value).cloned());
        ticket.map_or(Truth::Nobody, Truth::Session)
    }

    fn check_forward(
        &self,
        world: &World,
        ask: &Ask,
        at: WorkerId,
        arrived: Moment,
        passed_as: Option<&str>,
        now: Moment,
    ) {
        let number = ask.number;
        if ask.path() == "/health" {
            if let Some(subject) = passed_as {
                self.violate(
                    Rule::PermitOfItsOwn,
                    now,
                    format!("request {number}: {subject} on a public path"),
                );
            }
            return;
        }
        let truth = self.truth(ask);
        let (subject, sid) = match &truth {
            Truth::Nobody => {
                let what =
                    format!("request {number} at {at} passed without a credential: {}", self.describe(ask));
                return self.violate(Rule::PermitOfItsOwn, now, what);
            }
            Truth::Session(ticket) => (&ticket.subject, Some(&ticket.sid)),
            Truth::Bearer(token) => (&token.subject, token.sid.as_ref()),
        };
        if passed_as != Some(subject) {
            let what = format!("request {number} of {subject} passed as {passed_as:?}");
            return self.violate(Rule::PermitOfItsOwn, now, what);
        }
        let dead = |since: Moment, why: &str| {
            let after = arrived.duration_since(since);
            let what =
                format!("request {number} at {at} passed {after:?} after {why}: {}", self.describe(ask));
            self.violate(Rule::DeadStaysDead, now, what);
        };
        match &truth {
            Truth::Session(ticket) => {
                self.check_session(world, ticket, at, arrived, &dead);
                let mut tickets = self.tickets.borrow_mut();
                if let Some(ticket) = session_cookie(ask).and_then(|value| tickets.get_mut(value)) {
                    ticket.used = now;
                    ticket.tried = ticket.tried.max(arrived);
                }
            }
            Truth::Bearer(token) => {
                let end = token.ends.saturating_add(LEEWAY + self.plan.skew + SLACK);
                if world.envoys[at.envoy].clock_is_right() && arrived > end {
                    dead(token.ends, "the token's end");
                }
            }
            Truth::Nobody => {}
        }
        let session = sid.and_then(|sid| self.sessions.borrow().get(sid).cloned());
        if let Some(session) = session
            && let Some(announced) = session.announced
            && self.must_know(world, at, announced, arrived)
            && !self.is_of_the_same_second(&truth, session.ended.unwrap_or(announced), announced)
        {
            dead(announced, "its end was announced");
        }
    }

    /// Whether it is unknown if a revocation covers this credential. A logout token that names only the user revokes
    /// what was issued before its second. It does not tell what was issued within that second.
    fn is_of_the_same_second(&self, truth: &Truth, ended: Moment, announced: Moment) -> bool {
        let begun = match truth {
            Truth::Bearer(token) => token.issued,
            Truth::Session(ticket) => ticket.created,
            Truth::Nobody => return false,
        };
        // The login may have been in progress when its session ended.
        let since = if begun <= ended { ended } else { announced };
        !self.plan.provider.announces_sid && since.duration_since(begun) < SAME_SECOND
    }

    /// Whether an Envoy must know by now what was written to the revocation log. A fault that prevents reading extends
    /// the time, counted from the end of the fault.
    fn must_know(&self, world: &World, at: WorkerId, since: Moment, arrived: Moment) -> bool {
        let now = world.executor.now();
        let quiet = world.faults.last_of(at.envoy);
        let redis = self.plan.redis_timeout;
        // A worker may have crashed while it read. Until its lease expires, no other worker reads.
        let repaired = PROMPT + redis * 3 + Duration::from_secs(2);
        // Revocations that were only in Redis are lost with its data.
        let forgotten = self.forgotten.get().is_some_and(|forgotten| forgotten >= since);
        !forgotten
            && !self.may_be_lost(world, since, arrived)
            && arrived > since.saturating_add(PROMPT + redis)
            && (quiet < since || arrived > quiet.saturating_add(repaired))
            && !world.faults.redis_is_away(at.envoy, now)
            && !world.faults.stream_is_away(now)
    }

    /// Whether an entry written then may be missing: the stream was removed, and the author has not rewritten its
    /// entries yet. If workers crash or cannot write, that may never happen.
    fn may_be_lost(&self, world: &World, since: Moment, arrived: Moment) -> bool {
        let Some(lost) = self.stream_lost.get().filter(|lost| *lost >= since) else { return false };
        let again =
            lost.max(world.faults.last_refusal()).saturating_add(WRITTEN_AGAIN + self.plan.redis_timeout * 3);
        self.plan.fault_profile != FaultProfile::Pressure
            || arrived <= again
            || world.faults.writes_are_refused(world.executor.now())
    }

    /// Checks all limits of a browser session.
    fn check_session(
        &self,
        world: &World,
        ticket: &Ticket,
        at: WorkerId,
        arrived: Moment,
        dead: &dyn Fn(Moment, &str),
    ) {
        let plan = &self.plan;
        if let Some((signed_out, by)) = ticket.signed_out {
            // The workers of the same Envoy know at once. Another Envoy may have read the session just before and
            // cached it.
            let remembered = plan.cache_ttl + plan.redis_timeout + SLACK;
            let stalled = world.faults.stalled_since(at.envoy, at.worker, signed_out);
            let knows = if by == Some(at.envoy) {
                world.faults.last_of(at.envoy) < signed_out
            } else {
                self.must_know(world, at, signed_out, arrived)
            };
            let late = arrived > signed_out && knows || arrived > signed_out.saturating_add(remembered);
            if late && !stalled {
                dead(signed_out, "its sign-out was confirmed");
            }
        }
        let asks = plan
            .check_interval
            .map_or(plan.provider.access_lifetime, |interval| interval.min(plan.provider.access_lifetime));
        let asked = asks + plan.skew * 2 + SLACK;
        let ended = self.sessions.borrow().get(&ticket.sid).and_then(|session| session.ended);
        if let Some(ended) = ended
            && (plan.provider.refresh_tokens || !plan.keep_without_refresh)
            && world.faults.clocks_were_right()
            && arrived
                > ended.saturating_add(plan.provider.access_lifetime.max(asked) + plan.skew * 2 + SLACK)
            && !world.faults.any_since(ended)
        {
            dead(ended, "the provider ended its session, without a word");
        }
        if let Some(taken) = self.groups_taken.borrow().get(&ticket.subject)
            && plan.provider.refresh_tokens
            && world.faults.clocks_were_right()
            && arrived > taken.saturating_add(asked + PROMPT + plan.redis_timeout)
            && !world.faults.any_since(*taken)
        {
            dead(*taken, "the group was taken away");
        }
        if world.faults.clocks_were_right() {
            let tolerance = plan.skew * 2 + SLACK;
            if arrived > ticket.created.saturating_add(plan.absolute_timeout + tolerance) {
                dead(ticket.created, "it began");
            }
            // A refresh counts as a use when it ends.
            let lag = plan.slow_call() + plan.redis_timeout;
            let stalled = world.faults.any_stall_since(ticket.tried);
            let trouble = world.faults.last_of(at.envoy).max(world.faults.last_refusal());
            let refused = world.faults.redis_is_away(at.envoy, world.executor.now())
                || world.faults.writes_are_refused(world.executor.now())
                || (trouble > Moment::ZERO && arrived.duration_since(trouble) < NOBODY_IS_IDLE);
            if !stalled
                && !refused
                && arrived > ticket.tried.saturating_add(plan.idle_timeout + tolerance + lag)
            {
                dead(ticket.tried, "it was used last");
            }
        }
    }

    /// Checks what the application receives.
    fn check_upstream(&self, ask: &Ask, upstream: &Upstream, now: Moment) {
        let values = |name: &str| -> Vec<String> {
            let found = upstream.headers.iter().filter(|(candidate, _)| candidate == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
        };
        let number = ask.number;
        let identity: Vec<String> = upstream.subject.iter().cloned().collect();
        if values("x-forwarded-user") != identity {
            let what =
                format!("request {number} says it is {:?}, not {identity:?}", values("x-forwarded-user"));
            self.violate(Rule::CleanUpstream, now, what);
        }
        let cookies = values("cookie").join("; ");
        if !values("authorization").is_empty() || cookies.contains(SESSION_COOKIE) {
            self.violate(
                Rule::CleanUpstream,
                now,
                format!("request {number} carries its credential upstream"),
            );
        }
        // The application's own cookie differs in every request. It shows that the permit belongs to this request.
        let own = ask.get("cookie").is_some_and(|sent| sent.contains("app="));
        if own && cookies != format!("app={number}") {
            self.violate(Rule::CleanUpstream, now, format!("request {number} has the cookies {cookies:?}"));
        }
    }

    fn login_answered(&self, ask: &Ask, reply: &Reply, at: WorkerId, arrived: Moment, now: Moment) {
        let cookie = reply.headers.iter().find_map(|(name, value)| {
            let value = value.strip_prefix(SESSION_COOKIE)?.strip_prefix('=')?;
            (name == "set-cookie").then(|| value.split(';').next().unwrap_or_default())
        });
        let Some(value) = cookie.filter(|value| !value.is_empty()) else { return };
        self.count(|tally| tally.logins += 1);
        let codes = self.codes.borrow();
        let Some(code) = parameter(ask.query(), "code").and_then(|code| codes.get(&code)) else {
            return self.violate(
                Rule::PermitOfItsOwn,
                now,
                "a session came of a code that the provider never gave out",
            );
        };
        let subject = self.sessions.borrow().get(&code.sid).map(|session| session.subject.clone());
        let mut tickets = self.tickets.borrow_mut();
        let ticket = Ticket {
            subject: subject.unwrap_or_default(),
            sid: code.sid.clone(),
            chain: code.chain,
            begun: arrived,
            created: now,
            used: now,
            tried: now,
            weakened: None,
            replaced: None,
            signed_out: None,
        };
        if let Some(before) = session_cookie(ask).and_then(|value| tickets.get_mut(value)) {
            before.replaced = Some(at.envoy);
        }
        if tickets.insert(value.to_owned(), ticket).is_some() {
            self.violate(Rule::PermitOfItsOwn, now, format!("session {} was given out twice", short(value)));
        }
    }

    fn logout_answered(&self, ask: &Ask, reply: &Reply, at: WorkerId, now: Moment) {
        // Any other reply did not confirm the sign-out: a confirmation page, or an unavailable Redis.
        if reply.status == 303
            && let Some(value) = session_cookie(ask)
            && let Some(ticket) = self.tickets.borrow_mut().get_mut(value)
        {
            self.count(|tally| tally.sign_outs += 1);
            ticket.signed_out.get_or_insert((now, Some(at.envoy)));
        }
    }

    /// A user signed out one session, or all of them.
    fn account_answered(&self, ask: &Ask, reply: &Reply, at: WorkerId, arrived: Moment, now: Moment) {
        let Truth::Session(own) = self.truth(ask) else { return };
        self.user_weakened(&own.subject, now);
        if reply.status != 303 {
            return;
        }
        self.count(|tally| tally.sign_outs += 1);
        let named = ask.query().strip_prefix("session=");
        for (value, ticket) in self.tickets.borrow_mut().iter_mut() {
            let is_meant = match named {
                Some(name) => {
                    UntrustedTicket::parse(value).is_some_and(|ticket| ticket.record_name().as_str() == name)
                }
                None => ticket.created < arrived,
            };
            if is_meant && ticket.subject == own.subject {
                // A session that another Envoy ended a moment ago is not in the index any more, so this Envoy cannot
                // end it by name.
                let at_once = named.is_some() || ticket.replaced.is_none_or(|by| by == at.envoy);
                ticket.signed_out.get_or_insert((now, at_once.then_some(at.envoy)));
            }
        }
    }

    /// Callbacks of legitimate users must not be refused because of strangers.
    fn check_turn(&self, world: &World, ask: &Ask, at: WorkerId, reason: &str, now: Moment) {
        let kept_out = reason == "login_over_limit" && !ask.address.starts_with(NETWORK);
        let steady = matches!(self.plan.fault_profile, FaultProfile::Calm | FaultProfile::Pressure);
        // A login that Redis does not accept is retried many times, which uses up the limit.
        if kept_out && steady && now.duration_since(world.faults.last_refusal()) > RELEASE_AFTER {
            let what = format!("request {} at {at}: strangers have all turns", ask.number);
            self.violate(Rule::StrangersCostLittle, now, what);
        }
    }

    /// The gate refused a request. Without a fault, it needs a reason.
    fn check_refusal(
        &self,
        world: &World,
        ask: &Ask,
        at: WorkerId,
        arrived: Moment,
        reply: &Reply,
        now: Moment,
    ) {
        let plan = &self.plan;
        let lenient = match plan.fault_profile {
            FaultProfile::Calm => false,
            // A worker that has just started, or whose neighbour crashed during a shared task, may lack data and reply
            // with 503. But it must not end a session.
            FaultProfile::Crashes => reply.status == 503,
            FaultProfile::Pressure => reply.status == 503 && self.may_need_a_write(world, ask, now),
            FaultProfile::Storm => return,
        };
        if lenient || !world.faults.are_on() {
            return;
        }
        let number = ask.number;
        match self.truth(ask) {
            Truth::Nobody => {}
            Truth::Session(ticket) => {
                if self.may_be_gone(&ticket, now) || self.lacks_group(&ticket.subject) {
                    return;
                }
                let what = format!(
                    "request {number} at {at} was answered with {} although its session lives: {}",
                    reply.status,
                    self.describe(ask)
                );
                self.violate(Rule::NobodyThrownOut, now, what);
            }
            Truth::Bearer(token) => {
                let weakened = token.sid.is_some_and(|sid| self.is_weakened(&sid, now));
                let over = now.saturating_add(plan.skew + SLACK) >= token.ends;
                let unknown = self.keys_are_new(now);
                if weakened || over || unknown || self.lacks_group(&token.subject) {
                    return;
                }
                let what = format!(
                    "request {number} at {at} was answered with {} although its token is good",
                    reply.status
                );
                self.violate(Rule::NobodyThrownOut, now, what);
            }
        }
        let _ = arrived;
    }

    /// Whether a request may be refused because Redis refuses writes: its session must be refreshed, or a refresh
    /// failed a moment ago.
    fn may_need_a_write(&self, world: &World, ask: &Ask, now: Moment) -> bool {
        let refusal = world.faults.last_refusal();
        let refused = world.faults.writes_are_refused(now)
            || refusal > Moment::ZERO && now.duration_since(refusal) < RELEASE_AFTER;
        let Truth::Session(ticket) = self.truth(ask) else { return false };
        let plan = &self.plan;
        let asks = plan
            .check_interval
            .map_or(plan.provider.access_lifetime, |every| every.min(plan.provider.access_lifetime));
        let tolerance = plan.skew * 2 + SLACK + plan.slow_call();
        refused && now.saturating_add(tolerance) >= ticket.created.saturating_add(asks)
    }

    fn is_weakened(&self, sid: &str, now: Moment) -> bool {
        let sessions = self.sessions.borrow();
        sessions.get(sid).is_none_or(|session| {
            session.weakened.is_some()
                || now.saturating_add(SLACK * 2 + self.plan.skew + self.plan.slow_call())
                    >= session.opened.saturating_add(self.plan.provider.sso_max)
        })
    }

    fn lacks_group(&self, subject: &str) -> bool {
        // When access is restored, the next refresh must first notice it.
        self.ever_lacked.borrow().contains(subject)
    }

    fn may_be_gone(&self, ticket: &Ticket, now: Moment) -> bool {
        let plan = &self.plan;
        let tolerance = plan.skew * 2 + SLACK;
        let near =
            |since: Moment, limit: Duration| now.saturating_add(tolerance) >= since.saturating_add(limit);
        // Uses are recorded only at intervals, so the session may count as idle that much earlier.
        let lag = (plan.idle_timeout / 10).clamp(Duration::from_secs(1), Duration::from_secs(60));
        ticket.weakened.is_some()
            || ticket.signed_out.is_some()
            || self.is_weakened(&ticket.sid, now)
            || near(ticket.begun, plan.absolute_timeout)
            || near(ticket.used, plan.idle_timeout.saturating_sub(lag))
            || near(ticket.used, plan.provider.sso_idle.saturating_sub(plan.provider.access_lifetime + plan.slow_call()))
            // Lifetimes count from before the call that returned the token, and that call may have been slow.
            || (!plan.provider.refresh_tokens
                && !plan.keep_without_refresh
                && near(ticket.begun, plan.provider.access_lifetime.saturating_sub(plan.slow_call())))
    }
}
