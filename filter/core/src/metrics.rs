//! The counters. All of them exist from the start. Labels are part of the name, and Envoy's `stats_tags` extract them:
//! `oidc_gate_decisions_total.outcome.<outcome>.reason.<reason>`.
//!
//! Other counters are `oidc_gate_refreshes_total` and `oidc_gate_logouts_total`, which count once for each session or
//! message and have the labels of [`Refresh`] and [`Logout`] as outcome; `oidc_gate_log_reads_total` for problems with
//! the revocation stream, with the labels of [`LogRead`]; and `oidc_gate_session_use_total` for uses of sessions that
//! could not be written.
//!
//! Rules that the operator named have their own reasons ([`RuleReasons`]). Their counters come after all others.

use crate::config::{MAX_RULE_REASONS, Policy};
use crate::error::{Reason, Rejection};
use crate::host::Counter;
use crate::labelled::labelled;

/// The gate's decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Forwarded, because the path is public.
    Public,
    /// Forwarded with a bearer token.
    Bearer,
    /// Forwarded with a session.
    Session,
    /// Answered by one of the gate's endpoints.
    Endpoint,
    /// Redirected to the provider for a login.
    Login(Reason),
    /// Refused.
    Refused(Reason),
}

const FORWARDED_OR_ANSWERED: [Outcome; 4] =
    [Outcome::Public, Outcome::Bearer, Outcome::Session, Outcome::Endpoint];

impl Outcome {
    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Bearer => "bearer",
            Self::Session => "session",
            Self::Endpoint => "endpoint",
            Self::Login(_) => "login",
            Self::Refused(_) => "refused",
        }
    }
}

labelled! {
    /// The result of a session refresh.
    pub enum Refresh {
        /// The session was renewed.
        Renewed = "renewed",
        /// The provider refused, so the session ended.
        Refused = "refused",
        /// The response did not belong to the session, so the session ended.
        Invalid = "invalid",
        /// The ID token was not issued by the provider or not for this login, so the session ended.
        Forged = "forged",
        /// No usable response. The gate tries again later.
        Failed = "failed",
        /// Refreshed at the provider, but Redis did not store the result.
        Lost = "lost",
    }
}

labelled! {
    /// Who or what caused a sign-out.
    pub enum Logout {
        /// The user, at the gate.
        Person = "person",
        /// The user, on the account page, for one or all of their sessions.
        Account = "account",
        /// The provider, with a logout token.
        BackChannel = "back_channel",
        /// The provider, for all users of the realm.
        Everyone = "everyone",
        /// The provider, for everything issued before a certain time.
        NotBefore = "not_before",
    }
}

labelled! {
    /// A problem with the revocation stream.
    pub enum LogRead {
        /// It could not be read.
        Failed = "failed",
        /// It was reset or trimmed, so revocations may have been missed.
        Reset = "reset",
        /// It has ids that are ahead of Redis' clock.
        Ahead = "ahead",
    }
}

/// The index of the first counter of each kind. Within a kind, the order is that of its `ALL`.
const REFUSALS: usize = FORWARDED_OR_ANSWERED.len();
const LOGINS: usize = REFUSALS.saturating_add(Reason::ALL.len());
const REFRESHES: usize = LOGINS.saturating_add(Reason::ALL.len());
const LOGOUTS: usize = REFRESHES.saturating_add(Refresh::ALL.len());
const LOG_READS: usize = LOGOUTS.saturating_add(Logout::ALL.len());
const SESSION_USES: usize = LOG_READS.saturating_add(LogRead::ALL.len());
const RULES: usize = SESSION_USES.saturating_add(1);

/// The counter for a decision.
pub fn decision(outcome: Outcome) -> Counter {
    Counter(match outcome {
        Outcome::Public => 0,
        Outcome::Bearer => 1,
        Outcome::Session => 2,
        Outcome::Endpoint => 3,
        Outcome::Refused(reason) => REFUSALS.saturating_add(reason as usize),
        Outcome::Login(reason) => LOGINS.saturating_add(reason as usize),
    })
}

/// The counter for this result of a refresh.
pub fn refresh(outcome: Refresh) -> Counter {
    Counter(REFRESHES.saturating_add(outcome as usize))
}

