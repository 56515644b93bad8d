//! Bugs that are planted on purpose: each is found by the rule that it breaks, within a bounded number of seeds, and the
//! seed that finds it replays.

use oidc_gate_sim::ledger::Rule;
use oidc_gate_sim::plan::Plan;
use oidc_gate_sim::runner::{self, Failure};
use oidc_gate_sim::sabotage::Sabotage;
use oidc_gate_sim::trace::Detail;

fn found(sabotage: Sabotage, within: u64) -> Failure {
    let report = runner::run_many(0, within, Some(sabotage), 1, &|_| {});
    let [failure] = report.failures.as_slice() else {
        panic!("{sabotage:?} was not found in {within} seeds; {} scripts were changed", report.tally.sabotaged)
    };
    assert!(failure.replayed, "{failure}");
    assert!(!failure.lines.is_empty(), "its way can be read");
    failure.clone()
}

#[test]
fn without_the_lease_two_workers_refresh_one_session_at_once() {
    let failure = found(Sabotage::GrantEveryLease, 300);
    assert!(matches!(failure.violation.rule, Rule::OneAtATime | Rule::SpentOnce), "{failure}");
}

#[test]
fn without_the_version_check_a_refresh_token_is_spent_twice() {
    let failure = found(Sabotage::IgnoreVersion, 300);
    assert!(matches!(failure.violation.rule, Rule::SpentOnce | Rule::OneAtATime), "{failure}");
}

#[test]
fn without_the_fence_a_lease_that_ran_out_gives_away_the_next_one() {
    let failure = found(Sabotage::IgnoreFence, 1500);
    assert_eq!(failure.violation.rule, Rule::OneAtATime, "{failure}");
    // The same world with the fence breaks nothing.
    let intact = Plan { sabotage: None, ..failure.plan };
    let outcome = runner::run_plan(intact, Detail::Hash);
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
}

#[test]
fn without_the_log_of_endings_a_session_outlives_its_end_on_another_envoy() {
    assert_eq!(found(Sabotage::HideRevocations, 300).violation.rule, Rule::DeadStaysDead);
}

#[test]
fn without_what_workers_tell_each_other_a_session_outlives_its_end_on_another_worker() {
    assert_eq!(found(Sabotage::HideEndings, 300).violation.rule, Rule::DeadStaysDead);
}

#[test]
fn without_taking_the_code_it_is_spent_twice() {
    assert_eq!(found(Sabotage::GrantEveryCode, 300).violation.rule, Rule::CodeOnce);
}

#[test]
fn without_checking_signatures_somebody_gets_in_as_anybody() {
    let rule = found(Sabotage::AcceptEverySignature, 300).violation.rule;
    assert!(matches!(rule, Rule::PermitOfItsOwn | Rule::NobodyThrownOut), "{rule:?}");
}
