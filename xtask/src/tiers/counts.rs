//! How many tests passed, according to the last lines of the test runners.

use std::fmt;
use std::ops::AddAssign;

/// The tests of one or more runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were ignored.
    pub skipped: u64,
}

impl Counts {
    /// Parses the last line of libtest or of wasm-bindgen's runner, which have the same form:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 filtered out; finished in 0.01s`.
    pub fn of_result_line(line: &str) -> Option<Self> {
        let line = console::strip_ansi_codes(line);
        let (_, counted) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for item in counted.split(';') {
            let mut words = item.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let field = match what {
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "ignored" => &mut counts.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
        }
        Some(counts)
    }

    /// Parses the last line of pytest: `=== 2 failed, 3 passed, 1 skipped, 4 deselected in 1.20s ===`. An error outside
    /// of a test counts as a failure.
    pub fn of_pytest_line(line: &str) -> Option<Self> {
        let (counted, seconds) = line.trim().trim_matches('=').trim().rsplit_once(" in ")?;
        let seconds = seconds.split(' ').next()?.strip_suffix('s')?;
        seconds.parse::<f64>().ok()?;
        let mut counts = Self::default();
        for item in counted.split(", ") {
            let (number, what) = item.split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match what {
                "passed" | "xfailed" => counts.passed += number,
                "failed" | "error" | "errors" | "xpassed" => counts.failed += number,
                "skipped" => counts.skipped += number,
                _ => {}
            }
        }
        Some(counts)
    }

    /// How many tests ran.
    pub fn ran(self) -> u64 {
        self.passed + self.failed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(out, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_both_runners_are_read() {
        for (line, passed, failed, skipped) in [
            (
                "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
                5,
                0,
                1,
            ),
            (
                "test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
                0,
                2,
                0,
            ),
            ("test result: ok. 7 passed; 0 failed; 0 ignored; 0 filtered out; finished in 0.02s", 7, 0, 0),
            (
                "test result: \u{1b}[32mok\u{1b}[0m. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
                12,
                0,
                0,
            ),
        ] {
            assert_eq!(Counts::of_result_line(line), Some(Counts { passed, failed, skipped }), "{line}");
        }
    }

    #[test]
    fn the_closing_line_of_pytest_is_read() {
        for (line, passed, failed, skipped) in [
            ("===== 377 passed, 2 skipped, 4 deselected in 120.50s (0:02:00) =====", 377, 0, 2),
            ("= 1 failed, 3 passed, 5 warnings, 2 errors in 0.51s =", 3, 3, 0),
            ("2 passed in 0.01s", 2, 0, 0),
        ] {
            assert_eq!(Counts::of_pytest_line(line), Some(Counts { passed, failed, skipped }), "{line}");
        }
        for line in [
            "",
            "collected 5 items",
            "tests/test_a.py::test_b PASSED [ 50%]",
            "stopped in a moment",
            "1 in 2s",
        ] {
            assert_eq!(Counts::of_pytest_line(line), None, "{line}");
        }
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in [
            "",
            "running 5 tests",
            "test a ... ok",
            "test result",
            "5 passed; 0 failed",
            "test result: ok. x passed",
        ] {
            assert_eq!(Counts::of_result_line(line), None, "{line}");
        }
    }

    #[test]
    fn the_sum_is_printed_in_the_form_that_ci_reads() {
        let mut sum = Counts { passed: 1, failed: 0, skipped: 0 };
        assert_eq!(sum.to_string(), "1 passed, 0 failed");
        sum += Counts { passed: 2, failed: 3, skipped: 4 };
        assert_eq!(sum.to_string(), "3 passed, 3 failed, 4 skipped");
    }
}
