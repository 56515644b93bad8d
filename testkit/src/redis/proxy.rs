//! Between a gate and its real Redis: passes everything on, and spoils single answers when told.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use oidc_gate_redis_model::resp::{Reply, Words, command, reply_length, take_command};

use crate::process::{Trouble, free_port, wait_until};
use crate::provider::Times;

/// How long one command may take; a frozen Redis behind us ends the connection.
const ANSWER: Duration = Duration::from_secs(30);

/// Commands that touch no data.
const NO_DATA: [&str; 7] = ["AUTH", "ECHO", "PING", "SELECT", "MULTI", "EXEC", "DISCARD"];
/// The key that the health check asks for.
const HEALTH_CHECK: &str = "mlflow:maintenance";
/// Commands of the gate that only read; everything else counts as a write.
const READS: [&str; 14] = [
    "GET",
    "MGET",
    "HGET",
    "HMGET",
    "HGETALL",
    "EXISTS",
    "TTL",
    "PTTL",
    "SMEMBERS",
    "XRANGE",
    "XREVRANGE",
    "XREAD",
    "ZREVRANGE",
    "ZRANGE",
];

/// Which commands something happens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// Everything, `AUTH` too.
    Everything,
    /// Those that touch data.
    Data,
    /// Those that change data; scripts among them, unless they only read.
    Writes,
    /// The command of that name (in capitals).
    Command(&'static str),
    /// Data commands whose first key, or a script's key, begins so.
    Key(String),
    /// Scripts whose key begins so.
    Script(&'static str),
}

impl On {
    fn covers(&self, request: &Words) -> bool {
        let name = name(request);
        let is_health_check = request.get(1).is_some_and(|key| key == HEALTH_CHECK.as_bytes());
        let data = !NO_DATA.contains(&name.as_str()) && !is_health_check;
        match self {
            Self::Everything => true,
            Self::Data => data,
            Self::Writes => data && !READS.contains(&name.as_str()) && !only_reads(request),
            Self::Command(wanted) => name == *wanted,
            Self::Key(prefix) => {
                let keys = request.iter().skip(1);
                data && keys.into_iter().any(|word| word.starts_with(prefix.as_bytes()))
            }
            Self::Script(prefix) => {
                let key = request.get(3);
                name == "EVAL" && key.is_some_and(|key| key.starts_with(prefix.as_bytes()))
            }
        }
    }
}

/// The command's name in capitals.
fn name(request: &Words) -> String {
    let name = request.first().map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(name).to_ascii_uppercase()
}

/// Whether it is a script of the gate that names no command which changes something.
fn only_reads(request: &Words) -> bool {
    let text = String::from_utf8_lossy(request.get(1).map(Vec::as_slice).unwrap_or_default());
    let names =
        text.split('\'').filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()));
    name(request) == "EVAL"
        && text.contains("redis.call")
        && names.into_iter().all(|name| READS.contains(&name) || ["TIME", "COUNT"].contains(&name))
}

/// What happens to a command, or to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not done; this error instead, without `-` and line end: `LOADING Redis is loading the dataset in memory`.
    Error(String),
    /// Not done; these bytes instead.
    Bytes(Vec<u8>),
    /// Done; these bytes instead of the answer.
    DoneButBytes(Vec<u8>),
    /// Not done; the connection is closed, with the answers before it.
    Close,
    /// Done; the connection is closed without its answer or any other.
    DoneAndClose,
    /// Done; half of all answers, then the connection is closed.
    HalfAnswer,
    /// Not done; nothing is ever said.
    Silence,
    /// Done; nothing is ever said.
    DoneAndSilence,
    /// Done; the whole pipeline is answered with the answers to somebody else's.
    AnswersOfAnother,
    /// Done; the answers wait until the gate in the proxy opens ([`Proxy::release`]).
    Hold,
}

impl Fault {
    fn is_done_first(&self) -> bool {
        !matches!(self, Self::Error(_) | Self::Bytes(_) | Self::Close | Self::Silence)
    }
}

/// A running proxy; dropping it closes every connection.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    stopped: AtomicBool,
    held: Mutex<Vec<TcpStream>>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<(On, Times, Fault)>,
    seen: Vec<String>,
    struck: usize,
    last_answers: Vec<u8>,
    waiting: usize,
    open: usize,
}

