//! The commands, one function each, as Redis 7 answers them.

use std::collections::BTreeMap;

use super::keys::{Data, Keys};
use super::stream;
use crate::resp::Reply;

type Hash = BTreeMap<Vec<u8>, Vec<u8>>;
type Sorted = BTreeMap<Vec<u8>, f64>;

/// Commands that change data and may need memory for it.
const WRITES: [&str; 7] = ["SET", "INCR", "INCRBY", "HSET", "HINCRBY", "ZADD", "XADD"];
/// Commands that change data and need no memory. A server that is out of memory still runs them.
const FREES: [&str; 9] =
    ["DEL", "PEXPIRE", "PERSIST", "HDEL", "ZREM", "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK", "XDEL", "XTRIM"];

/// Whether a command changes data, so that a replica refuses it.
fn is_write(name: &str) -> bool {
    WRITES.contains(&name) || FREES.contains(&name)
}

/// Whether a server that refuses writes with this error refuses this command. In a script, the calls of the script are
/// refused.
pub fn is_refused(error: &str, name: &str) -> bool {
    WRITES.contains(&name) || (FREES.contains(&name) && !error.starts_with("OOM"))
}

/// Runs a command that a script calls, unless the server refuses it.
pub fn call(keys: &mut Keys, name: &str, args: &[Vec<u8>]) -> Reply {
    if let Some(error) = keys.refuses
        && is_refused(error, name)
        && !keys.is_dirty
    {
        return Reply::Error(error.to_owned());
    }
    keys.is_dirty |= is_write(name);
    execute(keys, name, args)
}

/// Runs one command; `name` is in upper case.
pub fn execute(keys: &mut Keys, name: &str, args: &[Vec<u8>]) -> Reply {
    keys.expire();
    if let Some((least, most)) = arity(name)
        && !(least..=most).contains(&args.len())
    {
        let name = name.to_ascii_lowercase();
        return Reply::Error(format!("ERR wrong number of arguments for '{name}' command"));
    }
    run(keys, name, args).unwrap_or_else(|error| error)
}

/// The smallest and largest number of words of a command, including its name.
fn arity(name: &str) -> Option<(usize, usize)> {
    const ANY: usize = usize::MAX;
    Some(match name {
        "TIME" => (1, 1),
        "ECHO" | "GET" | "INCR" | "PERSIST" | "TTL" | "PTTL" | "TYPE" | "XLEN" => (2, 2),
        "EXISTS" | "DEL" => (2, ANY),
        "INCRBY" | "HGET" => (3, 3),
        "SET" | "HMGET" | "HDEL" | "ZREM" | "XDEL" => (3, ANY),
        "PEXPIRE" => (3, 4),
        "HINCRBY" | "ZREMRANGEBYSCORE" | "ZREMRANGEBYRANK" => (4, 4),
        "HSET" | "ZADD" | "ZRANGE" | "ZREVRANGE" | "ZRANGEBYSCORE" | "XRANGE" | "XREVRANGE" | "XREAD"
        | "XTRIM" => (4, ANY),
        "XADD" => (5, ANY),
        "XINFO" => (2, 4),
        _ => return None,
    })
}

