//! The test runs of one tier. Their output is passed on, counted and timed for each part.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::counts::Counts;
use crate::command::{describe, each_line};
use crate::signals;

/// One test program, or the work before all of them.
#[derive(Debug)]
pub struct Part {
    pub name: String,
    pub counts: Counts,
    pub took: Duration,
}

/// The test runs of one tier.
#[derive(Default)]
pub struct Runs {
    /// Run only tests whose name contains one of these. Empty means all.
    only: Vec<String>,
    /// Whether slow tests run too.
    slow: bool,
    /// The entries of `only` that matched a test.
    found: BTreeSet<String>,
    parts: Vec<Part>,
    /// Checks that are not cargo tests.
    checks: Counts,
    problems: Vec<String>,
}

impl Runs {
    pub fn new(only: &[String], slow: bool) -> Self {
        Self { only: only.to_vec(), slow, ..Self::default() }
    }

    /// Whether all tests run.
    pub fn is_whole(&self) -> bool {
        self.only.is_empty()
    }

    /// Whether slow tests run too.
    pub fn is_thorough(&self) -> bool {
        self.slow
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The counts of all parts together.
    pub fn counts(&self) -> Counts {
        self.parts.iter().fold(self.checks, |mut sum, part| {
            sum += part.counts;
            sum
        })
    }

    /// Builds and runs tests, passes their output on, and counts and times each test program. A failed test is not an
    /// error of this call, so that the tier continues. `with` describes what is special about this run. `runner` is the
    /// command that runs the test programs.
    ///
    /// # Errors
    /// If cargo cannot be started.
    pub fn cargo_test(&mut self, command: &Command, with: &str, runner: &[&str]) -> Result<()> {
        signals::check()?;
        let started = Instant::now();
        let status = copy(command, &["--no-run"]).stdin(Stdio::null()).status()?;
        self.part("build", with, started);
        if !status.success() {
            self.problems.push(format!("`{}` does not build ({status})", describe(command)));
            return Ok(());
        }
        let only: Vec<_> = self.only.iter().map(String::as_str).collect();
        let slow: &[_] = if self.slow { &["--include-ignored"] } else { &[] };
        self.run(&mut copy(command, &[&["--"], runner, slow, &only].concat()), with)
    }

    /// Runs the tests of a Python package, passes their output on and counts them. `command` is pytest with `-v`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn pytest(&mut self, command: &Command, with: &str) -> Result<()> {
        signals::check()?;
        let words = self.only.join(" or ");
        let mut more: Vec<&str> = Vec::new();
        if self.slow {
            // It overrides the package's own choice, which leaves out what is slow.
            more.extend(["-m", ""]);
        }
        if !self.is_whole() {
            more.extend(["-k", &words]);
        }
        let mut command = copy(command, &more);
        let shown = describe(&command);
        println!("$ {shown}");
        let started = Instant::now();
        let mut counts = None;
        let status = each_line(&mut command, |text| {
            print!("{text}");
            if let Some((name, _)) = text.split_once(".py::") {
                let test = text.get(name.len()..).unwrap_or_default();
                self.found.extend(self.only.iter().filter(|only| test.contains(only.as_str())).cloned());
            }
            counts = Counts::of_pytest_line(text).or(counts);
        })?;
        self.part("pytest", with, started);
        let counts = counts.unwrap_or_default();
        if let Some(part) = self.parts.last_mut() {
            part.counts = counts;
        }
        // With `--only`, no test may have the name: pytest then ends with 5.
        if counts.ran() == 0 && self.is_whole() {
            self.problems.push(format!("`{shown}` ran no test ({status})"));
        } else if !status.success() && counts.failed == 0 && counts.ran() > 0 {
            self.problems.push(format!("`{shown}` ended with {status}, though no test failed"));
        }
        Ok(())
    }

    fn run(&mut self, command: &mut Command, with: &str) -> Result<()> {
        signals::check()?;
        let shown = describe(command);
        println!("$ {shown}");
        let before = self.counts();
        let mut started = Instant::now();
        let mut program = None;
        // On one stream cargo says which program it starts. On the other one the program says how it ended.
        let status = each_line(command, |text| {
            print!("{text}");
            if let Some(next) = program_of(text) {
                program = Some(next);
                started = Instant::now();
            }
            if let Some(name) = text.strip_prefix("test ").and_then(|rest| rest.split(" ... ").next()) {
                self.found.extend(self.only.iter().filter(|only| name.contains(only.as_str())).cloned());
            }
            if let Some(counts) = Counts::of_result_line(text) {
                self.part(program.as_deref().unwrap_or("tests"), with, started);
                if let Some(part) = self.parts.last_mut() {
                    part.counts = counts;
                }
            }
        })?;
        let (ran, failed) = (self.counts().ran() - before.ran(), self.counts().failed - before.failed);
        if ran == 0 && (self.is_whole() || !status.success()) {
            self.problems.push(format!("`{shown}` ran no test ({status})"));
        } else if !status.success() && failed == 0 {
            self.problems.push(format!("`{shown}` ended with {status}, though no test failed"));
        }
        Ok(())
    }

    fn part(&mut self, name: &str, with: &str, started: Instant) {
        let name = if with.is_empty() { name.to_owned() } else { format!("{name}, {with}") };
        self.parts.push(Part { name, counts: Counts::default(), took: started.elapsed() });
    }

