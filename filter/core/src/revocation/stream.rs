//! The stream in Redis that the log is: two scripts, one to write and one to read. Both go by Redis' own clock.
//!
//! Anything may stand in that stream. An entry counts when it has the form of ours. An id counts as a position when it
//! is not ahead of Redis' clock: one entry with the largest possible id would otherwise hide all that come after it,
//! and Redis itself would refuse to add any.

use std::time::Duration;

use crate::encoding::{base64url, from_base64url};
use crate::redis::resp::Value;
use crate::redis::{Command, Redis, RedisError};
use crate::revocation::memory::{MAX_KNOWN, Revocation};
use crate::time::{Timestamp, millis};

/// How far an id may be ahead of Redis' clock. It covers the difference between the clocks of a primary and the replica
/// that replaces it.
const MARGIN: Duration = Duration::from_secs(60);
/// How far in the future a revocation may apply: twice the longest `clock_leeway`.
const MAX_AHEAD: Duration = Duration::from_secs(600);

/// Reads entries after an id. Arguments: position, margin in milliseconds. Returns Redis' time, the first and the last
/// id, the last id that was examined, whether there are more entries, and values.
///
/// The reply is short whatever the stream holds: entries that do not have the form of a revocation are skipped, and
/// entries ahead of the clock are not examined.
pub const READ: &str = "local t = redis.call('TIME') \
    local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    local most = string.format('%.0f', now + ARGV[2]) \
    local function id(command, from, to) \
      local entry = redis.call(command, KEYS[1], from, to, 'COUNT', 1)[1] \
      return entry and entry[1] or '' \
    end \
    local from, seen, more, found = ARGV[1], '', 1, {} \
    for _ = 1, 16 do \
      local entries = redis.call('XRANGE', KEYS[1], from, most, 'COUNT', 256) \
      for _, entry in ipairs(entries) do \
        local fields = entry[2] \
        if #fields == 2 and fields[1] == 'e' and #fields[2] <= 64 then found[#found + 1] = fields[2] end \
        seen = entry[1] \
      end \
      if #entries < 256 then more = 0 break end \
      if #found >= 768 then break end \
      from = '(' .. seen \
    end \
    return {now, id('XRANGE', '-', '+'), id('XREVRANGE', '+', '-'), seen, more, found}";

/// Writes revocations. Arguments: margin in milliseconds, most entries, milliseconds to live, values. Returns the last
/// id that was assigned, and 1 if the stream had ids ahead of the clock and was rewritten, else 0.
///
/// In a rewrite, entries keep their ids. Entries ahead of the clock get current ids, and entries that are not
/// revocations are dropped.
pub const WRITE: &str = "local t = redis.call('TIME') \
    local most = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1] \
    local border = string.format('%.0f', most) \
    local function is_ahead(id) return tonumber(string.match(id, '^%d+')) > most end \
    local function add(call, id, value) \
      return call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 'e', value) \
    end \
    local function ours(from, is_ours) \
      local found = {} \
      for _ = 1, 256 do \
        local entries = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', 256) \
        for _, entry in ipairs(entries) do \
          local fields = entry[2] \
          if not is_ours(entry[1]) then return found end \
          if #fields == 2 and fields[1] == 'e' and #fields[2] <= 64 then \
            found[#found + 1] = {entry[1], fields[2]} \
          end \
          from = '(' .. entry[1] \
        end \
        if #entries < 256 or #found >= tonumber(ARGV[2]) then break end \
      end \
      return found \
    end \
    local next, newest = 4, '' \
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
    local wrong = last and is_ahead(last[1]) \
    while not wrong and ARGV[next] do \
      local added = add(redis.pcall, '*', ARGV[next]) \
      if type(added) == 'table' then \
        wrong = string.find(added.err, 'last possible ID', 1, true) or string.find(added.err, 'top item', 1, true) \
        if not wrong then return added end \
      else \
        wrong = is_ahead(added) \
        next, newest = next + 1, added \
      end \
    end \
    if wrong then \
      local late = ours('+', is_ahead) \
      local good = ours(border, function() return true end) \
      redis.call('DEL', KEYS[1]) \
      for i = #good, 1, -1 do add(redis.pcall, good[i][1], good[i][2]) end \
      for i = #late, 1, -1 do newest = add(redis.call, '*', late[i][2]) end \
      for i = next, #ARGV do newest = add(redis.call, '*', ARGV[i]) end \
    end \
    redis.call('PEXPIRE', KEYS[1], ARGV[3]) \
    return {newest, wrong and 1 or 0}";

