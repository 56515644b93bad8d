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
use crate::error::Rejection;
use crate::host::Counter;

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
    Login,
    /// Refused.
    Refused,
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
            Self::Login => "login",
            Self::Refused => "refused",
        }
    }
}

/// The result of a session refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The session was renewed.
    Renewed,
    /// The provider refused, so the session ended.
    Refused,
    /// The response did not belong to the session, so the session ended.
    Invalid,
    /// The ID token was not issued by the provider or not for this login, so the session ended.
    Forged,
    /// No usable response. The gate tries again later.
    Failed,
    /// Refreshed at the provider, but Redis did not store the result.
    Lost,
}

/// Who or what caused a sign-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logout {
    /// The user, at the gate.
    Person,
    /// The user, on the account page, for one or all of their sessions.
    Account,
    /// The provider, with a logout token.
    BackChannel,
    /// The provider, for all users of the realm.
    Everyone,
    /// The provider, for everything issued before a certain time.
    NotBefore,
}

/// A problem with the revocation stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRead {
    /// It could not be read.
    Failed,
    /// It was reset or trimmed, so revocations may have been missed.
    Reset,
    /// It has ids that are ahead of Redis' clock.
    Ahead,
}

const REFRESHES: [(Refresh, &str); 6] = [
    (Refresh::Renewed, "renewed"),
    (Refresh::Refused, "refused"),
    (Refresh::Invalid, "invalid"),
    (Refresh::Forged, "forged"),
    (Refresh::Failed, "failed"),
    (Refresh::Lost, "lost"),
];
const LOGOUTS: [(Logout, &str); 5] = [
    (Logout::Person, "person"),
    (Logout::Account, "account"),
    (Logout::BackChannel, "back_channel"),
    (Logout::Everyone, "everyone"),
    (Logout::NotBefore, "not_before"),
];
const LOG_READS: [(LogRead, &str); 3] =
    [(LogRead::Failed, "failed"), (LogRead::Reset, "reset"), (LogRead::Ahead, "ahead")];

/// The counter for this result of a refresh.
pub fn refresh(outcome: Refresh) -> Counter {
    let place = REFRESHES.iter().position(|(known, _)| *known == outcome).unwrap_or_default();
    Counter(decisions().saturating_add(place))
}

/// The counter for this cause of a sign-out.
pub fn logout(by: Logout) -> Counter {
    let place = LOGOUTS.iter().position(|(known, _)| *known == by).unwrap_or_default();
    Counter(decisions().saturating_add(REFRESHES.len()).saturating_add(place))
}

/// The counter for this problem with the revocation stream.
pub fn log_read(outcome: LogRead) -> Counter {
    let place = LOG_READS.iter().position(|(known, _)| *known == outcome).unwrap_or_default();
    Counter(decisions().saturating_add(REFRESHES.len()).saturating_add(LOGOUTS.len()).saturating_add(place))
}

/// The counter for uses of sessions that could not be written.
pub fn session_use_unwritten() -> Counter {
    let others = [REFRESHES.len(), LOGOUTS.len(), LOG_READS.len()];
    Counter(others.into_iter().fold(decisions(), usize::saturating_add))
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
        let reason = rejection.rule()?.reason(rejection.label())?;
        let (place, reason) = self.0.iter().enumerate().find(|(_, known)| **known == reason)?;
        let first = session_use_unwritten().0.saturating_add(1);
        Some((reason, Counter(first.saturating_add(place))))
    }
}

fn decisions() -> usize {
    Rejection::LABELS.len().saturating_mul(2).saturating_add(FORWARDED_OR_ANSWERED.len())
}

/// The counter for a decision. For logins and refusals, `reason` is a label of [`Rejection`].
pub fn decision(outcome: Outcome, reason: &str) -> Counter {
    let reasons = Rejection::LABELS;
    let reason = reasons.iter().position(|label| *label == reason).unwrap_or_default();
    let first = FORWARDED_OR_ANSWERED.len();
    Counter(match outcome {
        Outcome::Public => 0,
        Outcome::Bearer => 1,
        Outcome::Session => 2,
        Outcome::Endpoint => 3,
        Outcome::Refused => first.saturating_add(reason),
        Outcome::Login => first.saturating_add(reasons.len()).saturating_add(reason),
    })
}

/// The names of all counters, in order. Their number does not depend on traffic.
pub fn names(rules: &RuleReasons) -> Vec<String> {
    let name = |outcome: Outcome, reason: &str| {
        format!("oidc_gate_decisions_total.outcome.{}.reason.{reason}", outcome.label())
    };
    let plain = FORWARDED_OR_ANSWERED.into_iter().map(|outcome| name(outcome, "none"));
    let refused = Rejection::LABELS.iter().map(|reason| name(Outcome::Refused, reason));
    let login = Rejection::LABELS.iter().map(|reason| name(Outcome::Login, reason));
    let refreshes = REFRESHES.iter().map(|(_, label)| ("refreshes", label));
    let logouts = LOGOUTS.iter().map(|(_, label)| ("logouts", label));
    let log_reads = LOG_READS.iter().map(|(_, label)| ("log_reads", label));
    let others = refreshes
        .chain(logouts)
        .chain(log_reads)
        .chain([("session_use", &"unwritten")])
        .map(|(what, label)| format!("oidc_gate_{what}_total.outcome.{label}.reason.none"));
    let rules = rules.0.iter().map(|reason| name(Outcome::Refused, reason));
    plain.chain(refused).chain(login).chain(others).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_counter_finds_its_own_name() {
        let names = names(&RuleReasons::default());
        for (outcome, reason, expected) in [
            (Outcome::Public, "none", "outcome.public.reason.none"),
            (Outcome::Session, "none", "outcome.session.reason.none"),
            (Outcome::Refused, "invalid_token", "outcome.refused.reason.invalid_token"),
            (Outcome::Login, "session_idle", "outcome.login.reason.session_idle"),
            (Outcome::Refused, "host_unavailable", "outcome.refused.reason.host_unavailable"),
        ] {
            assert!(names[decision(outcome, reason).0].ends_with(expected), "{expected}");
        }
        for (outcome, label) in REFRESHES {
            assert!(
                names[refresh(outcome).0].starts_with(&format!("oidc_gate_refreshes_total.outcome.{label}."))
            );
        }
        for (by, label) in LOGOUTS {
            assert!(names[logout(by).0].starts_with(&format!("oidc_gate_logouts_total.outcome.{label}.")));
        }
        for (outcome, label) in LOG_READS {
            assert!(
                names[log_read(outcome).0]
                    .starts_with(&format!("oidc_gate_log_reads_total.outcome.{label}."))
            );
        }
        let unwritten = &names[session_use_unwritten().0];
        assert_eq!(unwritten, "oidc_gate_session_use_total.outcome.unwritten.reason.none");
        assert_eq!(session_use_unwritten().0 + 1, names.len());
    }
}
