//! `cargo xtask test`: the tiers of tests, one summary.

mod compose;
mod counts;
mod e2e;
mod files;
mod mesh;
mod python;
mod runs;
mod stack;
mod unit;

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use self::counts::Counts;
use self::runs::Runs;
use crate::install;
use crate::progress::Progress;
use crate::signals;
use crate::stack::show::plain_table;
use crate::workspace::Workspace;

/// What a tier tests, and with which programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Linters on scripts, printed commands, Dockerfiles and manifests, and a search for secrets.
    Files,
    /// Pure code, natively. If named, the core also as Wasm under node.
    Unit,
    /// Real Envoy and Redis, with a provider that misbehaves on request.
    E2e,
    /// The Python package for MLflow, with a real MLflow.
    Python,
    /// Real Keycloak, MLflow and Chromium.
    Stack,
    /// docker-compose.yml in a real Docker engine.
    Compose,
    /// The end-to-end tests with the older Envoys that the filter supports. Runs only if named.
    Envoys,
    /// The projects' own validators on the manifests for Istio and Envoy Gateway. Runs only if named, because building
    /// the validators takes long.
    Mesh,
}

/// The result of a tier.
struct Outcome {
    tier: Tier,
    runs: Runs,
    /// Why the tier failed although no test did.
    problem: Option<String>,
    took: Duration,
}

/// Runs tiers one after another, all of them even if one fails. Prints a summary whose last line is
/// `N passed, N failed`.
///
/// # Errors
/// If a test failed, or a tier did not finish or ran no test at all.
pub fn run(workspace: &Workspace, tiers: &[Tier], only: &[String], progress: &Progress) -> Result<()> {
    ensure!(only.is_empty() || !tiers.is_empty(), "--only needs the tiers that have these tests");
    let all = [
        Tier::Files,
        Tier::Unit,
        Tier::E2e,
        Tier::Python,
        Tier::Stack,
        Tier::Compose,
        Tier::Envoys,
        Tier::Mesh,
    ];
    // If it was named explicitly, it fails instead.
    let not_run = tiers.is_empty().then(compose::obstacle).flatten();
    let chosen = all
        .into_iter()
        .filter(|tier| tiers.is_empty() || tiers.contains(tier))
        .filter(|tier| *tier != Tier::Compose || not_run.is_none())
        .filter(|tier| ![Tier::Envoys, Tier::Mesh].contains(tier) || tiers.contains(tier));
    let chosen: Vec<_> = chosen.collect();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let mut ahead = FetchAhead::start(scope, &chosen, workspace, progress);
        chosen
            .iter()
            .take_while(|_| !signals::interrupted())
            .map(|tier| {
                if FetchAhead::FOR.contains(tier) {
                    ahead.wait();
                }
                // Slow tests run only in tiers that are named.
                tier.run(workspace, only, !tiers.is_empty(), progress)
            })
            .collect()
    });
    let mut table = plain_table(["tier", "passed", "failed", "skipped", "seconds"]);
    let mut row = |name: String, counts: Counts, took: Duration| {
        let numbers = [counts.passed, counts.failed, counts.skipped, took.as_secs()];
        table.add_row([name].into_iter().chain(numbers.map(|number| number.to_string())));
    };
    let mut sum = Counts::default();
    for Outcome { tier, runs, problem, took } in &outcomes {
        row(tier.name().to_owned(), runs.counts(), *took);
        let in_parts: Duration = runs.parts().iter().map(|part| part.took).sum();
        if in_parts > Duration::ZERO {
            // The time to install, build and start what the tests need.
            row("  preparation".to_owned(), Counts::default(), took.saturating_sub(in_parts));
        }
        // With `--only`, most programs have no test to run.
        for part in runs.parts().iter().filter(|part| part.counts.ran() > 0 || part.took.as_secs() > 0) {
            row(format!("  {}", part.name), part.counts, part.took);
        }
        sum += runs.counts();
        if let Some(problem) = problem {
            println!("\n{}: {problem}", tier.name());
        }
    }
    let broken = outcomes.iter().filter(|outcome| outcome.problem.is_some()).count() as u64;
    if broken > 0 && sum.failed == 0 {
        // The last line alone must not look like a success.
        sum.failed = broken;
    }
    println!("\n{table}");
    if let Some(obstacle) = not_run {
        println!("compose: NOT RUN, docker-compose.yml is untested: {obstacle}");
    }
    println!("{sum}");
    signals::check()?;
    if sum.failed > 0 || broken > 0 {
        // Everything has been printed, and the summary must stay the last line.
        std::process::exit(1);
    }
    Ok(())
}

/// Downloads the large files of later tiers while earlier ones compile. Most of that time is spent waiting for servers.
struct FetchAhead<'scope>(Option<ScopedJoinHandle<'scope, ()>>);

impl<'scope> FetchAhead<'scope> {
    /// The tiers that need them.
    const FOR: [Tier; 3] = [Tier::Python, Tier::Stack, Tier::Compose];

    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        chosen: &[Tier],
        workspace: &'env Workspace,
        progress: &'env Progress,
    ) -> Self {
        let needed = chosen.iter().position(|tier| Self::FOR.contains(tier)).is_some_and(|first| first > 0);
        Self(needed.then(|| {
            scope.spawn(|| {
                // The tier that needs it tries again and reports the error.
                let _ = install::keycloak::ensure(workspace, progress);
                let _ = install::mlflow::ensure(workspace, progress);
            })
        }))
    }

    /// Waits until they are complete, because two installations of the same program must not overlap.
    fn wait(&mut self) {
        if let Some(running) = self.0.take() {
            let _ = running.join();
        }
    }
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Unit => "unit",
            Self::E2e => "e2e",
            Self::Python => "python",
            Self::Stack => "stack",
            Self::Compose => "compose",
            Self::Envoys => "envoys",
            Self::Mesh => "mesh",
        }
    }

    fn run(self, workspace: &Workspace, only: &[String], slow: bool, progress: &Progress) -> Outcome {
        println!("\n{}", console::style(format!("── {} ──", self.name())).bold());
        let started = Instant::now();
        let mut runs = Runs::new(only, slow);
        let result = match self {
            Self::Files => files::run(workspace, progress, &mut runs),
            Self::Unit => unit::run(workspace, progress, &mut runs),
            Self::E2e => e2e::run(workspace, progress, &mut runs),
            Self::Python => python::run(workspace, progress, &mut runs),
            Self::Stack => stack::run(workspace, progress, &mut runs),
            Self::Compose => compose::run(workspace, progress, &mut runs),
            Self::Envoys => e2e::run_older(workspace, progress, &mut runs),
            Self::Mesh => mesh::run(workspace, progress, &mut runs),
        };
        let problem = result.map_err(|error| format!("{error:#}")).err().or_else(|| runs.problem());
        Outcome { tier: self, runs, problem, took: started.elapsed() }
    }
}

/// The integration tests of the tests package whose names are wanted.
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
