//! Bugs that are planted on purpose: each is found by the rule that it breaks, within a bounded number of seeds, and
//! the seed that finds it replays.

use oidc_gate_sim::ledger::Rule;
use oidc_gate_sim::plan::Plan;
use oidc_gate_sim::runner::{self, Failure};
use oidc_gate_sim::sabotage::Sabotage;
use oidc_gate_sim::trace::Detail;

/// The first seed in which the bug breaks one of these rules. It may also break others.
fn found(sabotage: Sabotage, within: u64, rules: &[Rule]) -> Failure {
    let mut first = 0;
    let failure = loop {
        assert!(first < within, "{sabotage:?} broke none of {rules:?} in {within} seeds");
        let report = runner::run_many(first, within - first, Some(sabotage), 1, &|_| {});
        let found = report.failures.into_iter().next().unwrap_or_else(|| {
            panic!(
                "{sabotage:?} was not found in {within} seeds; {} answers were changed",
                report.tally.sabotaged
            )
        });
        if rules.contains(&found.violation.rule) {
            break found;
        }
        first = found.seed + 1;
    };
    assert!(failure.replayed, "{failure}");
    assert!(!failure.lines.is_empty(), "its way can be read");
    failure
}

#[test]
fn without_the_lease_two_workers_refresh_one_session_at_once() {
    found(Sabotage::GrantEveryLease, 300, &[Rule::OneAtATime]);
}

#[test]
fn without_the_version_check_a_refresh_token_is_spent_twice() {
    found(Sabotage::IgnoreVersion, 300, &[Rule::SpentOnce]);
}

#[test]
fn without_the_fence_a_lease_that_ran_out_gives_away_the_next_one() {
    let failure = found(Sabotage::IgnoreFence, 1000, &[Rule::OneAtATime]);
    // With the fence, the same world breaks no rule.
    let intact = Plan { sabotage: None, ..failure.plan };
    let outcome = runner::run_plan(intact, Detail::Hash);
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
}

#[test]
fn without_the_log_of_endings_a_session_outlives_its_end_on_another_envoy() {
    found(Sabotage::HideRevocations, 300, &[Rule::DeadStaysDead]);
}

#[test]
fn without_what_workers_tell_each_other_a_session_outlives_its_end_on_another_worker() {
    found(Sabotage::HideEndings, 300, &[Rule::DeadStaysDead]);
}

#[test]
fn without_taking_the_code_it_is_spent_twice() {
    found(Sabotage::GrantEveryCode, 300, &[Rule::CodeOnce]);
}

#[test]
fn without_checking_signatures_somebody_gets_in_as_anybody() {
    found(Sabotage::AcceptEverySignature, 300, &[Rule::PermitOfItsOwn]);
}

#[test]
fn without_telling_busy_from_gone_concurrency_alone_signs_somebody_out() {
    found(Sabotage::TakeBusyForGone, 1000, &[Rule::NobodyThrownOut]);
}

#[test]
fn without_an_end_to_leases_a_crash_locks_a_session_for_ever() {
    found(Sabotage::KeepLeasesForEver, 1000, &[Rule::Settles]);
}

#[test]
fn without_taking_headers_out_of_requests_the_application_sees_a_credential() {
    found(Sabotage::KeepClientHeaders, 300, &[Rule::CleanUpstream]);
}

#[test]
fn with_what_is_sent_to_others_in_the_log_a_secret_is_found_there() {
    found(Sabotage::LogCallouts, 300, &[Rule::NoSecretsInLogs]);
}

#[test]
fn without_thinking_of_an_answer_that_does_not_come_a_worker_panics() {
    found(Sabotage::PanicOnTrouble, 300, &[Rule::NoPanic]);
}

#[test]
fn f904_without_writing_that_a_session_is_used_somebody_who_works_is_signed_out() {
    found(Sabotage::NeverWriteUse, 300, &[Rule::NobodyThrownOut]);
}

#[test]
fn f904_with_taking_for_idle_whose_use_redis_did_not_take_somebody_who_works_is_signed_out() {
    found(Sabotage::TakeUnwrittenForIdle, 1000, &[Rule::NobodyThrownOut]);
}

#[test]
fn f1001_with_a_position_ahead_of_the_clock_a_session_outlives_its_end_on_another_envoy() {
    found(Sabotage::ReadAhead, 1000, &[Rule::DeadStaysDead]);
}

#[test]
fn f1003_with_a_message_noted_before_it_is_carried_out_its_second_delivery_ends_nothing() {
    found(Sabotage::NoteMessagesFirst, 1000, &[Rule::DeadStaysDead]);
}

#[test]
fn f901_without_looking_at_signatures_redis_is_asked_about_forged_tickets() {
    found(Sabotage::AskAboutForgedTickets, 300, &[Rule::StrangersCostLittle]);
}

#[test]
fn f902_without_a_limit_of_callbacks_strangers_have_the_provider_asked_without_end() {
    found(Sabotage::IgnoreCallbackLimit, 300, &[Rule::StrangersCostLittle]);
}

#[test]
fn without_waiting_for_its_own_callback_a_task_acts_on_another_stream() {
    found(Sabotage::PollOtherStreams, 300, &[Rule::OwnContext]);
}

/// A bug planted in a script must change its text. Otherwise nothing is planted.
#[test]
fn every_change_to_a_script_fits_one() {
    use oidc_gate_core::{revocation::stream, session::script};
    let scripts = [
        stream::READ,
        stream::WRITE,
        script::CREATE,
        script::TOUCH,
        script::END_UNUSED,
        script::ACQUIRE,
        script::RENEW,
        script::COMMIT,
        script::RELEASE_AFTER,
        script::END,
    ];
    for sabotage in Sabotage::ALL {
        for (from, _) in sabotage.scripts() {
            let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                scripts.iter().any(|script| normal(script).contains(&normal(&from))),
                "{sabotage:?} changes nothing: {from:?}"
            );
        }
    }
}
