//! A Redis in memory: the commands that the store uses, with their real replies, and its scripts written out in Rust.
//! That the scripts themselves say the same is for the simulator, which runs them, and for real Redis to show.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::host::{Callout, CalloutError, CalloutReply};
use crate::revocation::stream::{READ, WRITE};
use crate::session::script;
use crate::testing::stream::{Fields, Id, Stream};

#[derive(Default)]
pub struct MemoryRedis {
    hashes: RefCell<HashMap<String, Hash>>,
    strings: RefCell<HashMap<String, Vec<u8>>>,
    sets: RefCell<HashMap<String, Scored>>,
    streams: RefCell<HashMap<String, Stream>>,
    refused: RefCell<Vec<&'static [u8]>>,
    down: RefCell<Option<CalloutError>>,
    refuses_writes: Cell<Option<&'static str>>,
    now: Cell<u64>,
    /// How far its clock is behind.
    behind: Cell<u64>,
    /// How many more readings of the log succeed.
    reads_left: Cell<Option<u32>>,
    /// How many callouts came, polls of the log not counted.
    pub operations: Cell<u32>,
}

/// Where the log is.
const LOG: &str = "mlflow:revoked";

type Hash = HashMap<String, Vec<u8>>;
/// Members with their scores.
type Scored = Vec<(u64, Vec<u8>)>;

impl MemoryRedis {
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    pub fn set_down(&self, error: Option<CalloutError>) {
        *self.down.borrow_mut() = error;
    }

    /// A replica answers reads, and refuses to write.
    pub fn set_read_only(&self, read_only: bool) {
        self.refuse_writes(read_only.then_some("READONLY You can't write against a read only replica."));
    }

    /// Answers what writes with this error, and still reads.
    pub fn refuse_writes(&self, error: Option<&'static str>) {
        self.refuses_writes.set(error);
    }

    /// Of all keys but the log's.
    pub fn keys(&self) -> Vec<String> {
        let (hashes, strings, sets) = (self.hashes.borrow(), self.strings.borrow(), self.sets.borrow());
        let mut keys: Vec<String> = hashes.keys().chain(strings.keys()).chain(sets.keys()).cloned().collect();
        keys.sort();
        keys
    }

    /// Entries in all logs.
    pub fn log_len(&self) -> usize {
        self.streams.borrow().values().map(|log| log.entries.len()).sum()
    }

    /// Drops all entries of the logs but the latest.
    pub fn trim_logs(&self) {
        for log in self.streams.borrow_mut().values_mut() {
            let surplus = log.entries.len().saturating_sub(1);
            log.entries.drain(..surplus);
        }
    }

    /// What somebody does who can write to Redis: adds an entry to the log.
    pub fn poison_log(&self, id: Id, fields: Fields) {
        self.streams.borrow_mut().entry(LOG.to_owned()).or_default().add_as(id, fields);
    }

    /// Deletes those entries of the log again; Redis goes on from the id that it gave out last.
    pub fn delete_from_log(&self, which: impl Fn(Id) -> bool) {
        let mut streams = self.streams.borrow_mut();
        streams.entry(LOG.to_owned()).or_default().entries.retain(|(id, _)| !which(*id));
    }

    /// `DEL` of the log.
    pub fn drop_log(&self) {
        self.streams.borrow_mut().remove(LOG);
    }

    /// Puts a text where the log should be.
    pub fn replace_log(&self) {
        self.drop_log();
        self.strings.borrow_mut().insert(LOG.to_owned(), b"x".to_vec());
    }

    /// Takes that away again.
    pub fn take_replacement_away(&self) {
        self.strings.borrow_mut().remove(LOG);
    }

    pub fn set_clock_back(&self, by: Duration) {
        self.behind.set(by.as_millis() as u64);
    }

    /// Answers so many readings of the log, and then no more.
    pub fn fail_reads_after(&self, count: u32) {
        self.reads_left.set(Some(count));
    }

    /// Refuses a command, or those scripts that have the word in their text.
    pub fn refuse(&self, command: &'static [u8]) {
        self.refused.borrow_mut().push(command);
    }

