//! A TCP server in place of Redis that sends scripted replies, whatever it receives.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::process::{Trouble, free_port};

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
    port: u16,
    shared: Arc<FakeShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct FakeShared {
    script: Mutex<Script>,
    connections: AtomicUsize,
    heard: Mutex<Vec<String>>,
    stopped: AtomicBool,
    held: Mutex<Vec<TcpStream>>,
}

impl FakeRedis {
    /// Starts on a free port.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(script: Script) -> Result<Self, Trouble> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(FakeShared {
            script: Mutex::new(script),
            connections: AtomicUsize::new(0),
            heard: Mutex::default(),
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

    /// Sets the behaviour for the next connections.
    pub fn play(&self, script: Script) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The number of connections whose first bytes contained these words. [`Script::Close`] reads nothing.
    pub fn heard(&self, words: &str) -> usize {
        let heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|heard| heard.contains(words)).count()
    }
}

impl FakeShared {
    fn serve(&self, mut stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if script == Script::Close {
            return;
        }
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap_or_default();
        let words = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(words);
        match script {
            Script::Close | Script::Silent => {}
            Script::Reply(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Script::ReplyAndHold(bytes) => {
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
