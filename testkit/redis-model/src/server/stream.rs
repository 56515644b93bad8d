//! Streams: an append-only list of entries whose ids only grow.

use std::collections::BTreeMap;

use super::keys::Keys;
use crate::resp::Reply;

/// `milliseconds-sequence`.
pub type Id = (u64, u64);

/// One stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    entries: BTreeMap<Id, Vec<Vec<u8>>>,
    last: Id,
    added: u64,
    max_deleted: Id,
}

/// `XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT n]] *|id field value …`
pub fn add(keys: &mut Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let key = &args[1];
    let mut rest = &args[2..];
    let create = if is(rest.first(), "NOMKSTREAM") {
        rest = &rest[1..];
        false
    } else {
        true
    };
    let trim = Trim::parse(&mut rest)?;
    let [id, fields @ ..] = rest else { return Err(Reply::syntax()) };
    if fields.is_empty() || fields.len() % 2 == 1 {
        return Err(Reply::Error("ERR wrong number of arguments for 'xadd' command".to_owned()));
    }
    let existing = keys.get::<Stream>(key)?;
    if existing.is_none() && !create {
        return Ok(Reply::Nil);
    }
    let last = existing.map_or((0, 0), |stream| stream.last);
    let id = new_id(id, last, keys.now)?;
    keys.change(key, |stream: &mut Stream| {
        stream.entries.insert(id, fields.to_vec());
        stream.last = id;
        stream.added += 1;
        if let Some(trim) = trim {
            stream.trim(trim);
        }
    })?;
    Ok(Reply::Bulk(show(id)))
}

/// `XTRIM key MAXLEN|MINID [=|~] threshold`
pub fn trim(keys: &mut Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let mut rest = &args[2..];
    let trim = Trim::parse(&mut rest)?.ok_or_else(Reply::syntax)?;
    if !rest.is_empty() {
        return Err(Reply::syntax());
    }
    if keys.get::<Stream>(&args[1])?.is_none() {
        return Ok(Reply::Integer(0));
    }
    keys.change(&args[1], |stream: &mut Stream| Reply::count(stream.trim(trim)))
}

/// `XDEL key id …`. The last id of the stream does not change.
pub fn delete(keys: &mut Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    if keys.get::<Stream>(&args[1])?.is_none() {
        return Ok(Reply::Integer(0));
    }
    let ids: Vec<Id> = args[2..].iter().map(|id| parse(id, 0)).collect::<Result<_, _>>()?;
    keys.change(&args[1], |stream: &mut Stream| {
        let gone = ids.iter().filter(|id| stream.entries.remove(id).is_some());
        Reply::count(gone.inspect(|id| stream.max_deleted = stream.max_deleted.max(**id)).count())
    })
}

/// `XLEN key`
pub fn len(keys: &Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    Ok(Reply::count(keys.get::<Stream>(&args[1])?.map_or(0, |stream| stream.entries.len())))
}

/// `XRANGE key start end [COUNT n]`, and `XREVRANGE key end start [COUNT n]`.
pub fn range(keys: &Keys, args: &[Vec<u8>], backwards: bool) -> Result<Reply, Reply> {
    let (from, to) = if backwards { (&args[3], &args[2]) } else { (&args[2], &args[3]) };
    let (start, end) = (bound(from, Side::Start)?, bound(to, Side::End)?);
    let count = match &args[4..] {
        [] => usize::MAX,
        [word, count] if is(Some(word), "COUNT") => number(count)?,
        _ => return Err(Reply::syntax()),
    };
    let Some(stream) = keys.get::<Stream>(&args[1])? else { return Ok(Reply::Array(Vec::new())) };
    if start > end {
        return Ok(Reply::Array(Vec::new()));
    }
    let found = stream.entries.range(start..=end);
    let entries: Vec<Reply> = if backwards {
        found.rev().take(count).map(entry).collect()
    } else {
        found.take(count).map(entry).collect()
    };
    Ok(Reply::Array(entries))
}

/// `XREAD [COUNT n] STREAMS key … id …`, without `BLOCK`: a connection that is half-closed cannot wait.
pub fn read(keys: &Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let mut rest = &args[1..];
    let mut count = usize::MAX;
    if let [word, number_of, more @ ..] = rest
        && is(Some(word), "COUNT")
    {
        count = number(number_of)?;
        rest = more;
    }
    let [word, rest @ ..] = rest else { return Err(Reply::syntax()) };
    if !is(Some(word), "STREAMS") || rest.len() % 2 == 1 {
        return Err(Reply::syntax());
    }
    let (names, ids) = rest.split_at(rest.len() / 2);
    let mut found = Vec::new();
    for (name, id) in names.iter().zip(ids) {
        let Some(stream) = keys.get::<Stream>(name)? else { continue };
        let after = if id == b"$" { stream.last } else { parse(id, 0)? };
        let newer: Vec<Reply> =
            stream.entries.range(after..).filter(|(id, _)| **id > after).take(count).map(entry).collect();
        if !newer.is_empty() {
            found.push(Reply::Array(vec![Reply::Bulk(name.clone()), Reply::Array(newer)]));
        }
    }
    Ok(if found.is_empty() { Reply::NilArray } else { Reply::Array(found) })
}