    pub fn refuse_nothing(&self) {
        self.refused.borrow_mut().clear();
    }

    pub fn forget_everything(&self) {
        self.hashes.borrow_mut().clear();
        self.strings.borrow_mut().clear();
        self.sets.borrow_mut().clear();
        self.streams.borrow_mut().clear();
    }

    /// Changes the sealed record of every session.
    pub fn tamper(&self, change: impl Fn(&mut Vec<u8>)) {
        self.change_field("rec", change);
    }

    /// Changes a field of every session.
    pub fn change_field(&self, field: &str, change: impl Fn(&mut Vec<u8>)) {
        for hash in self.hashes.borrow_mut().values_mut() {
            if let Some(value) = hash.get_mut(field) {
                change(value);
            }
        }
    }

    /// Writes a field of every session.
    pub fn set_field(&self, field: &str, value: &str) {
        for hash in self.hashes.borrow_mut().values_mut() {
            hash.insert(field.to_owned(), value.as_bytes().to_vec());
        }
    }

    pub fn answer(&self, callout: &Callout, now: u64) -> Result<CalloutReply, CalloutError> {
        if let Some(error) = *self.down.borrow() {
            return Err(error);
        }
        self.now.set(now - self.behind.get());
        let mut replies = Vec::new();
        let commands = commands(&callout.body);
        if !commands.iter().any(|command| command.len() > 1 && command[1] == READ.as_bytes()) {
            self.operations.set(self.operations.get() + 1);
        }
        for command in commands {
            replies.extend(self.execute(&command));
        }
        Ok(CalloutReply { status: 200, headers: Vec::new(), body: replies })
    }

    fn execute(&self, command: &[Vec<u8>]) -> Vec<u8> {
        let text = |index: usize| String::from_utf8_lossy(&command[index]).into_owned();
        let key = || text(1);
        let has = |wanted: &[u8]| command[..command.len().min(2)].iter().any(|word| contains(word, wanted));
        if self.refused.borrow().iter().any(|refused| has(refused)) {
            return b"-ERR refused\r\n".to_vec();
        }
        let reads = [&b"AUTH"[..], b"ECHO", b"HMGET", b"EXISTS", b"ZREVRANGE"];
        let is_read = reads.contains(&command[0].as_slice()) || has(READ.as_bytes());
        // Without memory Redis still runs what takes none.
        let writes = [&b"'HSET'"[..], b"'XADD'"];
        let takes_memory = [&b"SET"[..], b"HSET", b"ZADD"].contains(&command[0].as_slice())
            || command[0] == b"EVAL" && writes.iter().any(|write| contains(&command[1], write));
        if let Some(error) = self.refuses_writes.get()
            && !is_read
            && (takes_memory || !error.starts_with("OOM"))
        {
            return format!("-{error}\r\n").into_bytes();
        }
        let mut hashes = self.hashes.borrow_mut();
        let mut sets = self.sets.borrow_mut();
        match command[0].as_slice() {
            b"AUTH" => b"+OK\r\n".to_vec(),
            b"ECHO" => bulk(Some(&command[1])),
            b"SET" if self.strings.borrow().contains_key(&key()) => bulk(None),
            b"SET" => {
                self.strings.borrow_mut().insert(key(), command[2].clone());
                b"+OK\r\n".to_vec()
            }
            b"GET" => bulk(self.strings.borrow().get(&key()).map(Vec::as_slice)),
            b"HSET" => {
                let hash = hashes.entry(key()).or_default();
                for pair in command[2..].chunks(2) {
                    hash.insert(String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone());
                }
                integer(command[2..].len() as u64 / 2)
            }
            b"PEXPIRE" => integer(1),
            b"HMGET" => {
                let hash = hashes.get(&key());
                let values = command[2..].iter().map(|field| {
                    bulk(hash.and_then(|hash| hash.get(&*String::from_utf8_lossy(field))).map(Vec::as_slice))
                });
                array(values)
            }
            b"DEL" => {
                let removed =
                    hashes.remove(&key()).is_some() || self.strings.borrow_mut().remove(&key()).is_some();
                integer(u64::from(removed))
            }
            b"EXISTS" => {
                let is_there = hashes.contains_key(&key()) || self.strings.borrow().contains_key(&key());
                integer(u64::from(is_there))
            }
            b"ZADD" => {
                let set = sets.entry(key()).or_default();
                set.push((text(2).parse().unwrap(), command[3].clone()));
                set.sort();
                integer(1)
            }
            b"ZREM" => {
                sets.entry(key()).or_default().retain(|(_, member)| !command[2..].contains(member));
                integer(1)
            }
            b"ZREMRANGEBYSCORE" => {
                let oldest = text(3).parse().unwrap();
                sets.entry(key()).or_default().retain(|(score, _)| *score > oldest);
                integer(0)
            }
            b"ZREMRANGEBYRANK" => {
                let set = sets.entry(key()).or_default();
                let surplus = set.len().saturating_sub(100);
                set.drain(..surplus);
                integer(surplus as u64)
            }
            b"ZREVRANGE" => {
                let set = sets.get(&key()).cloned().unwrap_or_default();
                array(set.iter().rev().flat_map(|(score, member)| {
                    [bulk(Some(member)), bulk(Some(score.to_string().as_bytes()))]
                }))
            }
            b"EVAL" if [READ, WRITE].contains(&&*text(1)) => {
                if self.strings.borrow().contains_key(&text(3)) {
                    return b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
                        .to_vec();
                }
                let mut streams = self.streams.borrow_mut();
                self.log_script(&text(1), streams.entry(text(3)).or_default(), &command[4..])
            }
            b"EVAL" if text(1) == script::CREATE => {
                let fields =
                    [("ver", b"1".to_vec()), ("rec", command[4].clone()), ("idle", command[6].clone())];
                hashes.insert(text(3), fields.map(|(name, value)| (name.to_owned(), value)).into());
                integer(1)
            }
            b"EVAL" => self.script(&text(1), hashes.get_mut(&text(3)), &command[4..]).unwrap_or_else(|| {
                hashes.remove(&text(3));
                if text(1) == script::END_UNUSED { array([bulk(Some(b"ended"))]) } else { integer(1) }
            }),
            other => format!("-ERR unknown command {}\r\n", String::from_utf8_lossy(other)).into_bytes(),
        }
    }