fn run(keys: &mut Keys, name: &str, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    Ok(match name {
        "ECHO" => Reply::Bulk(args[1].clone()),
        "TIME" => {
            let text = |number: u64| Reply::Bulk(number.to_string().into_bytes());
            Reply::Array(vec![text(keys.now / 1000), text(keys.now % 1000 * 1000)])
        }
        "TYPE" => Reply::Simple(
            match keys.data(&args[1]) {
                None => "none",
                Some(Data::Text(_)) => "string",
                Some(Data::Hash(_)) => "hash",
                Some(Data::Sorted(_)) => "zset",
                Some(Data::Stream(_)) => "stream",
            }
            .to_owned(),
        ),
        "EXISTS" => Reply::count(args[1..].iter().filter(|key| keys.contains(key)).count()),
        "DEL" => Reply::count(args[1..].iter().filter(|key| keys.remove(key)).count()),
        "PEXPIRE" => expire(keys, args)?,
        "PERSIST" => {
            let had_one = keys.end(&args[1]).flatten().is_some();
            keys.set_end(&args[1], None);
            Reply::truth(had_one)
        }
        "TTL" | "PTTL" => match keys.end(&args[1]) {
            None => Reply::Integer(-2),
            Some(None) => Reply::Integer(-1),
            Some(Some(end)) => {
                let left = end.saturating_sub(keys.now);
                Reply::Integer(signed(if name == "TTL" { (left + 500) / 1000 } else { left }))
            }
        },
        "SET" => set(keys, args)?,
        "GET" => Reply::bulk(keys.get(&args[1])?),
        "INCR" | "INCRBY" => {
            let by = args.get(2).map_or(Ok(1), |by| integer(by))?;
            let old = keys.get::<Vec<u8>>(&args[1])?.map_or(Ok(0), |text| integer(text))?;
            let new = old.checked_add(by).ok_or_else(Reply::not_an_integer)?;
            keys.change(&args[1], |text: &mut Vec<u8>| *text = new.to_string().into_bytes())?;
            Reply::Integer(new)
        }
        "HSET" | "HDEL" | "HINCRBY" | "HGET" | "HMGET" => hash(keys, name, args)?,
        "ZADD" | "ZREM" | "ZRANGE" | "ZREVRANGE" | "ZRANGEBYSCORE" | "ZREMRANGEBYSCORE"
        | "ZREMRANGEBYRANK" => sorted(keys, name, args)?,
        "XADD" => stream::add(keys, args)?,
        "XDEL" => stream::delete(keys, args)?,
        "XTRIM" => stream::trim(keys, args)?,
        "XLEN" => stream::len(keys, args)?,
        "XRANGE" => stream::range(keys, args, false)?,
        "XREVRANGE" => stream::range(keys, args, true)?,
        "XREAD" => stream::read(keys, args)?,
        "XINFO" => stream::info(keys, args)?,
        _ => {
            let mut shown = format!("ERR unknown command '{name}', with args beginning with: ");
            for arg in &args[1..] {
                shown.push_str(&format!("'{}' ", String::from_utf8_lossy(arg)));
            }
            return Err(Reply::Error(shown));
        }
    })
}

/// `SET key value [NX|XX] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]`
fn set(keys: &mut Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let key = &args[1];
    let (mut only_new, mut only_old, mut get, mut keep) = (false, false, false, false);
    let mut end = None;
    let mut rest = args[3..].iter();
    while let Some(word) = rest.next() {
        match word.to_ascii_uppercase().as_slice() {
            b"NX" => only_new = true,
            b"XX" => only_old = true,
            b"GET" => get = true,
            b"KEEPTTL" => keep = true,
            _ => {
                let amount = rest.next().ok_or_else(Reply::syntax)?;
                let given = end_of(keys.now, word, amount)?.ok_or_else(Reply::syntax)?;
                if end.replace(given).is_some() {
                    return Err(Reply::syntax());
                }
            }
        }
    }
    if only_new && only_old || keep && end.is_some() {
        return Err(Reply::syntax());
    }
    let old = if get { Some(Reply::bulk(keys.get(key)?)) } else { None };
    let exists = keys.contains(key);
    if only_new && exists || only_old && !exists {
        return Ok(old.unwrap_or(Reply::Nil));
    }
    let kept = if keep { keys.end(key).flatten() } else { None };
    keys.set(key, &args[2]);
    keys.set_end(key, end.or(kept));
    Ok(old.unwrap_or_else(Reply::ok))
}

/// The time that `EX s`, `PX ms`, `EXAT s` or `PXAT ms` means; `None` for any other word.
fn end_of(now: u64, word: &[u8], amount: &[u8]) -> Result<Option<u64>, Reply> {
    let (unit, from) = match word.to_ascii_uppercase().as_slice() {
        b"EX" => (1000, now),
        b"PX" => (1, now),
        b"EXAT" => (1000, 0),
        b"PXAT" => (1, 0),
        _ => return Ok(None),
    };
    match u64::try_from(integer(amount)?) {
        Ok(amount) if amount > 0 => Ok(Some(from + amount * unit)),
        _ => Err(Reply::Error("ERR invalid expire time in 'set' command".to_owned())),
    }
}

