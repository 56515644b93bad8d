//! The native stack: Redis, a provider, an application, and Envoy with the filter in front.

pub mod daemon;
mod envoy;
pub mod foreground;
pub mod instance;
mod keycloak;
mod light;
mod mlflow;
pub mod part;
pub mod ports;
pub mod probe;
mod redis;
pub mod secrets;
pub mod serve;
pub mod show;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use self::daemon::State;
use self::instance::{Instance, Mode, Plan};
use self::part::Part;
use crate::install;
use crate::progress::Progress;
use crate::signals;
use crate::workspace::Workspace;

/// How long the gate may take to answer once all of its parts are running.
const GATE_BOUND: Duration = Duration::from_secs(30);

/// Starts a stack: installs what is missing, starts what is not running or out of date, and waits until a request gets
/// through the gate.
///
/// # Errors
/// The errors of all parts together. The log of a failed part is kept, and the other parts continue to run.
pub fn up(workspace: &Workspace, folder: &Path, plan: Plan, progress: &Progress) -> Result<Instance> {
    let _lock = instance::lock(folder)?;
    let mut instance = Instance::create(workspace, folder, plan)?;
    stop_parts_outside(&instance, progress)?;
    stop_leftovers(&instance)?;
    settle_ports(&mut instance)?;
    install_all(workspace, &instance, progress)?;
    // Envoy starts last, because it requests the provider's keys immediately.
    let (last, first) = Part::of(instance.plan.mode).split_last().context("a stack has parts")?;
    let jobs = first.iter().map(|part| || part.bring_up(workspace, &instance, progress));
    in_parallel(jobs)?;
    last.bring_up(workspace, &instance, progress)?;
    wait_for_gate(&instance)?;
    Ok(instance)
}

/// Stops all parts of a stack, in reverse order. Returns how many were running.
pub fn down(folder: &Path) -> Result<usize> {
    let _lock = instance::lock(folder)?;
    let mut ended = 0;
    for part in [Mode::Full, Mode::Light].iter().flat_map(|mode| Part::of(*mode).iter().rev()) {
        let daemon = daemon::Daemon::new(folder, part.name());
        ended += usize::from(matches!(daemon.state(), State::Running(_)));
        daemon.stop()?;
    }
    Ok(ended)
}

/// Removes the data, logs and plan of a stopped stack, but not the secrets.
pub fn remove_data(folder: &Path) -> Result<()> {
    let _lock = instance::lock(folder)?;
    for name in ["data", "run", "logs"] {
        let path = folder.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let plan = folder.join("plan.json");
    if plan.exists() {
        std::fs::remove_file(plan)?;
    }
    Ok(())
}

/// Runs jobs in parallel and reports all failures.
fn in_parallel<T: Send, J: FnOnce() -> Result<T> + Send>(jobs: impl Iterator<Item = J>) -> Result<Vec<T>> {
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = jobs.map(|job| scope.spawn(job)).collect();
        running
            .into_iter()
            .map(|job| job.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
            .collect()
    });
    let (done, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    if !failed.is_empty() {
        let errors: Vec<_> =
            failed.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
        bail!("{}", errors.join("\n\n"));
    }
    Ok(done.into_iter().flatten().collect())
}

fn stop_parts_outside(instance: &Instance, progress: &Progress) -> Result<()> {
    let other = match instance.plan.mode {
        Mode::Full => Mode::Light,
        Mode::Light => Mode::Full,
    };
    for part in Part::of(other).iter().rev().filter(|part| !Part::of(instance.plan.mode).contains(part)) {
        let daemon = instance.daemon(*part);
        if daemon.state() != State::Stopped {
            progress.note(format!("  {} does not belong to this stack: stopping it", part.name()));
            daemon.stop()?;
        }
    }
    Ok(())
}

/// Stops what is left of a crashed part, because its children may still use its ports.
fn stop_leftovers(instance: &Instance) -> Result<()> {
    for part in Part::of(instance.plan.mode) {
        let daemon = instance.daemon(*part);
        if matches!(daemon.state(), State::Crashed(_)) {
            daemon.stop()?;
        }
    }
    Ok(())
}

/// Makes sure that the ports of each part that is about to start are free. A hidden port that is in use is replaced. A
/// port that users know is an error.
fn settle_ports(instance: &mut Instance) -> Result<()> {
    let free = ports::Ports::hidden()?;
    let well_known = [instance.plan.ports.gate, instance.plan.ports.provider];
    let mut taken = Vec::new();
    for part in Part::of(instance.plan.mode) {
        if matches!(instance.daemon(*part).state(), State::Running(_)) {
            continue;
        }
        for port in part.ports(instance).into_iter().filter(|port| !ports::is_free(*port)) {
            if well_known.contains(&port) {
                let holder =
                    ports::holder(port).map_or("another process".to_owned(), |holder| holder.to_string());
                taken.push(format!("port {port} of {} is in use by {holder}", part.name()));
            } else {
                instance.plan.ports.replace_hidden(port, &free);
            }
        }
    }
    if !taken.is_empty() {
        bail!("{}\nStop that process, or the stack that it belongs to, and run this again", taken.join("\n"));
    }
    instance.save()
}

fn install_all(workspace: &Workspace, instance: &Instance, progress: &Progress) -> Result<()> {
    type Job<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;
    let mut jobs: Vec<Job<'_>> = vec![
        Box::new(|| envoy::adopt(&install::wasm::build(workspace, progress)?, instance)),
        Box::new(|| install::envoy::CURRENT.ensure(workspace, progress).map(drop)),
        Box::new(|| install::apt::REDIS.ensure(progress).map(drop)),
    ];
    if instance.plan.mode == Mode::Full {
        jobs.push(Box::new(|| install::keycloak::ensure(workspace, progress).map(drop)));
        jobs.push(Box::new(|| install::mlflow::ensure(workspace, progress).map(drop)));
    }
    in_parallel(jobs.into_iter())?;
    Ok(())
}

/// Waits until a real request passes from the listener through the filter.
fn wait_for_gate(instance: &Instance) -> Result<()> {
    let started = Instant::now();
    while !probe::is_ok(instance.plan.ports.gate, "/health") {
        signals::check()?;
        if started.elapsed() > GATE_BOUND {
            bail!(
                "every part is up, but {}/health is not answered with 200{}",
                instance.public_url(),
                instance.daemon(Part::Envoy).tail()
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_parallel_jobs_is_reported() {
        let job =
            |number: u32| move || if number.is_multiple_of(2) { bail!("job {number}") } else { Ok(number) };
        let error = in_parallel((1..=4).map(job)).unwrap_err().to_string();
        assert!(error.contains("job 2") && error.contains("job 4"), "{error}");
        assert_eq!(in_parallel([1, 3].map(job).into_iter()).unwrap(), [1, 3]);
    }
}
