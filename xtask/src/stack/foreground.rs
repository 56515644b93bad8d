//! `up` without `--detach`: watches the parts until the user stops.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::daemon::State;
use super::instance::Instance;
use super::part::Part;
use crate::progress::Progress;
use crate::signals;

const POLL: Duration = Duration::from_millis(500);

/// Shows the state of the parts until Ctrl-C, then stops them all.
///
/// # Errors
/// If a part had crashed and is still stopped. Its log was shown when it happened.
pub fn watch(instance: &Instance, progress: &Progress) -> Result<()> {
    let started = Instant::now();
    let parts = Part::of(instance.plan.mode);
    let mut before: BTreeMap<&str, State> = BTreeMap::new();
    let line = progress.task("running");
    while !signals::interrupted() {
        let states = parts
            .iter()
            .map(|part| (part.name(), instance.daemon(*part).state()))
            .collect::<BTreeMap<_, _>>();
        for part in parts {
            let (was, is) = (before.get(part.name()), states[part.name()]);
            match is {
                State::Crashed(_) if was != Some(&is) => {
                    progress.note(format!(
                        "{} ended by itself{}",
                        part.name(),
                        instance.daemon(*part).tail()
                    ));
                    progress.note("  `cargo xtask up --detach` in another terminal starts it again");
                }
                State::Stopped if was.is_some_and(|was| *was != is) => {
                    progress.note(format!("{} was stopped", part.name()));
                }
                State::Running(pid) if was.is_some_and(|was| *was != is) => {
                    progress.note(format!("{} is running again, process {pid}", part.name()));
                }
                _ => {}
            }
        }
        if !states.is_empty() && states.values().all(|state| *state == State::Stopped) {
            line.finish("stopped by another command");
            return Ok(());
        }
        line.detail(&describe(parts, &states, started.elapsed()));
        before = states;
        std::thread::sleep(POLL);
    }
    line.finish("Ctrl-C");
    let task = progress.task("stopping");
    super::down(instance.folder())?;
    task.finish("");
    let crashed: Vec<_> = before
        .iter()
        .filter(|(_, state)| matches!(state, State::Crashed(_)))
        .map(|(name, _)| *name)
        .collect();
    if !crashed.is_empty() {
        bail!("{} had crashed", crashed.join(" and "));
    }
    Ok(())
}

fn describe(parts: &[Part], states: &BTreeMap<&str, State>, uptime: Duration) -> String {
    let marks = parts.iter().map(|part| {
        let mark = match states[part.name()] {
            State::Running(_) => "✓",
            State::Crashed(_) => "✗",
            State::Stopped => "-",
        };
        format!("{mark} {}", part.name())
    });
    format!(
        "{}   {} min   Ctrl-C stops everything",
        marks.collect::<Vec<_>>().join("  "),
        uptime.as_secs() / 60
    )
}