/// `PEXPIRE key ms [NX|XX|GT|LT]`
fn expire(keys: &mut Keys, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let end = signed(keys.now).saturating_add(integer(&args[2])?);
    let Some(old) = keys.end(&args[1]) else { return Ok(Reply::Integer(0)) };
    let new = u64::try_from(end).unwrap_or_default();
    let applies = match args.get(3) {
        None => true,
        Some(word) if is(word, "NX") => old.is_none(),
        Some(word) if is(word, "XX") => old.is_some(),
        // A key without an expiry counts as later than any.
        Some(word) if is(word, "GT") => old.is_some_and(|old| new > old),
        Some(word) if is(word, "LT") => old.is_none_or(|old| new < old),
        Some(word) => {
            let word = String::from_utf8_lossy(word).into_owned();
            return Err(Reply::Error(format!("ERR Unsupported option {word}")));
        }
    };
    if applies {
        keys.set_end(&args[1], Some(new));
    }
    Ok(Reply::truth(applies))
}

fn hash(keys: &mut Keys, name: &str, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let key = &args[1];
    Ok(match name {
        "HSET" => {
            if args.len() % 2 == 1 {
                return Err(Reply::Error("ERR wrong number of arguments for 'hset' command".to_owned()));
            }
            keys.change(key, |hash: &mut Hash| {
                let pairs = args[2..].chunks(2);
                Reply::count(pairs.filter(|p| hash.insert(p[0].clone(), p[1].clone()).is_none()).count())
            })?
        }
        "HDEL" => match keys.get::<Hash>(key)? {
            None => Reply::Integer(0),
            Some(_) => keys.change(key, |hash: &mut Hash| {
                Reply::count(args[2..].iter().filter(|field| hash.remove(*field).is_some()).count())
            })?,
        },
        "HINCRBY" => {
            let by = integer(&args[3])?;
            let old = keys.get::<Hash>(key)?.and_then(|hash| hash.get(&args[2]));
            let old = old.map_or(Ok(0), |text| {
                integer(text).map_err(|_| Reply::Error("ERR hash value is not an integer".to_owned()))
            })?;
            let new = old.checked_add(by).ok_or_else(Reply::not_an_integer)?;
            keys.change(key, |hash: &mut Hash| hash.insert(args[2].clone(), new.to_string().into_bytes()))?;
            Reply::Integer(new)
        }
        "HMGET" => {
            let hash = keys.get::<Hash>(key)?;
            let value = |field| Reply::bulk(hash.and_then(|hash| hash.get(field)));
            Reply::Array(args[2..].iter().map(value).collect())
        }
        _ => Reply::bulk(keys.get::<Hash>(key)?.and_then(|hash| hash.get(&args[2]))),
    })
}

