//! Repeats network operations that may succeed at another try.

use anyhow::Result;

use crate::progress::Task;
use crate::signals;

/// How often an operation is tried.
const TRIES: u32 = 3;

/// Returns the first result of at most three tries. The errors of earlier tries are shown.
///
/// # Errors
/// The error of the last try, or of the one that the user interrupted.
pub fn repeat<T>(task: &Task, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for next in 2..=TRIES {
        match attempt() {
            Err(error) if !signals::interrupted() => {
                task.note(&format!("{error:#}\ntry {next} of {TRIES}"));
            }
            outcome => return outcome,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::progress::Progress;

    /// The result of an operation that fails this many times first, and the number of tries.
    fn tried(failures: u32) -> (Result<u32>, u32) {
        let mut count = 0;
        let outcome = repeat(&Progress::new().task("test"), || {
            count += 1;
            if count <= failures {
                bail!("failure {count}");
            }
            Ok(count)
        });
        (outcome, count)
    }

    #[test]
    fn what_works_is_done_once_and_what_fails_three_times_at_most() {
        for failures in 0..3 {
            let (outcome, count) = tried(failures);
            assert_eq!((outcome.unwrap(), count), (failures + 1, failures + 1));
        }
        let (outcome, count) = tried(3);
        assert_eq!((outcome.unwrap_err().to_string().as_str(), count), ("failure 3", 3));
    }
}
