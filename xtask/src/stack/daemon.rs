//! Processes that outlive the command that started them. They are identified by pid and start time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oidc_gate_testkit::process::tail;
use process_wrap::std::{CommandWrap, ProcessSession};
use procfs::process::Process;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::secrets::write_private;
use crate::{download, signals};

const POLL: Duration = Duration::from_millis(50);
/// How long a process may take to stop by itself.
const STOP_BOUND: Duration = Duration::from_secs(15);

/// How a part is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. They must not contain secrets, because every user of the machine can read them.
    pub arguments: Vec<OsString>,
    /// Environment variables in addition to those of the caller.
    pub environment: BTreeMap<String, String>,
    /// Files that it reads when it starts. If one changes, the running process is out of date.
    pub inputs: Vec<PathBuf>,
}

/// The state of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Running.
    Running(i32),
    /// It was started and has stopped by itself.
    Crashed(i32),
    /// It was never started, or was stopped on purpose.
    Stopped,
}

/// A named background process of a stack.
#[derive(Clone, Debug)]
pub struct Daemon {
    name: &'static str,
    record: PathBuf,
    log: PathBuf,
}

/// What is stored about a started process.
#[derive(Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// In clock ticks since boot. Together with the pid it identifies a process, although pids are reused.
    start_time: u64,
    fingerprint: String,
}

impl Daemon {
    /// A process whose record and log are in this folder.
    pub fn new(folder: &Path, name: &'static str) -> Self {
        Self {
            name,
            record: folder.join("run").join(format!("{name}.pid")),
            log: folder.join("logs").join(format!("{name}.log")),
        }
    }

    /// The file with its standard output and error.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its current state.
    pub fn state(&self) -> State {
        match self.record() {
            None => State::Stopped,
            Some(record) if record.leader().is_some() => State::Running(record.pid),
            Some(record) => State::Crashed(record.pid),
        }
    }

    /// Resident memory of the process and its children, in bytes.
    pub fn memory(&self) -> u64 {
        let Some(record) = self.record() else { return 0 };
        let pages: u64 = record.members().iter().filter_map(|process| Some(process.stat().ok()?.rss)).sum();
        pages.saturating_mul(procfs::page_size())
    }

    /// Whether the running process is exactly what `launch` would start.
    pub fn is_current(&self, launch: &Launch) -> Result<bool> {
        let running = matches!(self.state(), State::Running(_));
        Ok(running
            && self
                .record()
                .is_some_and(|record| launch.fingerprint().is_ok_and(|now| now == record.fingerprint)))
    }

    /// Starts it in a new session, so that neither Ctrl-C nor closing the terminal affects it.
    pub fn start(&self, launch: &Launch) -> Result<()> {
        for path in [&self.record, &self.log] {
            fs::create_dir_all(path.parent().context("a daemon's files are in a folder")?)?;
        }
        if self.log.exists() {
            fs::rename(&self.log, self.log.with_added_extension("1"))?;
        }
        let fingerprint = launch.fingerprint()?;
        let log = File::create(&self.log)?;
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .envs(&launch.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = CommandWrap::from(command).wrap(ProcessSession).spawn();
        let child = child.with_context(|| format!("cannot start {}", launch.program.display()))?;
        let pid = i32::try_from(child.id())?;
        let start_time =
            Process::new(pid).and_then(|process| process.stat()).map_or(0, |stat| stat.starttime);
        let record = Record { pid, start_time, fingerprint };
        write_private(&self.record, &serde_json::to_string(&record)?)
    }

    /// Waits until `ready` returns true.
    ///
    /// # Errors
    /// If the process stops first or `bound` passes; both contain the end of its log. If the user interrupts.
    pub fn wait_until_ready(&self, bound: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            if !matches!(self.state(), State::Running(_)) {
                bail!("{} ended while starting{}", self.name, self.tail());
            }
            if ready() {
                return Ok(());
            }
            if started.elapsed() > bound {
                bail!("{} is not ready after {} s{}", self.name, bound.as_secs(), self.tail());
            }
            signals::check()?;
            std::thread::sleep(POLL);
        }
    }

    /// Stops the process and its children, if they are running: with SIGTERM, and later with SIGKILL if needed.
    pub fn stop(&self) -> Result<()> {
        let Some(record) = self.record() else { return Ok(()) };
        if let Some(leader) = record.leader() {
            signal(leader.pid, Signal::SIGTERM)?;
        }
        let asked = Instant::now();
        while !record.members().is_empty() {
            let late = asked.elapsed() > STOP_BOUND;
            // A leader that has ended can no longer stop its children.
            if late || record.leader().is_none() {
                for member in record.members() {
                    signal(member.pid, if late { Signal::SIGKILL } else { Signal::SIGTERM })?;
                }
            }
            if asked.elapsed() > STOP_BOUND * 2 {
                bail!("{} cannot be stopped: process {} is still running", self.name, record.pid);
            }
            std::thread::sleep(POLL);
        }
        Ok(fs::remove_file(&self.record)?)
    }

    /// The end of its log, for an error message.
    pub fn tail(&self) -> String {
        match tail(&self.log).as_str() {
            "" => format!("; its log {} is empty", self.log.display()),
            end => format!("; the end of {}:\n{end}", self.log.display()),
        }
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_str(&fs::read_to_string(&self.record).ok()?).ok()
    }
}