fn sorted(keys: &mut Keys, name: &str, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let key = &args[1];
    Ok(match name {
        "ZADD" => {
            let pairs = &args[2..];
            if pairs.len() % 2 == 1 {
                return Err(Reply::syntax());
            }
            let mut members = Vec::new();
            for pair in pairs.chunks(2) {
                members.push((score(&pair[0])?.0, pair[1].clone()));
            }
            keys.change(key, |set: &mut Sorted| {
                let new = members
                    .into_iter()
                    .filter(|(score, member)| set.insert(member.clone(), *score).is_none());
                Reply::count(new.count())
            })?
        }
        "ZREM" => match keys.get::<Sorted>(key)? {
            None => Reply::Integer(0),
            Some(_) => keys.change(key, |set: &mut Sorted| {
                Reply::count(args[2..].iter().filter(|member| set.remove(*member).is_some()).count())
            })?,
        },
        "ZRANGE" | "ZREVRANGE" | "ZREMRANGEBYRANK" => ranked(keys, name, args)?,
        _ => {
            let (least, most) = (score(&args[2])?, score(&args[3])?);
            let within = |score: f64| {
                (if least.1 { score > least.0 } else { score >= least.0 })
                    && (if most.1 { score < most.0 } else { score <= most.0 })
            };
            let set = keys.get::<Sorted>(key)?;
            let mut found: Vec<(f64, Vec<u8>)> = set
                .into_iter()
                .flatten()
                .filter(|(_, score)| within(**score))
                .map(|(member, score)| (*score, member.clone()))
                .collect();
            found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            if name == "ZREMRANGEBYSCORE" {
                if set.is_some() {
                    keys.change(key, |set: &mut Sorted| set.retain(|_, score| !within(*score)))?;
                }
                return Ok(Reply::count(found.len()));
            }
            let (skip, take) = match &args[4..] {
                [] => (0, usize::MAX),
                [word, skip, take] if is(word, "LIMIT") => {
                    let number =
                        |text: &[u8]| integer(text).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
                    (number(skip)?, number(take)?)
                }
                _ => return Err(Reply::syntax()),
            };
            Reply::Array(
                found.into_iter().skip(skip).take(take).map(|(_, member)| Reply::Bulk(member)).collect(),
            )
        }
    })
}

/// Commands by rank: `ZRANGE key start stop [WITHSCORES]`, `ZREVRANGE`, `ZREMRANGEBYRANK key start stop`.
fn ranked(keys: &mut Keys, name: &str, args: &[Vec<u8>]) -> Result<Reply, Reply> {
    let (start, stop) = (integer(&args[2])?, integer(&args[3])?);
    let with_scores = match &args[4..] {
        [] => false,
        [word] if is(word, "WITHSCORES") => true,
        _ => return Err(Reply::syntax()),
    };
    let Some(set) = keys.get::<Sorted>(&args[1])? else {
        let removes = name == "ZREMRANGEBYRANK";
        return Ok(if removes { Reply::Integer(0) } else { Reply::Array(Vec::new()) });
    };
    let mut all: Vec<(f64, Vec<u8>)> = set.iter().map(|(member, score)| (*score, member.clone())).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    if name == "ZREVRANGE" {
        all.reverse();
    }
    let len = i64::try_from(all.len()).unwrap_or(i64::MAX);
    // Negative numbers count from the end.
    let place = |index: i64| if index < 0 { len + index } else { index };
    let first = usize::try_from(place(start).max(0)).unwrap_or(usize::MAX);
    let end = usize::try_from((place(stop) + 1).clamp(0, len)).unwrap_or_default();
    let chosen = all.get(first..end).unwrap_or_default().to_vec();
    if name == "ZREMRANGEBYRANK" {
        keys.change(&args[1], |set: &mut Sorted| {
            for (_, member) in &chosen {
                set.remove(member);
            }
        })?;
        return Ok(Reply::count(chosen.len()));
    }
    Ok(Reply::Array(
        chosen
            .into_iter()
            .flat_map(|(score, member)| {
                let score = with_scores.then(|| Reply::Bulk(score.to_string().into_bytes()));
                [Some(Reply::Bulk(member)), score].into_iter().flatten()
            })
            .collect(),
    ))
}

/// A score, and whether the bound is exclusive.
fn score(text: &[u8]) -> Result<(f64, bool), Reply> {
    let (text, excluded) = text.strip_prefix(b"(").map_or((text, false), |rest| (rest, true));
    match text {
        b"-inf" => Ok((f64::NEG_INFINITY, excluded)),
        b"+inf" | b"inf" => Ok((f64::INFINITY, excluded)),
        _ => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(|score| (score, excluded))
            .ok_or_else(|| Reply::Error("ERR min or max is not a float".to_owned())),
    }
}

fn integer(text: &[u8]) -> Result<i64, Reply> {
    // As strict as Redis: no plus sign, leading zeros or spaces.
    let text = std::str::from_utf8(text).map_err(|_| Reply::not_an_integer())?;
    let number: i64 = text.parse().map_err(|_| Reply::not_an_integer())?;
    if number.to_string() == text { Ok(number) } else { Err(Reply::not_an_integer()) }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn is(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}
