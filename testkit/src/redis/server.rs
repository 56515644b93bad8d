//! One real `redis-server` with a password, on loopback and a Unix socket.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ConnectionLike as _, Value};
use tempfile::TempDir;

use super::monitor::Monitor;
use super::tls::Authority;
use crate::process::{Process, Trouble, free_port};

const START: Duration = Duration::from_secs(10);
/// The timeout of the kit's own commands.
const ANSWER: Duration = Duration::from_secs(5);
/// The file that `SAVE` writes.
const SNAPSHOT: &str = "dump.rdb";

/// A running `redis-server`; dropping it stops it. The kit's own commands go through its Unix socket, as the user
/// `default`.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    port: u16,
    password: String,
    account: Option<Account>,
    arguments: Vec<String>,
    folder: TempDir,
    process: Mutex<Option<Process>>,
}

/// A user of Redis' ACL that may access the keys of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub username: String,
    /// Its password, which differs from that of the user `default`.
    pub password: String,
    /// The prefix of its keys.
    pub prefix: String,
}

/// The data after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All data is lost.
    Lost,
    /// The data of the last [`Redis::save`].
    Saved,
}

impl Redis {
    /// Starts the binary `program` on a free loopback port and a Unix socket, without any data.
    ///
    /// # Errors
    /// It exited, or does not answer within 10 s. The error has the tail of its log.
    pub fn start(program: &Path) -> Result<Self, Trouble> {
        let port = free_port();
        Self::launch(program, port, &new_password(), None, vec!["--port".to_owned(), port.to_string()])
    }