impl Launch {
    /// A hash that changes with the program, its arguments, its environment or its input files.
    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        };
        add(self.program.as_os_str().as_encoded_bytes());
        for argument in &self.arguments {
            add(argument.as_encoded_bytes());
        }
        for (name, value) in &self.environment {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for input in &self.inputs {
            add(download::file_sha256(input)?.as_bytes());
        }
        Ok(download::hex(&hash.finalize()))
    }
}

impl Record {
    /// The started process itself, unless it has stopped.
    fn leader(&self) -> Option<Process> {
        let process = Process::new(self.pid).ok()?;
        let stat = process.stat().ok()?;
        // A zombie has stopped, but its parent, perhaps another xtask command, has not waited for it yet.
        (stat.starttime == self.start_time && !matches!(stat.state, 'Z' | 'X')).then_some(process)
    }

    /// All running processes of its session.
    fn members(&self) -> Vec<Process> {
        // If another process has the pid, the session is empty: the kernel does not reuse a pid that is also a session
        // id.
        if self.leader().is_none()
            && Process::new(self.pid)
                .and_then(|process| process.stat())
                .is_ok_and(|stat| stat.starttime != self.start_time)
        {
            return Vec::new();
        }
        let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
        let belongs = |process: &Process| {
            process.stat().is_ok_and(|stat| stat.session == self.pid && !matches!(stat.state, 'Z' | 'X'))
        };
        all.flatten().filter(belongs).collect()
    }
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        // It stopped between the check and the signal.
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signalling process {pid}")),
    }
}

#[cfg(test)]
mod tests {
    use oidc_gate_testkit::process::wait_until;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: BTreeMap::new(),
            inputs: Vec::new(),
        }
    }

    fn wait(what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(BOUND, condition), "never happened: {what}");
    }

    #[test]
    fn a_daemon_is_running_until_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(folder.path(), "test");
        assert_eq!(daemon.state(), State::Stopped);
        daemon.start(&shell("exec sleep 60")).unwrap();
        let State::Running(pid) = daemon.state() else { panic!("{:?}", daemon.state()) };
        assert_eq!(Process::new(pid).unwrap().stat().unwrap().session, pid, "it leads a session of its own");
        daemon.stop().unwrap();
        assert_eq!(daemon.state(), State::Stopped);
        daemon.stop().unwrap();
    }

    #[test]
    fn stopping_ends_the_children_too_even_when_their_parent_is_gone() {
        for script in ["sleep 60 & sleep 60 & wait", "sleep 60 & exit 0"] {
            let folder = tempfile::tempdir().unwrap();
            let daemon = Daemon::new(folder.path(), "test");
            daemon.start(&shell(script)).unwrap();
            let record = daemon.record().unwrap();
            let children = || record.members().into_iter().filter(|member| member.pid != record.pid).count();
            wait("children", || children() > 0);
            daemon.stop().unwrap();
            assert_eq!(record.members().len(), 0, "{script}");
        }
    }

    #[test]
    fn a_daemon_that_ends_by_itself_has_crashed_and_its_log_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(folder.path(), "test");
        daemon.start(&shell("echo no such database >&2; exit 1")).unwrap();
        let error = daemon.wait_until_ready(BOUND, || false).unwrap_err().to_string();
        assert!(error.contains("ended while starting") && error.contains("no such database"), "{error}");
        assert!(matches!(daemon.state(), State::Crashed(_)));
    }

    #[test]
    fn a_daemon_that_never_gets_ready_is_given_up_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(folder.path(), "test");
        daemon.start(&shell("echo still thinking; exec sleep 60")).unwrap();
        wait("its first words", || daemon.tail().contains("still thinking"));
        let error = daemon.wait_until_ready(Duration::from_millis(300), || false).unwrap_err().to_string();
        daemon.stop().unwrap();
        assert!(error.contains("not ready") && error.contains("still thinking"), "{error}");
    }

    #[test]
    fn a_process_that_got_the_pid_of_ours_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(folder.path(), "test");
        daemon.start(&shell("exec sleep 60")).unwrap();
        let record = daemon.record().unwrap();
        let stranger = Record { start_time: record.start_time + 1, fingerprint: String::new(), ..record };
        write_private(&daemon.record, &serde_json::to_string(&stranger).unwrap()).unwrap();
        assert!(matches!(daemon.state(), State::Crashed(_)));
        daemon.stop().unwrap();
        let pid = Pid::from_raw(stranger.pid);
        kill(pid, None).expect("the process still runs");
        kill(pid, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_daemon_is_out_of_date_when_anything_it_was_started_with_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        fs::write(&input, "old").unwrap();
        let daemon = Daemon::new(folder.path(), "test");
        let launch = Launch { inputs: vec![input.clone()], ..shell("exec sleep 60") };
        daemon.start(&launch).unwrap();
        assert!(daemon.is_current(&launch).unwrap());
        let other = Launch { environment: [("A".to_owned(), "b".to_owned())].into(), ..launch.clone() };
        assert!(!daemon.is_current(&other).unwrap());
        assert!(!daemon.is_current(&shell("exec sleep 61")).unwrap());
        fs::write(&input, "new").unwrap();
        assert!(!daemon.is_current(&launch).unwrap());
        daemon.stop().unwrap();
        assert!(!daemon.is_current(&launch).unwrap());
    }
}