    fn log_script(&self, script: &str, stream: &mut Stream, arguments: &[Vec<u8>]) -> Vec<u8> {
        let text = |index: usize| String::from_utf8_lossy(&arguments[index]).into_owned();
        let now = self.now.get();
        let id =
            |id: Option<Id>| bulk(Some(id.map_or(String::new(), |(m, n)| format!("{m}-{n}")).as_bytes()));
        if script == WRITE {
            let (margin, most) = (text(0).parse().unwrap(), text(1).parse().unwrap());
            let (newest, was_wrong) = stream.write(now, margin, most, &arguments[3..]);
            return array([id(newest), integer(u64::from(was_wrong))]);
        }
        if let Some(left) = self.reads_left.get() {
            self.reads_left.set(Some(left.saturating_sub(1)));
            if left == 0 {
                return b"-LOADING\r\n".to_vec();
            }
        }
        let after = text(0);
        let after = after
            .trim_start_matches('(')
            .split_once('-')
            .and_then(|(millis, number)| Some((millis.parse().ok()?, number.parse().ok()?)));
        let page = stream.read(now, after.unwrap_or_default(), text(1).parse().unwrap());
        array([
            integer(now),
            id(page.first),
            id(page.last),
            id(page.seen),
            integer(u64::from(page.more)),
            array(page.values.iter().map(|value| bulk(Some(value)))),
        ])
    }