/// The counter for this cause of a sign-out.
pub fn logout(by: Logout) -> Counter {
    Counter(LOGOUTS.saturating_add(by as usize))
}

/// The counter for this problem with the revocation stream.
pub fn log_read(outcome: LogRead) -> Counter {
    Counter(LOG_READS.saturating_add(outcome as usize))
}

/// The counter for uses of sessions that could not be written.
pub fn session_use_unwritten() -> Counter {
    Counter(SESSION_USES)
}

/// The reasons of refusals by named rules: `not_allowed_<rule>`, `not_found_<rule>`.
#[derive(Clone, Debug, Default)]
pub struct RuleReasons(Vec<String>);

impl RuleReasons {
    /// The reasons in a policy. Their number is limited.
    pub fn new(policy: &Policy) -> Self {
        let mut reasons = policy.rule_reasons();
        reasons.truncate(MAX_RULE_REASONS);
        Self(reasons)
    }

    /// The reason that a named rule gives to this refusal, and its counter. `None` if the refusal has only its label.
    pub fn of(&self, rejection: &Rejection) -> Option<(&str, Counter)> {
        let reason = rejection.rule()?.reason(rejection.reason().label())?;
        let (place, reason) = self.0.iter().enumerate().find(|(_, known)| **known == reason)?;
        Some((reason, Counter(RULES.saturating_add(place))))
    }
}

/// The names of all counters, in order. Their number does not depend on traffic.
pub fn names(rules: &RuleReasons) -> Vec<String> {
    let name = |outcome: Outcome, reason: &str| {
        format!("oidc_gate_decisions_total.outcome.{}.reason.{reason}", outcome.label())
    };
    let plain = FORWARDED_OR_ANSWERED.iter().map(|outcome| name(*outcome, "none"));
    let refused = Reason::ALL.iter().map(|reason| name(Outcome::Refused(*reason), reason.label()));
    let login = Reason::ALL.iter().map(|reason| name(Outcome::Login(*reason), reason.label()));
    let refreshes = Refresh::ALL.iter().map(|outcome| ("refreshes", outcome.label()));
    let logouts = Logout::ALL.iter().map(|by| ("logouts", by.label()));
    let log_reads = LogRead::ALL.iter().map(|outcome| ("log_reads", outcome.label()));
    let others = refreshes
        .chain(logouts)
        .chain(log_reads)
        .chain([("session_use", "unwritten")])
        .map(|(what, label)| format!("oidc_gate_{what}_total.outcome.{label}.reason.none"));
    let rules = rules.0.iter().map(|reason| name(Outcome::Refused(Reason::NotAllowed), reason));
    plain.chain(refused).chain(login).chain(others).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn a_counter_finds_its_own_name() {
        let names = names(&RuleReasons::default());
        for (outcome, expected) in [
            (Outcome::Public, "outcome.public.reason.none"),
            (Outcome::Session, "outcome.session.reason.none"),
            (Outcome::Refused(Reason::InvalidToken), "outcome.refused.reason.invalid_token"),
            (Outcome::Login(Reason::SessionIdle), "outcome.login.reason.session_idle"),
            (Outcome::Refused(Reason::HostUnavailable), "outcome.refused.reason.host_unavailable"),
        ] {
            assert!(names[decision(outcome).0].ends_with(expected), "{expected}");
        }
        let refreshes = Refresh::ALL.iter().map(|outcome| (refresh(*outcome), "refreshes", outcome.label()));
        let logouts = Logout::ALL.iter().map(|by| (logout(*by), "logouts", by.label()));
        let log_reads = LogRead::ALL.iter().map(|outcome| (log_read(*outcome), "log_reads", outcome.label()));
        for (counter, what, label) in refreshes.chain(logouts).chain(log_reads) {
            let expected = format!("oidc_gate_{what}_total.outcome.{label}.reason.none");
            assert_eq!(names[counter.0], expected);
        }
        let unwritten = &names[session_use_unwritten().0];
        assert_eq!(unwritten, "oidc_gate_session_use_total.outcome.unwritten.reason.none");
        assert_eq!(session_use_unwritten().0 + 1, names.len());
    }
}
