//! Child processes of a test. Each has its own log and a unique port, and is stopped by its pid.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A failure of a server around the gate. The text says what failed, with the end of the log of the process concerned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

impl Trouble {
    /// From a sentence.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// How many bytes of a log an error shows.
const TAIL_BYTES: u64 = 6_000;

/// A running child process. Dropping it sends SIGTERM, and later SIGKILL if needed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    grace: Duration,
}

impl Process {
    /// Starts `command`. Standard output and error go to `log`; standard input is empty.
    ///
    /// # Errors
    /// The program does not exist, or the log cannot be written.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Trouble> {
        let file = File::options().create(true).append(true).open(log)?;
        let child =
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn().map_err(|error| {
                Trouble::new(format!("{name} does not start ({:?}): {error}", command.get_program()))
            })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), grace: Duration::from_secs(5) })
    }

    /// How long the process may take to stop after SIGTERM (5 s by default).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its whole output so far, as text.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` returns true.
    ///
    /// # Errors
    /// The process stopped, or `bound` passed. Both contain the end of its log.
    pub fn wait_until(&mut self, bound: Duration, mut ready: impl FnMut() -> bool) -> Result<(), Trouble> {
        let start = Instant::now();
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.trouble(&format!("ended by itself ({status})")));
            }
            if start.elapsed() > bound {
                return Err(self.trouble(&format!("is not ready after {bound:?}")));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// An error `what` about this process, with the end of its log.
    pub fn trouble(&self, what: &str) -> Trouble {
        Trouble::new(format!("{} {what}; its log ends with:\n{}", self.name, tail(&self.log)))
    }

    /// Stops the process and waits until it is gone.
    pub fn stop(&mut self) {
        if !self.is_running() {
            return;
        }
        // The pid still belongs to the child, because it has not been waited for.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let child = &mut self.child;
        if !wait_until(self.grace, || !matches!(child.try_wait(), Ok(None))) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Process {
    /// Kills the process (SIGKILL), as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, at most for `bound`. Returns whether it holds.
pub fn wait_until(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > bound {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// The end of a log file, or a note that there is none.
pub fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}

/// Whether a server listens on a loopback port.
pub fn accepts_connections(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// The first port. The range is below the one from which the kernel assigns ports to outgoing connections, so these do
/// not take a test's port.
const FIRST_PORT: u32 = 12_000;
const PORTS: u32 = 18_000;

/// A loopback port that is free now, and that no other test process gets while this process lives. This is necessary
/// because Envoy binds with SO_REUSEPORT: two Envoys on one port would silently share its connections.
///
/// # Panics
/// If none of 18,000 ports is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("oidc-gate-ports");
    // The folder may belong to another user. The bind below still finds a free port, but less reliably.
    let _ = std::fs::create_dir_all(&folder);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let Ok(port) = u16::try_from(FIRST_PORT + offset) else { continue };
        let lock = File::options().create(true).append(true).open(folder.join(port.to_string()));
        if let Ok(lock) = lock {
            if lock.try_lock().is_err() {
                continue;
            }
            LOCKS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(lock);
        }
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST_PORT} and {}", FIRST_PORT + PORTS)
}

/// The path of a program or file that a test needs, from the environment.
///
/// # Errors
/// The variable is not set, or the path does not exist. The text says which command sets it.
pub fn required_path(variable: &str) -> Result<PathBuf, Trouble> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty()).ok_or_else(|| {
        Trouble::new(format!(
            "{variable} is not set. Run these tests with `cargo xtask test e2e`, which sets it."
        ))
    })?;
    existing(variable, &value)
}

fn existing(variable: &str, value: &OsStr) -> Result<PathBuf, Trouble> {
    let path = PathBuf::from(value);
    if path.exists() {
        return Ok(path);
    }
    Err(Trouble::new(format!("{variable} names {}, which does not exist", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_early_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such realm >&2; exit 3"]);
        let mut process = Process::start("child", &mut command, &folder.path().join("log")).unwrap();
        let error = process.wait_until(Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("ended by itself") && error.contains("no such realm"), "{error}");
    }

    #[test]
    fn dropping_a_child_ends_it_even_when_it_ignores_sigterm() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
        let mut process =
            Process::start("child", &mut command, &log).unwrap().grace(Duration::from_millis(200));
        process.wait_until(Duration::from_secs(10), || tail(&log).contains("ready")).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }

    #[test]
    fn no_port_is_given_twice() {
        let first: Vec<u16> = (0..20).map(|_| free_port()).collect();
        let mut unique = first.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), first.len());
    }

    #[test]
    fn a_missing_program_is_named_with_the_command_that_provides_it() {
        let error = required_path("OIDC_GATE_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("OIDC_GATE_NO_SUCH_VARIABLE") && error.contains("cargo xtask test e2e"));
    }
}
