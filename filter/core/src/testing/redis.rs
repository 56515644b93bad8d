//! The model of Redis behind a callout, and what a test can do to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use oidc_gate_redis_model::resp::{Reply, Words, take_command};
use oidc_gate_redis_model::server::{Connection, Mood, Server};

use super::config::REDIS_PASSWORD;
use crate::host::{Callout, CalloutError, CalloutReply};
use crate::revocation::stream::READ;

/// Milliseconds and a sequence number.
pub type Id = (u64, u64);

/// The key of the revocation stream.
const LOG: &str = "mlflow:revoked";

pub struct MemoryRedis {
    server: Server,
    /// Redis' clock at the latest callout, in milliseconds.
    now: Cell<u64>,
    /// How far Redis' clock is behind the host's.
    behind: Cell<Duration>,
    down: Cell<Option<CalloutError>>,
    refuses_writes: Cell<Option<&'static str>>,
    refused: RefCell<Vec<&'static [u8]>>,
    /// How many more reads of the stream succeed.
    reads_left: Cell<Option<u32>>,
    /// The number of callouts so far, without reads of the stream.
    pub operations: Cell<u32>,
}

impl MemoryRedis {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            server: Server::new(Some(REDIS_PASSWORD.to_owned()), Vec::new()),
            now: Cell::default(),
            behind: Cell::default(),
            down: Cell::default(),
            refuses_writes: Cell::default(),
            refused: RefCell::default(),
            reads_left: Cell::default(),
            operations: Cell::default(),
        })
    }

    pub fn set_down(&self, error: Option<CalloutError>) {
        self.down.set(error);
    }

    /// Makes Redis a read-only replica.
    pub fn set_read_only(&self, read_only: bool) {
        self.refuse_writes(read_only.then_some("READONLY You can't write against a read only replica."));
    }

    /// Answers writes with this error. Reads still work.
    pub fn refuse_writes(&self, error: Option<&'static str>) {
        self.refuses_writes.set(error);
    }

    /// Refuses a command, or every script whose text has this word.
    pub fn refuse(&self, command: &'static [u8]) {
        self.refused.borrow_mut().push(command);
    }

    pub fn refuse_nothing(&self) {
        self.refused.borrow_mut().clear();
    }

    /// Fails all reads of the stream after this many.
    pub fn fail_reads_after(&self, count: u32) {
        self.reads_left.set(Some(count));
    }

    pub fn set_clock_back(&self, by: Duration) {
        self.behind.set(by);
    }

    /// All keys except that of the stream.
    pub fn keys(&self) -> Vec<String> {
        self.server.names().into_iter().filter(|key| key != LOG).collect()
    }

    pub fn forget_everything(&self) {
        self.server.lose_everything();
    }

    /// Changes the sealed record of every session.
    pub fn tamper(&self, change: impl Fn(&mut Vec<u8>)) {
        for key in self.sessions() {
            let Reply::Bulk(mut record) = self.run(&["HGET", &key, "rec"]) else { continue };
            change(&mut record);
            self.run(&[b"HSET", key.as_bytes(), b"rec", &record]);
        }
    }

    /// Writes a field of every session.
    pub fn set_field(&self, field: &str, value: &str) {
        for key in self.sessions() {
            self.run(&["HSET", &key, field, value]);
        }
    }

    /// The number of entries in the stream.
    pub fn log_len(&self) -> i64 {
        match self.run(&["XLEN", LOG]) {
            Reply::Integer(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Drops all but the latest entry of the stream.
    pub fn trim_log(&self) {
        self.run(&["XTRIM", LOG, "MAXLEN", "1"]);
    }

    /// Adds an entry to the stream, as any client with write access to Redis could.
    pub fn poison_log(&self, (millis, number): Id, fields: &[Vec<u8>]) {
        let id = format!("{millis}-{number}");
        let command = [b"XADD", LOG.as_bytes(), id.as_bytes()];
        self.run(&[&command[..], &fields.iter().map(Vec::as_slice).collect::<Vec<_>>()].concat());
    }

    /// Deletes one entry of the stream. Redis still continues from the last id that it assigned.
    pub fn delete_from_log(&self, (millis, number): Id) {
        assert_eq!(self.run(&["XDEL", LOG, &format!("{millis}-{number}")]), Reply::Integer(1));
    }

    /// Deletes the stream, or the value in its place.
    pub fn drop_log(&self) {
        self.run(&["DEL", LOG]);
    }

    /// Replaces the stream with a string.
    pub fn replace_log(&self) {
        self.run(&["SET", LOG, "x"]);
    }

    pub fn answer(&self, callout: &Callout, now: u64) -> Result<CalloutReply, CalloutError> {
        if let Some(error) = self.down.get() {
            return Err(error);
        }
        self.now.set(now - self.behind.get().as_millis() as u64);
        let (mut connection, mut pipeline, mut body) =
            (Connection::default(), callout.body.clone(), Vec::new());
        let mut polls = false;
        while let Some(command) = take_command(&mut pipeline).unwrap() {
            polls |= reads_log(&command);
            self.reply(&mut connection, command).encode(&mut body);
        }
        assert_eq!(pipeline, b"", "half a command");
        self.operations.set(self.operations.get() + u32::from(!polls));
        Ok(CalloutReply { status: 200, headers: Vec::new(), body })
    }

    fn reply(&self, connection: &mut Connection, command: Words) -> Reply {
        let names = |refused: &&[u8]| command.iter().take(2).any(|word| contains(word, refused));
        if self.refused.borrow().iter().any(names) {
            return Reply::Error("ERR refused".to_owned());
        }
        if reads_log(&command)
            && let Some(left) = self.reads_left.get()
        {
            self.reads_left.set(Some(left.saturating_sub(1)));
            if left == 0 {
                return Reply::Error("LOADING".to_owned());
            }
        }
        let mood = self.refuses_writes.get().map_or(Mood::Well, Mood::ReadOnly);
        self.server.answer(connection, command, self.now.get(), mood)
    }

    fn sessions(&self) -> impl Iterator<Item = String> {
        self.keys().into_iter().filter(|key| key.contains(":s:"))
    }

    /// Runs a command of another client.
    fn run<W: AsRef<[u8]>>(&self, words: &[W]) -> Reply {
        let reply = self.server.tamper(self.now.get(), words);
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        reply
    }
}

fn reads_log(command: &Words) -> bool {
    command.get(1).is_some_and(|word| word == READ.as_bytes())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
