//! A real Redis with a password and nothing on disk, and a fake one that answers with what it is told.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redis::{ConnectionLike as _, Value};
use tempfile::TempDir;

use crate::process::{Process, Trouble, accepts_connections, free_port};

/// A running `redis-server`; dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    port: u16,
    password: String,
    folder: TempDir,
    process: Option<Process>,
}

impl Redis {
    /// Starts the binary `program` on a free loopback port and a Unix socket.
    ///
    /// # Errors
    /// It ended or does not answer in 10 s, with the tail of its log.
    pub fn start(program: &Path) -> Result<Self, Trouble> {
        let password = format!("redis-{}", crate::provider::random_text(24));
        let folder = TempDir::new()?;
        let mut redis =
            Self { program: program.to_owned(), port: free_port(), password, folder, process: None };
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

    /// What `AUTH` wants.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Ends the server; everything in it is gone.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn resume(&mut self) -> Result<(), Trouble> {
        self.process = None;
        let mut command = Command::new(&self.program);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--unixsocket")
            .arg(self.socket())
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--requirepass", &self.password])
            .arg("--dir")
            .arg(self.folder.path());
        let log = self.folder.path().join("redis.log");
        let mut process = Process::start("redis-server", &mut command, &log)?;
        process.wait_until(Duration::from_secs(10), || {
            accepts_connections(self.port) && self.command(&["PING"]).is_ok()
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Freezes the server: connections are accepted by the kernel and nothing is ever answered. [`Redis::thaw`] ends it.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Ends [`Redis::freeze`].
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.process.as_ref().and_then(|process| i32::try_from(process.pid()).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Runs one command.
    ///
    /// # Errors
    /// Redis does not answer, or answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<Value, Trouble> {
        let run = || -> redis::RedisResult<Value> {
            let client = redis::Client::open(format!("redis://:{}@127.0.0.1:{}/", self.password, self.port))?;
            let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
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

    /// Runs one command whose answer has a known type.
    ///
    /// # Errors
    /// As [`Redis::command`], or the answer is of another type.
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

    /// How many commands it has processed, ever; those of the health check and of this kit included.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn calls_of(&self, command: &str) -> Result<u64, Trouble> {
        let info: String = self.query(&["INFO", "commandstats"])?;
        let prefix = format!("cmdstat_{}:calls=", command.to_ascii_lowercase());
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or_default())
    }

    /// Empties it.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn flush(&self) -> Result<(), Trouble> {
        self.command(&["FLUSHALL"]).map(drop)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A frozen process would not see SIGTERM.
        self.thaw();
    }
}

/// What a fake Redis does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Accepts, reads, and never says anything.
    Silent,
    /// Accepts and closes at once.
    Close,
    /// Reads something, writes these bytes, closes.
    Reply(Vec<u8>),
    /// Reads something, writes these bytes, and keeps the connection open.
    ReplyAndHold(Vec<u8>),
}

/// A TCP server in the place of Redis.
#[derive(Debug)]
pub struct FakeRedis {
    port: u16,
    shared: Arc<FakeShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct FakeShared {
    script: Mutex<Script>,
    connections: AtomicUsize,
    stopped: AtomicBool,
    held: Mutex<Vec<TcpStream>>,
}

impl FakeRedis {
    /// Starts on a free port.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(script: Script) -> Result<Self, Trouble> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(FakeShared {
            script: Mutex::new(script),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("fake-redis".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if for_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    let shared = Arc::clone(&for_thread);
                    std::thread::spawn(move || shared.serve(stream));
                }
            }
        })?;
        Ok(Self { port, shared, thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the next connections are done to.
    pub fn play(&self, script: Script) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl FakeShared {
    fn serve(&self, mut stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut buffer = [0; 4096];
        match script {
            Script::Close => return,
            Script::Silent => {}
            Script::Reply(bytes) => {
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(&bytes);
                return;
            }
            Script::ReplyAndHold(bytes) => {
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(&bytes);
            }
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }
}

impl Drop for FakeRedis {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for stream in self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