    /// `None`: the key is deleted.
    fn script(&self, script: &str, hash: Option<&mut Hash>, arguments: &[Vec<u8>]) -> Option<Vec<u8>> {
        let word = |word: &str| bulk(Some(word.as_bytes()));
        let argument = |index: usize| arguments[index].clone();
        let number = |index: usize| String::from_utf8_lossy(&arguments[index]).parse::<u64>().unwrap();
        let now = self.now.get();
        let answers_words = [script::TOUCH, script::END_UNUSED, script::ACQUIRE].contains(&script);
        let Some(hash) = hash else {
            return Some(if answers_words { array([word("gone")]) } else { integer(0) });
        };
        let field = |hash: &Hash, name: &str| hash.get(name).cloned();
        let time = |hash: &Hash, name: &str| {
            field(hash, name).map(|value| String::from_utf8_lossy(&value).parse::<u64>().unwrap())
        };
        let changed = |hash: &Hash| {
            array([word("changed"), bulk(field(hash, "ver").as_deref()), bulk(field(hash, "rec").as_deref())])
        };
        let fence_is_ours = field(hash, "fence").as_ref() == arguments.first();
        let ours = fence_is_ours && field(hash, "ver").as_ref() == arguments.get(1);
        let set =
            |hash: &mut Hash, name: &str, value: String| hash.insert(name.to_owned(), value.into_bytes());
        Some(match script {
            script::TOUCH | script::END_UNUSED if field(hash, "ver").as_ref() != arguments.first() => {
                changed(hash)
            }
            script::TOUCH | script::END_UNUSED if hash.contains_key("until") => array([word("busy")]),
            script::END_UNUSED => return None,
            script::TOUCH => {
                hash.insert("ver".into(), argument(1));
                hash.insert("rec".into(), argument(2));
                hash.insert("idle".into(), argument(4));
                array([word("written")])
            }
            script::ACQUIRE => {
                if field(hash, "ver").as_ref() != arguments.first() {
                    return Some(changed(hash));
                }
                let left = |until: Option<u64>, longest: u64| {
                    let left = until.unwrap_or(0).saturating_sub(now);
                    if left > longest { 0 } else { left }
                };
                if left(time(hash, "retry"), 60_000) > 0 {
                    return Some(array([word("later"), integer(left(time(hash, "retry"), 60_000))]));
                }
                let again = hash.contains_key("until")
                    && !hash.contains_key("lapsed")
                    && field(hash, "owner").as_ref() == arguments.get(3);
                if hash.contains_key("until") && !again {
                    let held =
                        left(time(hash, "until"), time(hash, "lease").unwrap_or(number(1)) + number(2));
                    if held > 0 {
                        return Some(array([word("held"), integer(held)]));
                    }
                    if !hash.contains_key("lapsed") {
                        set(hash, "lapsed", "1".into());
                        set(hash, "until", (now + number(2)).to_string());
                        return Some(array([word("held"), integer(number(2))]));
                    }
                }
                let fence = time(hash, "fence").unwrap_or(0) + u64::from(!again);
                hash.insert("owner".into(), argument(3));
                hash.insert("lease".into(), argument(1));
                set(hash, "fence", fence.to_string());
                set(hash, "until", (now + number(1)).to_string());
                hash.remove("lapsed");
                hash.remove("retry");
                array([word("yours"), integer(fence)])
            }
            script::RENEW if fence_is_ours && hash.contains_key("until") => {
                set(hash, "until", (now + number(1)).to_string());
                hash.remove("lapsed");
                integer(1)
            }
            script::COMMIT if ours => {
                hash.insert("ver".into(), argument(2));
                hash.insert("rec".into(), argument(3));
                hash.insert("idle".into(), argument(5));
                let _ = ["until", "lapsed", "retry", "fails"].map(|name| hash.remove(name));
                integer(1)
            }
            script::RELEASE_AFTER if fence_is_ours => {
                let fails = time(hash, "fails").unwrap_or(0) + 1;
                set(hash, "fails", fails.to_string());
                let pause = (number(1) << (fails - 1).min(16)).min(number(2));
                set(hash, "retry", (now + pause).to_string());
                let _ = ["until", "lapsed"].map(|name| hash.remove(name));
                integer(pause)
            }
            script::END if ours => return None,
            script::RENEW | script::COMMIT | script::RELEASE_AFTER | script::END => integer(0),
            other => format!("-ERR unknown script {other}\r\n").into_bytes(),
        })
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn integer(number: u64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
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
