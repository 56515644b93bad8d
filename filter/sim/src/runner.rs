//! Runs many seeds on all cores, and runs a failed seed again with text.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::executor::Moment;
use crate::ledger::{Rule, Violation};
use crate::plan::Plan;
use crate::sabotage::Sabotage;
use crate::trace::Detail;
use crate::world::{Outcome, Tally, World};

/// A seed that broke a rule, and its second run with text.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Its plan.
    pub plan: Plan,
    /// The broken rule.
    pub violation: Violation,
    /// The last events before it.
    pub lines: Vec<String>,
    /// Whether the second run had the same hash.
    pub replayed: bool,
}

/// The results of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many seeds ran.
    pub seeds: u64,
    /// The sum of all event counts.
    pub tally: Tally,
    /// The failed seeds in order, at most as many as requested.
    pub failures: Vec<Failure>,
    /// Seeds and their hashes, in the order of the seeds.
    pub hashes: Vec<(u64, u64)>,
}

/// Runs one seed.
pub fn run(seed: u64, sabotage: Option<Sabotage>, detail: Detail) -> Outcome {
    run_plan(Plan::from_seed(seed, sabotage), detail)
}

/// Runs one plan. A panic counts as a broken rule.
pub fn run_plan(plan: Plan, detail: Detail) -> Outcome {
    let world = World::new(plan, detail);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            let violation = Violation { rule: Rule::NoPanic, at: Moment::ZERO, what: text.to_owned() };
            Outcome {
                violation: Some(violation),
                hash: world.trace.hash(),
                lines: world.trace.lines(),
                tally: Tally::default(),
            }
        }
    }
}

/// Runs `count` seeds starting at `first` on all cores, until `most` of them have failed. `progress` receives the
/// number of finished seeds.
///
/// # Panics
/// If a thread cannot be joined.
pub fn run_many(
    first: u64,
    count: u64,
    sabotage: Option<Sabotage>,
    most: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Report {
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let found: Mutex<Found> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let outcome = run(first + number, sabotage, Detail::Hash);
                    let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    found.tally += outcome.tally;
                    found.hashes.push((first + number, outcome.hash));
                    if outcome.violation.is_some() {
                        found.failed.push((first + number, outcome));
                        if found.failed.len() >= most {
                            enough.store(true, Ordering::Relaxed);
                        }
                    }
                    drop(found);
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let Found { tally, mut failed, mut hashes } =
        found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    hashes.sort_unstable();
    failed.sort_by_key(|(seed, _)| *seed);
    failed.truncate(most);
    let failures = failed.into_iter().map(|(seed, outcome)| explain(seed, sabotage, &outcome)).collect();
    Report { seeds: done.into_inner(), tally, failures, hashes }
}

/// The results of all threads so far.
#[derive(Default)]
struct Found {
    tally: Tally,
    failed: Vec<(u64, Outcome)>,
    hashes: Vec<(u64, u64)>,
}

/// Runs a failed seed again with text.
fn explain(seed: u64, sabotage: Option<Sabotage>, first: &Outcome) -> Failure {
    let again = run(seed, sabotage, Detail::Text);
    let violation = first.violation.clone().or(again.violation.clone());
    Failure {
        seed,
        plan: Plan::from_seed(seed, sabotage),
        violation: violation.unwrap_or(Violation {
            rule: Rule::NoPanic,
            at: Moment::ZERO,
            what: "nothing was broken".to_owned(),
        }),
        replayed: again.hash == first.hash,
        lines: again.lines,
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.forwarded += other.forwarded;
        self.answered += other.answered;
        self.logins += other.logins;
        self.refreshes += other.refreshes;
        self.sign_outs += other.sign_outs;
        self.announcements += other.announcements;
        self.commands += other.commands;
        self.sabotaged += other.sabotaged;
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n{:#?}\n", self.plan)?;
        if !self.replayed {
            writeln!(f, "THIS SEED DOES NOT REPLAY: the second run took another way than the first.")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        let sabotage = self.plan.sabotage.map(|what| format!(" --sabotage {what:?}")).unwrap_or_default();
        write!(f, "again: cargo run -p oidc-gate-sim -- --seed {} --seeds 1{sabotage}", self.seed)
    }
}
