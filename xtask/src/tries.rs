//! Work that asks others over the network, and is worth another try when it fails.

use anyhow::Result;

use crate::progress::Task;
use crate::signals;

/// How often something is tried.
const TRIES: u32 = 3;

/// The first result that is no error, of three tries at most; what each of them failed at is shown.
///
/// # Errors
/// The last try's, or that of the one that the user interrupted.
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

    /// What came of something that fails so many times first, and how often it was tried.
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
