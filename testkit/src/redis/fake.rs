//! A TCP server in place of Redis that sends scripted replies, whatever it receives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{Trouble, free_port};
use crate::server::Server;

/// What a fake Redis does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// It accepts, reads, and never replies.
    Silent,
    /// It accepts and closes the connection at once.
    Close,
    /// It reads something, writes these bytes and closes the connection.
    Reply(Vec<u8>),
    /// It reads something, writes these bytes and keeps the connection open.
    ReplyAndHold(Vec<u8>),
}

/// A TCP server in place of Redis.
#[derive(Debug)]
pub struct FakeRedis {
    state: Arc<Mutex<State>>,
    server: Server,
}

#[derive(Debug)]
struct State {
    script: Script,
    connections: usize,
    heard: Vec<String>,
}

impl FakeRedis {
    /// Starts on a free port.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(script: Script) -> Result<Self, Trouble> {
        let state = Arc::new(Mutex::new(State { script, connections: 0, heard: Vec::new() }));
        let shared = Arc::clone(&state);
        let server = Server::of_connections(free_port(), move |stream| serve(stream, Arc::clone(&shared)))?;
        Ok(Self { state, server })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Sets the behaviour for the next connections.
    pub fn play(&self, script: Script) {
        lock(&self.state).script = script;
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }

    /// The number of connections whose first bytes contained these words. [`Script::Close`] reads nothing.
    pub fn heard(&self, words: &str) -> usize {
        lock(&self.state).heard.iter().filter(|heard| heard.contains(words)).count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let script = {
        let mut state = lock(&state);
        state.connections += 1;
        state.script.clone()
    };
    if script == Script::Close {
        return;
    }
    let mut words = Vec::with_capacity(4096);
    let _ = stream.read_buf(&mut words).await;
    lock(&state).heard.push(String::from_utf8_lossy(&words).into_owned());
    if let Script::Reply(bytes) | Script::ReplyAndHold(bytes) = &script {
        let _ = stream.write_all(bytes).await;
    }
    if !matches!(script, Script::Reply(_)) {
        // Holds the connection until the server is dropped.
        std::future::pending::<()>().await;
    }
}