/// `XINFO STREAM key`, with the reply of Redis 7.
pub fn info(keys: &Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    if !is(args.get(1), "STREAM") || args.len() != 3 {
        return Err(Reply::syntax());
    }
    let stream = keys.get::<Stream>(&args[2])?.ok_or_else(|| Reply::Error("ERR no such key".to_owned()))?;
    let text = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    let first = stream.entries.iter().next();
    let last = stream.entries.iter().next_back();
    Ok(Reply::Array(vec![
        text("length"),
        Reply::count(stream.entries.len()),
        text("radix-tree-keys"),
        Reply::Integer(1),
        text("radix-tree-nodes"),
        Reply::Integer(2),
        text("last-generated-id"),
        Reply::Bulk(show(stream.last)),
        text("max-deleted-entry-id"),
        Reply::Bulk(show(stream.max_deleted)),
        text("entries-added"),
        Reply::Integer(i64::try_from(stream.added).unwrap_or(i64::MAX)),
        text("recorded-first-entry-id"),
        Reply::Bulk(show(first.map_or((0, 0), |(id, _)| *id))),
        text("groups"),
        Reply::Integer(0),
        text("first-entry"),
        first.map_or(Reply::Nil, entry),
        text("last-entry"),
        last.map_or(Reply::Nil, entry),
    ]))
}

#[derive(Clone, Copy)]
enum Trim {
    MaxLen(usize),
    MinId(Id),
}

impl Trim {
    /// With `~` a real server may keep more entries. The model trims exactly, which is the harder case.
    fn parse(rest: &mut &[Vec<u8>]) -> Result<Option<Self>, Reply> {
        let by_len = is(rest.first(), "MAXLEN");
        if !by_len && !is(rest.first(), "MINID") {
            return Ok(None);
        }
        *rest = &rest[1..];
        if rest.first().is_some_and(|word| word == b"=" || word == b"~") {
            *rest = &rest[1..];
        }
        let [threshold, more @ ..] = *rest else { return Err(Reply::syntax()) };
        *rest = more;
        if let [word, _, more @ ..] = *rest
            && is(Some(word), "LIMIT")
        {
            *rest = more;
        }
        Ok(Some(if by_len { Self::MaxLen(number(threshold)?) } else { Self::MinId(parse(threshold, 0)?) }))
    }
}

impl Stream {
    fn trim(&mut self, trim: Trim) -> usize {
        let before = self.entries.len();
        while let Some((&id, _)) = self.entries.first_key_value() {
            let surplus = match trim {
                Trim::MaxLen(most) => self.entries.len() > most,
                Trim::MinId(least) => id < least,
            };
            if !surplus {
                break;
            }
            self.entries.pop_first();
        }
        before - self.entries.len()
    }
}

fn new_id(wanted: &[u8], last: Id, now: u64) -> Result<Id, Reply> {
    if wanted == b"*" {
        // Ids do not go back when the clock is set back.
        let next = if now > last.0 { Some((now, 0)) } else { after(last) };
        return next.ok_or_else(|| {
            let what = "ERR The stream has exhausted the last possible ID, unable to add more items";
            Reply::Error(what.to_owned())
        });
    }
    let id = match wanted.strip_suffix(b"-*") {
        Some(millis) => {
            let millis = number(millis)? as u64;
            (millis, if millis == last.0 { last.1 + 1 } else { 0 })
        }
        None => parse(wanted, 0)?,
    };
    if id == (0, 0) {
        return Err(Reply::Error("ERR The ID specified in XADD must be greater than 0-0".to_owned()));
    }
    if id <= last {
        return Err(Reply::Error(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item".to_owned(),
        ));
    }
    Ok(id)
}

/// The next larger id.
fn after((millis, sequence): Id) -> Option<Id> {
    match sequence.checked_add(1) {
        Some(sequence) => Some((millis, sequence)),
        None => Some((millis.checked_add(1)?, 0)),
    }
}

enum Side {
    Start,
    End,
}

fn bound(text: &[u8], side: Side) -> Result<Id, Reply> {
    let missing = match side {
        Side::Start => 0,
        Side::End => u64::MAX,
    };
    match (text, text.strip_prefix(b"(")) {
        (b"-", _) => Ok((0, 0)),
        (b"+", _) => Ok((u64::MAX, u64::MAX)),
        (_, Some(exclusive)) => {
            let (millis, sequence) = parse(exclusive, missing)?;
            Ok(match side {
                Side::Start => after((millis, sequence))
                    .ok_or_else(|| Reply::Error("ERR invalid start ID for the interval".to_owned()))?,
                Side::End => {
                    sequence.checked_sub(1).map_or((millis - 1, u64::MAX), |sequence| (millis, sequence))
                }
            })
        }
        _ => parse(text, missing),
    }
}

fn parse(text: &[u8], missing: u64) -> Result<Id, Reply> {
    let invalid = || Reply::Error("ERR Invalid stream ID specified as stream command argument".to_owned());
    let text = std::str::from_utf8(text).map_err(|_| invalid())?;
    match text.split_once('-') {
        Some((millis, sequence)) => {
            Ok((millis.parse().map_err(|_| invalid())?, sequence.parse().map_err(|_| invalid())?))
        }
        None => Ok((text.parse().map_err(|_| invalid())?, missing)),
    }
}

fn show((millis, sequence): Id) -> Vec<u8> {
    format!("{millis}-{sequence}").into_bytes()
}

fn entry((id, fields): (&Id, &Vec<Vec<u8>>)) -> Reply {
    let fields = fields.iter().cloned().map(Reply::Bulk).collect();
    Reply::Array(vec![Reply::Bulk(show(*id)), Reply::Array(fields)])
}

fn is(word: Option<&Vec<u8>>, expected: &str) -> bool {
    word.is_some_and(|word| word.eq_ignore_ascii_case(expected.as_bytes()))
}

fn number(text: &[u8]) -> Result<usize, Reply> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(Reply::not_an_integer)
}