    /// Runs a check that is not a cargo test, and counts it as one.
    pub fn check(&mut self, what: &str, test: impl FnOnce() -> Result<()>) {
        let found: Vec<_> = self.only.iter().filter(|only| what.contains(only.as_str())).cloned().collect();
        if found.is_empty() && !self.is_whole() {
            return;
        }
        self.found.extend(found);
        let started = Instant::now();
        let result = test();
        let seconds = started.elapsed().as_secs();
        match result {
            Ok(()) => {
                println!("{what} ... ok ({seconds} s)");
                self.checks.passed += 1;
            }
            Err(error) => {
                println!("{what} ... FAILED ({seconds} s)\n{error:#}");
                self.checks.failed += 1;
            }
        }
    }

    /// Why the tier failed although no test did.
    pub fn problem(&self) -> Option<String> {
        let missing = self.only.iter().filter(|only| !self.found.contains(*only));
        let missing = missing.map(|only| format!("no test has {only:?} in its name"));
        let problems: Vec<_> = self.problems.iter().cloned().chain(missing).collect();
        if !problems.is_empty() {
            return Some(problems.join("\n"));
        }
        (self.counts().ran() == 0).then(|| "no test ran".to_owned())
    }
}

/// The same command with more arguments.
fn copy(command: &Command, more: &[&str]) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args().map(OsString::from)).args(more);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        copy.current_dir(folder);
    }
    copy
}

/// The test program in a line of cargo: `Running tests/e2e/main.rs (target/debug/deps/e2e-0a1b2c)`,
/// `Doc-tests oidc_gate_core`.
fn program_of(line: &str) -> Option<String> {
    let line = console::strip_ansi_codes(line);
    if let Some(library) = line.trim().strip_prefix("Doc-tests ") {
        return Some(format!("{}, examples", library.replace('_', "-")));
    }
    let path = line.trim().strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once('(')?.1;
    let (name, _hash) = path.rsplit('/').next()?.rsplit_once('-')?;
    Some(name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_of(script: &str, only: &[&str]) -> Runs {
        let only: Vec<_> = only.iter().map(|only| (*only).to_owned()).collect();
        let mut runs = Runs::new(&only, false);
        runs.run(Command::new("sh").args(["-c", script]), "").unwrap();
        runs
    }

    const TWO: &str = "echo '     Running unittests src/lib.rs (target/debug/deps/oidc_gate_core-1a)' >&2; \
         echo 'test a::cb13_one ... ok'; \
         echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'; \
         echo '     Running tests/e2e/main.rs (target/debug/deps/e2e-2b)' >&2; \
         echo 'test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'; exit 101";

    #[test]
    fn results_of_several_test_programs_add_up_and_each_is_a_part() {
        let runs = runs_of(TWO, &[]);
        assert_eq!(runs.counts(), Counts { passed: 5, failed: 1, skipped: 1 });
        assert_eq!(runs.problem(), None, "a failed test is counted, and needs no other word");
        let parts: Vec<_> =
            runs.parts().iter().map(|part| (part.name.as_str(), part.counts.passed)).collect();
        assert_eq!(parts, [("oidc-gate-core", 2), ("e2e", 3)]);
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
            let problem = runs_of(script, &[]).problem();
            assert!(
                problem.as_ref().is_some_and(|problem| problem.contains(expected)),
                "{script}: {problem:?}"
            );
        }
        assert_eq!(Runs::default().problem().as_deref(), Some("no test ran"));
    }

    #[test]
    fn a_name_that_no_test_has_is_a_problem() {
        let one = "echo 'test a::cb13_one ... ok'; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";
        assert_eq!(runs_of(one, &["cb13"]).problem(), None);
        let problem = runs_of(one, &["cb13", "cb31"]).problem().unwrap();
        assert!(problem.contains("cb31") && !problem.contains("cb13"), "{problem}");
        assert!(runs_of("exit 0", &["cb13"]).problem().is_some());
        // One of several programs may have no matching test.
        let none = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out'";
        assert_eq!(runs_of(&format!("{none}; {one}"), &["cb13"]).problem(), None);
    }

    #[test]
    fn checks_are_chosen_by_their_words() {
        let mut runs = Runs::new(&["hadolint".to_owned()], false);
        runs.check("shellcheck finds nothing", || anyhow::bail!("it is not asked"));
        assert!(runs.problem().is_some());
        runs.check("hadolint finds nothing", || Ok(()));
        assert_eq!((runs.problem(), runs.counts().passed), (None, 1));
    }

    #[test]
    fn slow_tests_run_only_when_they_are_asked_for() {
        // Replaces cargo. It fails if slow tests are requested.
        let script = "case \"$*\" in *--include-ignored*) exit 1;; *--no-run*) ;; \
             *) echo 'test result: ok. 1 passed; 0 failed; 1 ignored';; esac";
        for (slow, passed) in [(false, 1), (true, 0)] {
            let mut runs = Runs::new(&[], slow);
            runs.cargo_test(Command::new("sh").args(["-c", script, "cargo"]), "", &[]).unwrap();
            assert_eq!(runs.counts().passed, passed);
        }
    }

    #[test]
    fn what_does_not_build_is_a_problem() {
        let mut runs = Runs::default();
        runs.cargo_test(Command::new("sh").args(["-c", "exit 101"]), "", &[]).unwrap();
        assert!(runs.problem().is_some_and(|problem| problem.contains("does not build")));
    }
}
