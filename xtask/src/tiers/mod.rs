//! `cargo xtask test`: the tiers of tests, one summary.

mod compose;
mod counts;
mod e2e;
mod files;
mod mesh;
mod stack;
mod unit;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use self::counts::Counts;
use crate::command::describe;
use crate::progress::Progress;
use crate::signals;
use crate::stack::show::plain_table;
use crate::workspace::Workspace;

/// What is tested with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Scripts, printed commands, Dockerfiles and manifests before their linters, and a search for secrets.
    Files,
    /// Pure code: natively, and the core as Wasm under node.
    Unit,
    /// Real Envoy and Redis, with a provider that can be told to misbehave.
    E2e,
    /// Real Keycloak, MLflow and Chromium.
    Stack,
    /// docker-compose.yml in a real Docker engine.
    Compose,
    /// The end-to-end tests with the older Envoys that the filter works with. Only when it is named.
    Envoys,
    /// The manifests of Istio and Envoy Gateway before the projects' own validators. Only when it is named: it builds
    /// these first, which takes long.
    Mesh,
}

/// What came of a tier.
struct Outcome {
    tier: Tier,
    counts: Counts,
    /// Why the tier failed although no test did.
    problem: Option<String>,
    seconds: u64,
}

/// Runs tiers one after the other, all of them even when one fails, and prints a summary whose last line is
/// `N passed, N failed`.
///
/// # Errors
/// When a test failed, or a tier could not be run to its end, or ran no test at all.
pub fn run(workspace: &Workspace, tiers: &[Tier], progress: &Progress) -> Result<()> {
    let all = [Tier::Files, Tier::Unit, Tier::E2e, Tier::Stack, Tier::Compose, Tier::Envoys, Tier::Mesh];
    // Unless it was asked for: then it is a failure that it cannot run.
    let not_run = tiers.is_empty().then(compose::obstacle).flatten();
    let chosen = all
        .into_iter()
        .filter(|tier| tiers.is_empty() || tiers.contains(tier))
        .filter(|tier| *tier != Tier::Compose || not_run.is_none())
        .filter(|tier| ![Tier::Envoys, Tier::Mesh].contains(tier) || tiers.contains(tier));
    let outcomes: Vec<_> =
        chosen.take_while(|_| !signals::interrupted()).map(|tier| tier.run(workspace, progress)).collect();
    let mut table = plain_table(["tier", "passed", "failed", "skipped", "seconds"]);
    let mut sum = Counts::default();
    for Outcome { tier, counts, problem, seconds } in &outcomes {
        let numbers =
            [counts.passed, counts.failed, counts.skipped, *seconds].map(|number| number.to_string());
        table.add_row([tier.name().to_owned()].into_iter().chain(numbers));
        sum += *counts;
        if let Some(problem) = problem {
            println!("\n{}: {problem}", tier.name());
        }
    }
    let broken = outcomes.iter().filter(|outcome| outcome.problem.is_some()).count() as u64;
    if broken > 0 && sum.failed == 0 {
        // Whoever reads only the last line must not take this run for a good one.
        sum.failed = broken;
    }
    println!("\n{table}");
    if let Some(obstacle) = not_run {
        println!("compose: NOT RUN, and nothing is known about docker-compose.yml: {obstacle}");
    }
    println!("{sum}");
    signals::check()?;
    if sum.failed > 0 || broken > 0 {
        // All has been said, and the summary stays the last line.
        std::process::exit(1);
    }
    Ok(())
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Unit => "unit",
            Self::E2e => "e2e",
            Self::Stack => "stack",
            Self::Compose => "compose",
            Self::Envoys => "envoys",
            Self::Mesh => "mesh",
        }
    }

    fn run(self, workspace: &Workspace, progress: &Progress) -> Outcome {
        println!("\n{}", console::style(format!("── {} ──", self.name())).bold());
        let started = Instant::now();
        let mut runs = Runs::default();
        let result = match self {
            Self::Files => files::run(workspace, progress, &mut runs),
            Self::Unit => unit::run(workspace, progress, &mut runs),
            Self::E2e => e2e::run(workspace, progress, &mut runs),
            Self::Stack => stack::run(workspace, progress, &mut runs),
            Self::Compose => compose::run(workspace, progress, &mut runs),
            Self::Envoys => e2e::run_older(workspace, progress, &mut runs),
            Self::Mesh => mesh::run(workspace, progress, &mut runs),
        };
        Outcome {
            tier: self,
            counts: runs.counts,
            problem: result.map_err(|error| format!("{error:#}")).err().or_else(|| runs.problem()),
            seconds: started.elapsed().as_secs(),
        }
    }
}

