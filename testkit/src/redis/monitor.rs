//! Every command that a Redis executes, as reported by `MONITOR`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{Trouble, wait_until};

/// One command. `MONITOR` does not report `AUTH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// `127.0.0.1:port`, `unix:path` (the kit itself) or `lua` (inside a script).
    pub from: String,
    /// The command and its arguments. Bytes that are not printable ASCII are escaped as in `MONITOR`.
    pub words: Vec<String>,
}

impl Command {
    /// The command's name in capitals.
    pub fn name(&self) -> String {
        self.words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default()
    }

    /// The first argument: for most commands the key.
    pub fn key(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }
}

/// A connection in `MONITOR` mode; dropping it closes it.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    socket: std::path::PathBuf,
    password: String,
    lines: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    pub(super) fn start(socket: &Path, password: &str) -> Result<Self, Trouble> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("AUTH {password}\r\nMONITOR\r\n").as_bytes())?;
        let mut reader = BufReader::new(stream.try_clone()?);
        for _ in 0..2 {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim() != "+OK" {
                return Err(Trouble::new(format!("MONITOR is refused: {line}")));
            }
        }
        stream.set_read_timeout(None)?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let for_thread = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                for_thread.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let (socket, password) = (socket.to_owned(), password.to_owned());
        Ok(Self { stream, socket, password, lines, thread: Some(thread) })
    }

    /// All lines that `MONITOR` has reported since this monitor started.
    ///
    /// # Errors
    /// Redis is not reachable.
    pub fn lines(&self) -> Result<Vec<String>, Trouble> {
        // Once our own marker is reported, everything before it has been reported, too.
        let marker = crate::provider::random_text(20);
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(format!("AUTH {}\r\nECHO {marker}\r\n", self.password).as_bytes())?;
        let mut lines = Vec::new();
        let caught_up = wait_until(Duration::from_secs(5), || {
            lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
            lines.iter().any(|line| line.contains(&marker))
        });
        if !caught_up {
            return Err(Trouble::new("MONITOR does not tell our own command"));
        }
        lines.retain(|line| !line.contains(&marker));
        Ok(lines)
    }

    /// The commands that came over TCP: those of the gate, and `EXISTS` of the health check.
    ///
    /// # Errors
    /// As [`Monitor::lines`].
    pub fn commands(&self) -> Result<Vec<Command>, Trouble> {
        let commands = self.lines()?.iter().filter_map(|line| parse(line)).collect::<Vec<_>>();
        Ok(commands
            .into_iter()
            .filter(|command| !command.from.starts_with("unix:") && command.from != "lua")
            .collect())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
fn parse(line: &str) -> Option<Command> {
    let (_, rest) = line.split_once(" [")?;
    let (source, words) = rest.split_once("] ")?;
    let (_, from) = source.split_once(' ')?;
    // Redis escapes more than a shell does. Those escapes stay as they are.
    Some(Command { from: from.to_owned(), words: shlex::split(words).expect("Redis closes its quotes") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let command =
            parse(r#"+1339518083.107412 [0 127.0.0.1:60866] "hset" "p:s:x" "rec" "a\"b\\c \x00""#).unwrap();
        assert_eq!(command.from, "127.0.0.1:60866");
        assert_eq!((command.name().as_str(), command.key()), ("HSET", Some("p:s:x")));
        assert_eq!(command.words[3], r#"a"b\c \x00"#);
        assert_eq!(parse(r#"+1.1 [0 unix:/a/b.sock] "ping""#).unwrap().from, "unix:/a/b.sock");
        assert_eq!(parse("+OK"), None);
    }
}
