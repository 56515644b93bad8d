//! Many worlds, none of which may break a rule; and one world twice, which must be the same both times.

use oidc_gate_sim::runner;
use oidc_gate_sim::trace::Detail;

/// Number of seeds in a test run. `OIDC_GATE_SIM_SEEDS` changes it; `cargo xtask sim` runs more.
const SEEDS: u64 = 2000;

#[test]
fn in_thousands_of_worlds_no_rule_is_broken() {
    let seeds = std::env::var("OIDC_GATE_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let report = runner::run_many(0, seeds, None, 1, &|_| {});
    if let Some(failure) = report.failures.first() {
        let shown = failure.lines.len().saturating_sub(300);
        let mut failure = failure.clone();
        failure.lines.drain(..shown);
        panic!("{failure}");
    }
    assert_eq!(report.seeds, seeds);
    // Worlds in which nothing happens break no rule either, so check that enough happened.
    let tally = report.tally;
    for (what, count, per_seed) in [
        ("requests forwarded", tally.forwarded, 50),
        ("requests answered by the gate", tally.answered, 20),
        ("logins", tally.logins, 3),
        ("refreshes", tally.refreshes, 1),
    ] {
        assert!(count >= seeds * per_seed, "only {count} {what} in {seeds} seeds");
    }
    for (what, count) in [("sign-outs", tally.sign_outs), ("announced logouts", tally.announcements)] {
        assert!(count >= seeds / 2, "only {count} {what} in {seeds} seeds");
    }
}

#[test]
fn a_seed_takes_the_same_way_every_time() {
    let mut hashes = Vec::new();
    for seed in 0..60 {
        let first = runner::run(seed, None, Detail::Hash);
        let again = runner::run(seed, None, Detail::Text);
        assert_eq!(first.hash, again.hash, "seed {seed}");
        assert_eq!(first.tally, again.tally, "seed {seed}");
        assert!(first.lines.is_empty() && !again.lines.is_empty());
        hashes.push(first.hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 60, "another seed is another way");
}