/// The test runs of one tier, added up.
#[derive(Default)]
struct Runs {
    counts: Counts,
    problems: Vec<String>,
}

impl Runs {
    /// Runs tests, passes their output on and counts them. A failed test is no error of this call: the next run of the
    /// tier goes on.
    fn cargo_test(&mut self, command: &mut Command) -> Result<()> {
        signals::check()?;
        let shown = describe(command);
        println!("$ {shown}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        let mut counts = Counts::default();
        let mut lines = BufReader::new(child.stdout.take().context("the output was not piped")?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            if let Some(result) = Counts::of_result_line(&text) {
                counts += result;
            }
            line.clear();
        }
        let status = child.wait()?;
        self.counts += counts;
        if counts.ran() == 0 {
            self.problems.push(format!("`{shown}` ran no test ({status})"));
        } else if !status.success() && counts.failed == 0 {
            self.problems.push(format!("`{shown}` ended with {status}, though no test failed"));
        }
        Ok(())
    }

    /// Runs a check that is no test of cargo's, and counts it as one.
    fn check(&mut self, what: &str, test: impl FnOnce() -> Result<()>) {
        match test() {
            Ok(()) => {
                println!("{what} ... ok");
                self.counts.passed += 1;
            }
            Err(error) => {
                println!("{what} ... FAILED\n{error:#}");
                self.counts.failed += 1;
            }
        }
    }

    fn problem(&self) -> Option<String> {
        if !self.problems.is_empty() {
            return Some(self.problems.join("\n"));
        }
        (self.counts.ran() == 0).then(|| "no test ran".to_owned())
    }
}

/// The integration tests of the tests package whose name passes.
fn integration_tests(workspace: &Workspace, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let metadata = workspace.metadata()?;
    let package = metadata.packages.iter().find(|package| package.name == crate::workspace::TESTS_PACKAGE);
    let names: Vec<_> = package
        .context("the workspace has no tests package")?
        .targets
        .iter()
        .filter(|target| target.is_test() && wanted(&target.name))
        .map(|target| target.name.clone())
        .collect();
    if names.is_empty() {
        bail!("the package {} has no such tests", crate::workspace::TESTS_PACKAGE);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_of(script: &str) -> Runs {
        let mut runs = Runs::default();
        runs.cargo_test(Command::new("sh").args(["-c", script])).unwrap();
        runs
    }

    #[test]
    fn results_of_several_test_programs_add_up() {
        let runs = runs_of(
            "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'; \
             echo 'test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'; exit 101",
        );
        assert_eq!(runs.counts, Counts { passed: 5, failed: 1, skipped: 1 });
        assert_eq!(runs.problem(), None, "a failed test is counted, and needs no other word");
    }

    #[test]
    fn runs_that_prove_nothing_are_problems() {
        for (script, expected) in [
            ("exit 0", "ran no test"),
            ("echo 'error: could not compile'; exit 101", "ran no test"),
            (
                "echo 'test result: ok. 0 passed; 0 failed; 9 ignored; 0 measured; 0 filtered out'",
                "ran no test",
            ),
            ("echo 'test result: ok. 4 passed; 0 failed; 0 ignored'; exit 101", "no test failed"),
        ] {
            let problem = runs_of(script).problem();
            assert!(
                problem.as_ref().is_some_and(|problem| problem.contains(expected)),
                "{script}: {problem:?}"
            );
        }
        assert_eq!(Runs::default().problem().as_deref(), Some("no test ran"));
    }
}