/// The id of a stream entry: milliseconds, then a sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64, u64);

/// One page of entries.
#[derive(Debug)]
pub struct Page {
    /// Redis' clock.
    pub now: Timestamp,
    /// The oldest entry.
    pub first: Option<Id>,
    /// The newest entry. It may be ahead of the clock.
    pub last: Option<Id>,
    /// The last entry that was examined. It is not ahead of the clock.
    pub seen: Option<Id>,
    /// Whether more entries may follow.
    pub more: bool,
    /// The revocations, oldest first. Entries that are not revocations are skipped.
    pub revocations: Vec<Revocation>,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The last id that was assigned.
    pub newest: Option<Id>,
    /// How the entries were written.
    pub how: How,
}

/// How entries were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// They were added.
    Added,
    /// Some ids were ahead of the clock, so the stream was rewritten.
    PutRight,
}

/// The stream at one key.
pub struct Stream {
    redis: Redis,
    key: String,
    keep: Duration,
}

impl Stream {
    /// The stream of this tenant. `keep` is its TTL without a new entry.
    pub fn new(redis: Redis, keep: Duration) -> Self {
        Self { key: redis.key(&["revoked"]), redis, keep }
    }

    /// Adds revocations. Rewrites the stream if its ids are ahead of the clock, even if there is nothing to add.
    ///
    /// # Errors
    /// Redis did not accept all of them.
    pub async fn write(&self, revocations: &[Revocation]) -> Result<Written, RedisError> {
        let command = self
            .eval(WRITE)
            .number(millis(MARGIN))
            .number(u64::try_from(MAX_KNOWN).unwrap_or(u64::MAX))
            .number(millis(self.keep));
        let command = revocations.iter().fold(command, |command, one| command.arg(base64url(one.encode())));
        let replies = self.redis.run(&[command]).await?;
        let [Value::Array(parts)] = replies.as_slice() else { return Err(RedisError::WrongType) };
        let [newest, Value::Integer(put_right)] = parts.as_slice() else { return Err(RedisError::WrongType) };
        let how = if *put_right == 1 { How::PutRight } else { How::Added };
        Ok(Written { newest: optional(newest)?, how })
    }

    /// Reads the entries after an id.
    ///
    /// # Errors
    /// Redis does not answer, or the key holds another type.
    pub async fn read(&self, after: Id) -> Result<Page, RedisError> {
        let from = match after {
            Id(0, 0) => "-".to_owned(),
            Id(millis, number) => format!("({millis}-{number}"),
        };
        let replies = self.redis.run(&[self.eval(READ).arg(from).number(millis(MARGIN))]).await?;
        let [Value::Array(parts)] = replies.as_slice() else { return Err(RedisError::WrongType) };
        let [Value::Integer(now), first, last, seen, Value::Integer(more), Value::Array(values)] =
            parts.as_slice()
        else {
            return Err(RedisError::WrongType);
        };
        let now = Timestamp::from_millis(u64::try_from(*now).map_err(|_| RedisError::WrongType)?);
        let latest = now.saturating_add(MAX_AHEAD);
        Ok(Page {
            now,
            first: optional(first)?,
            last: optional(last)?,
            seen: optional(seen)?,
            more: *more == 1,
            revocations: values
                .iter()
                .filter_map(revocation)
                .map(|revocation| revocation.until(latest))
                .collect(),
        })
    }

    fn eval(&self, script: &str) -> Command {
        Command::new("EVAL").arg(script).arg("1").arg(self.key.clone())
    }
}

impl Id {
    /// The text form of the id.
    pub fn text(self) -> String {
        format!("{}-{}", self.0, self.1)
    }

    /// Reads `milliseconds-number`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (millis, number) = std::str::from_utf8(bytes).ok()?.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }

    /// When the id was assigned, unless a client chose it.
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(self.0)
    }

    /// Whether Redis' clock has not reached this id yet.
    pub fn is_ahead_of(self, now: Timestamp) -> bool {
        self.time() > now.saturating_add(MARGIN)
    }
}

fn optional(id: &Value) -> Result<Option<Id>, RedisError> {
    match id {
        Value::Bulk(none) if none.is_empty() => Ok(None),
        Value::Bulk(id) => Id::parse(id).map(Some).ok_or(RedisError::WrongType),
        _ => Err(RedisError::WrongType),
    }
}

fn revocation(value: &Value) -> Option<Revocation> {
    let Value::Bulk(value) = value else { return None };
    Revocation::decode(&from_base64url(value).ok()?)
}