impl Proxy {
    /// Starts on a free port, in front of the Redis at `target`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(target: u16) -> Result<Self, Trouble> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared {
            target,
            state: Mutex::default(),
            stopped: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("redis-proxy".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if for_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    let shared = Arc::clone(&for_thread);
                    std::thread::spawn(move || {
                        // A peer that goes away is the peer's business.
                        let _ = shared.serve(stream);
                    });
                }
            }
        })?;
        Ok(Self { port, shared, thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Does this to such commands, so many times.
    pub fn fail(&self, on: On, times: Times, fault: Fault) {
        self.shared.state().faults.push((on, times, fault));
    }

    /// Passes everything on again, and lets go what [`Fault::Hold`] holds.
    pub fn behave(&self) {
        self.shared.state().faults.clear();
        self.release();
    }

    /// Lets go what is held now.
    pub fn release(&self) {
        let mut state = self.shared.state();
        state.open += state.waiting;
        state.waiting = 0;
    }

    /// How often something was done to a command.
    pub fn struck(&self) -> usize {
        self.shared.state().struck
    }

    /// The names of all commands that came, in order.
    pub fn seen(&self) -> Vec<String> {
        self.shared.state().seen.clone()
    }

    /// How often a command came.
    pub fn count(&self, name: &str) -> usize {
        self.shared.state().seen.iter().filter(|seen| *seen == name).count()
    }
}

/// What becomes of the connection after a pipeline.
enum Next {
    GoOn,
    Close,
    Silence,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target))?;
        server.set_nodelay(true)?;
        server.set_read_timeout(Some(ANSWER))?;
        let (mut buffer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let length = client.read(&mut chunk)?;
            buffer.extend(chunk.iter().take(length));
            // Whatever came together is answered together.
            let next = || take_command(&mut buffer).ok().flatten();
            let pipeline: Vec<Words> = std::iter::from_fn(next).collect();
            if !pipeline.is_empty() {
                match self.answer(&pipeline, &mut server, &mut client)? {
                    Next::GoOn => {}
                    Next::Close => return Ok(()),
                    Next::Silence => {
                        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(client);
                        return Ok(());
                    }
                }
            }
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn answer(
        &self,
        pipeline: &[Words],
        server: &mut TcpStream,
        client: &mut TcpStream,
    ) -> std::io::Result<Next> {
        let mut answers = Vec::new();
        let mut next = Next::GoOn;
        let (mut in_transaction, mut spoiled, mut hold, mut of_another) = (false, false, false, false);
        for request in pipeline {
            let name = name(request);
            let fault = self.meet(request);
            if name == "EXEC" && spoiled {
                // As Redis does with a transaction in which it refused a command.
                exchange(server, &command(&["DISCARD"]))?;
                answers.extend(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
                (in_transaction, spoiled) = (false, false);
                continue;
            }
            in_transaction = (in_transaction || name == "MULTI") && name != "EXEC";
            let answer = match &fault {
                Some(fault) if !fault.is_done_first() => Vec::new(),
                _ => exchange(server, &command(request))?,
            };
            match fault {
                None => answers.extend(answer),
                Some(Fault::Error(text)) => {
                    spoiled |= in_transaction;
                    Reply::Error(text).encode(&mut answers);
                }
                Some(Fault::Bytes(bytes) | Fault::DoneButBytes(bytes)) => answers.extend(bytes),
                Some(Fault::Close) => {
                    next = Next::Close;
                    break;
                }
                Some(Fault::DoneAndClose) => return Ok(Next::Close),
                Some(Fault::HalfAnswer) => {
                    answers.extend(answer);
                    answers.truncate(answers.len() / 2);
                    next = Next::Close;
                    break;
                }
                Some(Fault::Silence | Fault::DoneAndSilence) => return Ok(Next::Silence),
                Some(Fault::AnswersOfAnother) => {
                    of_another = true;
                    answers.extend(answer);
                }
                Some(Fault::Hold) => {
                    hold = true;
                    answers.extend(answer);
                }
            }
        }
        if hold {
            self.wait();
        }
        if of_another {
            answers = self.state().last_answers.clone();
        } else if pipeline.len() > 2 {
            // AUTH and one EXISTS are the health check's.
            self.state().last_answers.clone_from(&answers);
        }
        client.write_all(&answers)?;
        if matches!(next, Next::Close) {
            client.shutdown(Shutdown::Both)?;
        }
        Ok(next)
    }

    /// Notes the command; what happens to it, if anything.
    fn meet(&self, request: &Words) -> Option<Fault> {
        let mut state = self.state();
        state.seen.push(name(request));
        let due = |(on, times, _): &(On, Times, Fault)| *times != Times::Next(0) && on.covers(request);
        let (_, times, fault) = state.faults.iter_mut().find(|entry| due(entry))?;
        if let Times::Next(left) = times {
            *left -= 1;
        }
        let fault = fault.clone();
        state.struck += 1;
        Some(fault)
    }

    fn wait(&self) {
        self.state().waiting += 1;
        wait_until(ANSWER, || {
            let mut state = self.state();
            let may_go = state.open > 0;
            if may_go {
                state.open -= 1;
            }
            may_go || self.stopped.load(Ordering::SeqCst)
        });
    }
}

/// Sends one command and reads its whole answer.
fn exchange(server: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    server.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    while reply_length(&answer).is_none() {
        match server.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend(chunk.iter().take(length)),
        }
    }
    Ok(answer)
}

impl Drop for Proxy {
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