    /// Starts a server that accepts only TLS, with a certificate of `authority` for `localhost` and 127.0.0.1. All
    /// clients except the kit must log in as `account`.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn with_tls(program: &Path, authority: &Authority, account: Account) -> Result<Self, Trouble> {
        let port = free_port();
        let certificate = authority.issue(&["localhost", "127.0.0.1"])?;
        let file = |path: &Path| path.display().to_string();
        let arguments = [
            ["--port", "0"],
            ["--tls-port", &port.to_string()],
            ["--tls-auth-clients", "no"],
            ["--tls-cert-file", &file(&certificate.chain)],
            ["--tls-key-file", &file(&certificate.key)],
            ["--tls-ca-cert-file", &file(authority.certificate())],
        ];
        let arguments = arguments.concat().into_iter().map(ToOwned::to_owned).collect();
        Self::launch(program, port, &new_password(), Some(account), arguments)
    }

    pub(super) fn launch(
        program: &Path,
        port: u16,
        password: &str,
        account: Option<Account>,
        arguments: Vec<String>,
    ) -> Result<Self, Trouble> {
        let redis = Self {
            program: program.to_owned(),
            port,
            password: password.to_owned(),
            account,
            arguments,
            folder: TempDir::new()?,
            process: Mutex::default(),
        };
        redis.resume()?;
        Ok(redis)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// The password of the user `default`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Whether the server is running.
    pub fn is_running(&self) -> bool {
        self.process().as_mut().is_some_and(Process::is_running)
    }

    /// Stops the server in an orderly way; its connections are closed.
    pub fn stop(&self) {
        self.thaw();
        drop(self.process().take());
    }

    /// Kills the server, like a crash.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.kill();
        }
    }

    /// Restarts the server on the same port without its data.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn resume(&self) -> Result<(), Trouble> {
        self.resume_with(Data::Lost)
    }

    /// Restarts the server on the same port.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn resume_with(&self, data: Data) -> Result<(), Trouble> {
        self.stop();
        if data == Data::Lost {
            let _ = std::fs::remove_file(self.folder.path().join(SNAPSHOT));
        }
        let mut command = Command::new(&self.program);
        command
            .args(["--bind", "127.0.0.1"])
            .arg("--unixsocket")
            .arg(self.socket())
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dbfilename", SNAPSHOT])
            .args(["--requirepass", &self.password])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments);
        let log = self.folder.path().join("redis.log");
        let mut process = Process::start("redis-server", &mut command, &log)?;
        process.wait_until(START, || self.command(&["PING"]).is_ok())?;
        *self.process() = Some(process);
        if let Some(account) = &self.account {
            let password = format!(">{}", account.password);
            let keys = format!("~{}:*", account.prefix);
            let words = ["ACL", "SETUSER", &account.username, "reset", "on", &password, &keys];
            self.command(&[&words[..], &printed_commands()].concat())?;
        }
        Ok(())
    }

    /// Writes all data to disk, for [`Redis::resume_with`].
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn save(&self) -> Result<(), Trouble> {
        self.command(&["SAVE"]).map(drop)
    }

    /// Freezes the server: the kernel accepts connections, but nothing is answered until [`Redis::thaw`].
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Resumes a server after [`Redis::freeze`].
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.process().as_ref().and_then(|process| i32::try_from(process.pid()).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// Redis does not answer, or replies with an error.
    pub fn command(&self, words: &[&str]) -> Result<Value, Trouble> {
        let run = || -> redis::RedisResult<Value> {
            let address = redis::ConnectionAddr::Unix(self.socket());
            let settings = redis::RedisConnectionInfo::default().set_password(&self.password);
            let info = redis::IntoConnectionInfo::into_connection_info(address)?.set_redis_settings(settings);
            let mut connection = redis::Client::open(info)?.get_connection_with_timeout(ANSWER)?;
            connection.set_read_timeout(Some(ANSWER))?;
            let mut command = redis::Cmd::new();
            for word in words {
                command.arg(word);
            }
            connection.req_command(&command)?.extract_error()
        };
        run().map_err(|error| {
            Trouble::new(format!("redis {}: {error}", words.first().copied().unwrap_or_default()))
        })
    }

    /// Runs one command whose reply has a known type.
    ///
    /// # Errors
    /// As [`Redis::command`], or the reply has another type.
    pub fn query<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, Trouble> {
        redis::from_redis_value(self.command(words)?).map_err(|error| Trouble::new(error.to_string()))
    }

    /// All keys that match a glob, sorted.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn keys(&self, glob: &str) -> Result<Vec<String>, Trouble> {
        let mut keys: Vec<String> = self.query(&["KEYS", glob])?;
        keys.sort();
        Ok(keys)
    }

    /// How often a command was executed so far, including those of the health check and of this kit.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn calls_of(&self, command: &str) -> Result<u64, Trouble> {
        let info: String = self.query(&["INFO", "commandstats"])?;
        let prefix = format!("cmdstat_{}:calls=", command.to_ascii_lowercase());
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or_default())
    }

    /// A field of `INFO`.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn info(&self, section: &str, field: &str) -> Result<Option<String>, Trouble> {
        let info: String = self.query(&["INFO", section])?;
        let mut fields = info.lines().filter_map(|line| line.trim().split_once(':'));
        Ok(fields.find(|(name, _)| *name == field).map(|(_, value)| value.to_owned()))
    }

    /// Starts to monitor all commands.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn monitor(&self) -> Result<Monitor, Trouble> {
        Monitor::start(&self.socket(), &self.password)
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn flush(&self) -> Result<(), Trouble> {
        self.command(&["FLUSHALL"]).map(drop)
    }
}

/// The commands that docs/sessions.md allows to such a user.
fn printed_commands() -> Vec<&'static str> {
    let page = include_str!("../../../docs/sessions.md");
    let printed = page.split('`').find(|code| code.starts_with("+auth "));
    printed.map(|commands| commands.split(' ').collect()).unwrap_or_default()
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A frozen process does not receive SIGTERM.
        self.thaw();
    }
}

/// A password that no other server of this test has.
pub(super) fn new_password() -> String {
    format!("redis-{}", crate::provider::random_text(24))
}
