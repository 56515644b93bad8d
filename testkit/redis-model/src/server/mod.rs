//! A Redis in memory with the semantics of a real one: RESP in and out, types, expiry, transactions, Lua.

mod commands;
mod keys;
mod reply;
mod script;
mod stream;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::resp::{Reply, Words, take_command};
use keys::Keys;
use script::Scripts;

/// One server.
pub struct Server {
    keys: Rc<RefCell<Keys>>,
    scripts: Scripts,
    password: Option<String>,
    /// Replacements in scripts, to plant bugs.
    sabotage: Vec<(String, String)>,
    sabotaged: Cell<u64>,
    commands: Cell<u64>,
}

/// One client's connection, with the bytes that were received on it.
#[derive(Default)]
pub struct Connection {
    buffer: Vec<u8>,
    authenticated: bool,
    queued: Option<Transaction>,
    closed: bool,
}

#[derive(Default)]
struct Transaction {
    commands: Vec<Words>,
    broken: bool,
}

/// What the server refuses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing.
    Well,
    /// It refuses everything with this error.
    Refusing(&'static str),
    /// It refuses writes with this error.
    ReadOnly(&'static str),
}

impl Server {
    /// An empty server.
    pub fn new(password: Option<String>, sabotage: Vec<(String, String)>) -> Self {
        let keys = Rc::new(RefCell::new(Keys::default()));
        Self {
            scripts: Scripts::new(&keys),
            keys,
            password,
            sabotage,
            sabotaged: Cell::default(),
            commands: Cell::default(),
        }
    }

    /// Removes all data, like a restart without persistence.
    pub fn lose_everything(&self) {
        self.keys.borrow_mut().clear();
    }

    /// How many commands it has executed.
    pub fn commands(&self) -> u64 {
        self.commands.get()
    }

    /// How often a script was executed with a replacement.
    pub fn sabotaged(&self) -> u64 {
        self.sabotaged.get()
    }

    /// Runs a command of another client.
    pub fn tamper<W: AsRef<[u8]>>(&self, now: u64, words: &[W]) -> Reply {
        let args: Words = words.iter().map(|word| word.as_ref().to_vec()).collect();
        self.run(&args, now, Mood::Well)
    }

    /// The names of all keys.
    pub fn names(&self) -> Vec<String> {
        self.keys.borrow().names().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Reads the received bytes and replies to each complete command. `now` is the server's clock, in milliseconds
    /// since the epoch.
    pub fn feed(&self, connection: &mut Connection, bytes: &[u8], now: u64, mood: Mood) -> Vec<u8> {
        let mut out = Vec::new();
        connection.buffer.extend_from_slice(bytes);
        while !connection.closed {
            match take_command(&mut connection.buffer) {
                Ok(None) => break,
                Ok(Some(args)) if args.is_empty() => {}
                Ok(Some(args)) => self.answer(connection, args, now, mood).encode(&mut out),
                Err(error) => {
                    connection.closed = true;
                    Reply::Error(error).encode(&mut out);
                }
            }
        }
        out
    }

    /// Replies to one command, which must have a name.
    pub fn answer(&self, connection: &mut Connection, args: Words, now: u64, mood: Mood) -> Reply {
        let name = String::from_utf8_lossy(&args[0]).to_ascii_uppercase();
        if name == "AUTH" {
            return self.authenticate(connection, &args);
        }
        if self.password.is_some() && !connection.authenticated {
            return Reply::Error("NOAUTH Authentication required.".to_owned());
        }
        let refused = match mood {
            Mood::Refusing(error) => Some(error),
            Mood::ReadOnly(error) if commands::is_refused(error, &name) => Some(error),
            _ => None,
        };
        if let Some(error) = refused {
            if let Some(transaction) = &mut connection.queued {
                transaction.broken = true;
            }
            return Reply::Error(error.to_owned());
        }
        match (name.as_str(), &mut connection.queued) {
            ("MULTI", None) => {
                connection.queued = Some(Transaction::default());
                Reply::ok()
            }
            ("MULTI", Some(_)) => Reply::Error("ERR MULTI calls can not be nested".to_owned()),
            ("EXEC" | "DISCARD", None) => Reply::Error(format!("ERR {name} without MULTI")),
            ("DISCARD", Some(_)) => {
                connection.queued = None;
                Reply::ok()
            }
            ("EXEC", Some(_)) => match connection.queued.take() {
                Some(transaction) if !transaction.broken => {
                    let run = |args: &Words| self.run(args, now, mood);
                    Reply::Array(transaction.commands.iter().map(run).collect())
                }
                _ => Reply::Error("EXECABORT Transaction discarded because of previous errors.".to_owned()),
            },
            (_, Some(transaction)) => {
                transaction.commands.push(args);
                Reply::Simple("QUEUED".to_owned())
            }
            (_, None) => self.run(&args, now, mood),
        }
    }

    fn authenticate(&self, connection: &mut Connection, args: &[Vec<u8>]) -> Reply {
        let given = match args {
            [_, password] => password,
            [_, user, password] if user == b"default" => password,
            _ => {
                return Reply::Error(
                    "WRONGPASS invalid username-password pair or user is disabled.".to_owned(),
                );
            }
        };
        match &self.password {
            None => Reply::Error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?"
                    .to_owned(),
            ),
            Some(password) if password.as_bytes() == given => {
                connection.authenticated = true;
                Reply::ok()
            }
            Some(_) => Reply::Error("WRONGPASS invalid username-password pair or user is disabled.".to_owned()),
        }
    }

    fn run(&self, args: &[Vec<u8>], now: u64, mood: Mood) -> Reply {
        self.commands.set(self.commands.get() + 1);
        let name = String::from_utf8_lossy(&args[0]).to_ascii_uppercase();
        // A script sees the same time throughout.
        let mut keys = self.keys.borrow_mut();
        keys.now = now;
        keys.refuses = if let Mood::ReadOnly(error) = mood { Some(error) } else { None };
        keys.is_dirty = false;
        drop(keys);
        match name.as_str() {
            "EVAL" => self.eval(args),
            _ => commands::execute(&mut self.keys.borrow_mut(), &name, args),
        }
    }

    fn eval(&self, args: &[Vec<u8>]) -> Reply {
        let [_, script, count, rest @ ..] = args else {
            return Reply::Error("ERR wrong number of arguments for 'eval' command".to_owned());
        };
        let Some(count) = text(count).parse::<usize>().ok().filter(|count| *count <= rest.len()) else {
            return Reply::Error("ERR Number of keys can't be greater than number of args".to_owned());
        };
        let (keys, args) = rest.split_at(count);
        self.keys.borrow_mut().expire();
        self.scripts.eval(&self.changed(script), keys, args)
    }

    fn changed<'a>(&self, script: &'a [u8]) -> Cow<'a, [u8]> {
        if self.sabotage.is_empty() {
            return Cow::Borrowed(script);
        }
        let mut changed = text(script).into_owned();
        for (from, to) in &self.sabotage {
            if changed.contains(from.as_str()) {
                changed = changed.replace(from.as_str(), to);
                self.sabotaged.set(self.sabotaged.get() + 1);
            }
        }
        Cow::Owned(changed.into_bytes())
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests;
