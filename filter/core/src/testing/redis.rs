//! A Redis in memory: the commands that the store uses, with their real replies.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::host::{Callout, CalloutError, CalloutReply};

#[derive(Default)]
pub struct MemoryRedis {
    hashes: RefCell<HashMap<String, HashMap<String, Vec<u8>>>>,
    strings: RefCell<HashMap<String, Vec<u8>>>,
    down: RefCell<Option<CalloutError>>,
}

impl MemoryRedis {
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    pub fn set_down(&self, error: Option<CalloutError>) {
        *self.down.borrow_mut() = error;
    }

    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            self.hashes.borrow().keys().chain(self.strings.borrow().keys()).cloned().collect();
        keys.sort();
        keys
    }

    pub fn forget_everything(&self) {
        self.hashes.borrow_mut().clear();
        self.strings.borrow_mut().clear();
    }

    /// Changes the sealed record of every session.
    pub fn tamper(&self, change: impl Fn(&mut Vec<u8>)) {
        for hash in self.hashes.borrow_mut().values_mut() {
            if let Some(record) = hash.get_mut("rec") {
                change(record);
            }
        }
    }

    pub fn answer(&self, callout: &Callout) -> Result<CalloutReply, CalloutError> {
        if let Some(error) = *self.down.borrow() {
            return Err(error);
        }
        let mut replies = Vec::new();
        let mut queued: Option<Vec<Vec<u8>>> = None;
        for command in commands(&callout.body) {
            match (command[0].as_slice(), &mut queued) {
                (b"MULTI", _) => {
                    queued = Some(Vec::new());
                    replies.extend_from_slice(b"+OK\r\n");
                }
                (b"EXEC", Some(results)) => {
                    replies.extend_from_slice(format!("*{}\r\n", results.len()).as_bytes());
                    replies.extend(results.concat());
                    queued = None;
                }
                (_, Some(results)) => {
                    results.push(self.execute(&command));
                    replies.extend_from_slice(b"+QUEUED\r\n");
                }
                (_, None) => replies.extend(self.execute(&command)),
            }
        }
        Ok(CalloutReply { status: 200, headers: Vec::new(), body: replies })
    }

    fn execute(&self, command: &[Vec<u8>]) -> Vec<u8> {
        let text = |index: usize| String::from_utf8_lossy(&command[index]).into_owned();
        let mut hashes = self.hashes.borrow_mut();
        match command[0].as_slice() {
            b"AUTH" => b"+OK\r\n".to_vec(),
            b"ECHO" => bulk(Some(&command[1])),
            b"SET" => {
                let mut strings = self.strings.borrow_mut();
                if strings.contains_key(&text(1)) {
                    return bulk(None);
                }
                strings.insert(text(1), command[2].clone());
                b"+OK\r\n".to_vec()
            }
            b"HSET" => {
                let hash = hashes.entry(text(1)).or_default();
                for pair in command[2..].chunks(2) {
                    hash.insert(String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone());
                }
                format!(":{}\r\n", command[2..].len() / 2).into_bytes()
            }
            b"PEXPIRE" => b":1\r\n".to_vec(),
            b"HMGET" => {
                let hash = hashes.get(&text(1));
                let values = command[2..].iter().map(|field| {
                    bulk(hash.and_then(|hash| hash.get(&*String::from_utf8_lossy(field))).map(Vec::as_slice))
                });
                let mut reply = format!("*{}\r\n", command.len() - 2).into_bytes();
                reply.extend(values.flatten());
                reply
            }
            b"DEL" => {
                let removed =
                    hashes.remove(&text(1)).is_some() || self.strings.borrow_mut().remove(&text(1)).is_some();
                format!(":{}\r\n", u8::from(removed)).into_bytes()
            }
            // The only script is the store's: write when the version is the one that was read.
            b"EVAL" => match hashes.get_mut(&text(3)) {
                Some(hash) if hash.get("ver") == Some(&command[4]) => {
                    hash.insert("ver".into(), command[5].clone());
                    hash.insert("rec".into(), command[6].clone());
                    b":1\r\n".to_vec()
                }
                _ => b":0\r\n".to_vec(),
            },
            other => format!("-ERR unknown command {}\r\n", String::from_utf8_lossy(other)).into_bytes(),
        }
    }
}

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}

fn commands(mut body: &[u8]) -> Vec<Vec<Vec<u8>>> {
    fn line<'a>(body: &mut &'a [u8]) -> &'a [u8] {
        let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let line = &body[..end];
        *body = &body[end + 2..];
        line
    }
    fn number(line: &[u8]) -> usize {
        std::str::from_utf8(&line[1..]).unwrap().parse().unwrap()
    }
    let mut commands = Vec::new();
    while !body.is_empty() {
        let count = number(line(&mut body));
        let args = (0..count).map(|_| {
            let len = number(line(&mut body));
            let value = body[..len].to_vec();
            body = &body[len + 2..];
            value
        });
        commands.push(args.collect());
    }
    commands
}
