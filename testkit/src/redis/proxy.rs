//! A proxy between a gate and its real Redis. It passes everything on, and injects faults on request.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oidc_gate_redis_model::resp::{Reply, Words, command, reply_length, take_command};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::process::{Trouble, free_port};
use crate::provider::Times;
use crate::server::Server;

/// The timeout of one command. If Redis is frozen, the connection is closed after it.
const ANSWER: Duration = Duration::from_secs(30);

/// How many bytes one read takes at most.
const CHUNK: usize = 16 * 1024;

/// Commands that access no data.
const NO_DATA: [&str; 7] = ["AUTH", "ECHO", "PING", "SELECT", "MULTI", "EXEC", "DISCARD"];
/// The key of the health check.
const HEALTH_CHECK: &str = "mlflow:maintenance";
/// Commands of the gate that only read. All others count as writes.
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

/// The commands to which a fault applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// All commands, including `AUTH`.
    Everything,
    /// Commands that access data.
    Data,
    /// Commands that change data, including scripts unless they only read.
    Writes,
    /// The command with this name (in upper case).
    Command(&'static str),
    /// Commands that access data and have a word after their name that begins with this.
    Key(String),
    /// Scripts whose key begins with this.
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

/// The command's name in upper case.
fn name(request: &Words) -> String {
    let name = request.first().map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(name).to_ascii_uppercase()
}

/// Whether it is a script that calls no command which changes data.
fn only_reads(request: &Words) -> bool {
    let text = String::from_utf8_lossy(request.get(1).map(Vec::as_slice).unwrap_or_default());
    let names =
        text.split('\'').filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()));
    name(request) == "EVAL"
        && text.contains("redis.call")
        && names.into_iter().all(|name| READS.contains(&name) || ["TIME", "COUNT"].contains(&name))
}

/// A fault in a command or in its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command is not executed. The reply is this error, without `-` and line end: `LOADING Redis is loading the
    /// dataset in memory`.
    Error(String),
    /// The command is not executed. The reply is these bytes.
    Bytes(Vec<u8>),
    /// The command is executed. The reply is these bytes.
    DoneButBytes(Vec<u8>),
    /// The command is not executed. The connection is closed after the replies to earlier commands.
    Close,
    /// The command is executed. The connection is closed without any reply.
    DoneAndClose,
    /// The command is executed. Half of all replies are sent, then the connection is closed.
    HalfAnswer,
    /// The command is not executed, and there is no reply.
    Silence,
    /// The command is executed, but there is no reply.
    DoneAndSilence,
    /// The command is executed. The whole pipeline is answered with the replies to an earlier one.
    AnswersOfAnother,
    /// The command is executed. The replies are held until [`Proxy::release`].
    Hold,
}

impl Fault {
    fn is_done_first(&self) -> bool {
        !matches!(self, Self::Error(_) | Self::Bytes(_) | Self::Close | Self::Silence)
    }
}

/// A running proxy. Dropping it closes every connection.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    /// What [`Fault::Hold`] waits for.
    released: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<(On, Times, Fault)>,
    seen: Vec<String>,
    applied: usize,
    last_answers: Vec<u8>,
    waiting: usize,
}

impl Proxy {
    /// Starts on a free port in front of the Redis at `target`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(target: u16) -> Result<Self, Trouble> {
        let shared = Arc::new(Shared { target, state: Mutex::default(), released: Semaphore::new(0) });
        let for_server = Arc::clone(&shared);
        let server = Server::of_connections(free_port(), move |client| {
            let shared = Arc::clone(&for_server);
            async move {
                // A client that disconnects is not an error.
                let _ = shared.serve(client).await;
            }
        })?;
        Ok(Self { shared, server })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Applies a fault to these commands this many times.
    pub fn fail(&self, on: On, times: Times, fault: Fault) {
        self.shared.state().faults.push((on, times, fault));
    }

    /// Removes all faults, and releases what [`Fault::Hold`] holds.
    pub fn behave(&self) {
        self.shared.state().faults.clear();
        self.release();
    }

    /// Releases the replies that are held now.
    pub fn release(&self) {
        self.shared.released.add_permits(std::mem::take(&mut self.shared.state().waiting));
    }

    /// How often a fault was applied.
    pub fn applied(&self) -> usize {
        self.shared.state().applied
    }

    /// The names of all received commands, in order.
    pub fn seen(&self) -> Vec<String> {
        self.shared.state().seen.clone()
    }

    /// How often a command was received.
    pub fn count(&self, name: &str) -> usize {
        self.shared.state().seen.iter().filter(|seen| *seen == name).count()
    }
}

/// What happens to the connection after a pipeline.
enum Next {
    GoOn,
    Close,
    Silence,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)).await?;
        server.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            // Commands that arrive together are answered together.
            buffer.reserve(CHUNK);
            let length = client.read_buf(&mut buffer).await?;
            let next = || take_command(&mut buffer).ok().flatten();
            let pipeline: Vec<Words> = std::iter::from_fn(next).collect();
            if !pipeline.is_empty() {
                match self.answer(&pipeline, &mut server, &mut client).await? {
                    Next::GoOn => {}
                    Next::Close => return Ok(()),
                    // Holds the connection until the proxy is dropped.
                    Next::Silence => std::future::pending().await,
                }
            }
            if length == 0 {
                return Ok(());
            }
        }
    }

    async fn answer(
        &self,
        pipeline: &[Words],
        server: &mut TcpStream,
        client: &mut TcpStream,
    ) -> io::Result<Next> {
        let mut answers = Vec::new();
        let mut next = Next::GoOn;
        let (mut in_transaction, mut spoiled, mut hold, mut of_another) = (false, false, false, false);
        for request in pipeline {
            let name = name(request);
            let fault = self.fault_for(request);
            if name == "EXEC" && spoiled {
                // As Redis does for a transaction with a refused command.
                exchange(server, &command(&["DISCARD"])).await?;
                answers.extend(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
                (in_transaction, spoiled) = (false, false);
                continue;
            }
            in_transaction = (in_transaction || name == "MULTI") && name != "EXEC";
            let answer = match &fault {
                Some(fault) if !fault.is_done_first() => Vec::new(),
                _ => exchange(server, &command(request)).await?,
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
            self.wait().await;
        }
        if of_another {
            answers = self.state().last_answers.clone();
        } else if pipeline.len() > 2 {
            // A pipeline of two commands is the health check's (`AUTH` and `EXISTS`), so its replies are not kept.
            self.state().last_answers.clone_from(&answers);
        }
        client.write_all(&answers).await?;
        Ok(next)
    }

    /// Records the command and returns the fault for it, if any.
    fn fault_for(&self, request: &Words) -> Option<Fault> {
        let mut state = self.state();
        state.seen.push(name(request));
        let due = |(on, times, _): &(On, Times, Fault)| *times != Times::Next(0) && on.covers(request);
        let (_, times, fault) = state.faults.iter_mut().find(|entry| due(entry))?;
        if let Times::Next(left) = times {
            *left -= 1;
        }
        let fault = fault.clone();
        state.applied += 1;
        Some(fault)
    }

    async fn wait(&self) {
        self.state().waiting += 1;
        if let Ok(Ok(permit)) = timeout(ANSWER, self.released.acquire()).await {
            permit.forget();
        }
    }
}

/// Sends one command and reads its whole reply.
async fn exchange(server: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    server.write_all(request).await?;
    let mut answer = Vec::new();
    while reply_length(&answer).is_none() {
        if timeout(ANSWER, server.read_buf(&mut answer)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer)
}
