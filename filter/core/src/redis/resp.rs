//! Parses RESP2 replies. This is not a library, because the bytes may come from any server that listens on the port.
//! The parser must not recurse without a limit or allocate what a peer's numbers say.

use crate::redis::cluster::{Redirection, redirection};
use crate::redis::error::{ErrorReply, RedisError};

/// Deepest nesting of arrays in an expected reply (`EXEC` around one list).
const MAX_DEPTH: usize = 4;
/// Most array elements in one answer, over all arrays.
const MAX_ELEMENTS: usize = 4096;

/// A reply without error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `+OK`
    Simple(String),
    /// `:1`
    Integer(i64),
    /// `$3`
    Bulk(Vec<u8>),
    /// `$-1` or `*-1`
    Nil,
    /// `*2`
    Array(Vec<Value>),
}

/// Why an answer could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoReplies {
    /// The reason.
    pub error: RedisError,
    /// The redirection, if a cluster node sent one.
    pub redirection: Option<Redirection>,
}

impl From<RedisError> for NoReplies {
    fn from(error: RedisError) -> Self {
        Self { error, redirection: None }
    }
}

/// Parses exactly `count` replies with nothing after them. An error reply anywhere makes the whole answer an error.
///
/// # Errors
/// The reason in [`NoReplies`].
pub fn parse_exactly(bytes: &[u8], count: usize) -> Result<Vec<Value>, NoReplies> {
    let mut reader = Reader { rest: bytes, elements: 0, redirection: None };
    let mut replies = Vec::new();
    for _ in 0..count {
        match reader.value(0) {
            Ok(reply) => replies.push(reply),
            Err(error) => return Err(NoReplies { error, redirection: reader.redirection }),
        }
    }
    if reader.rest.is_empty() { Ok(replies) } else { Err(RedisError::TooManyReplies.into()) }
}

struct Reader<'a> {
    rest: &'a [u8],
    elements: usize,
    /// The redirection in the error reply that ended parsing. A value that looks like one does not count.
    redirection: Option<Redirection>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, RedisError> {
        self.elements = self.elements.saturating_add(1);
        if depth > MAX_DEPTH || self.elements > MAX_ELEMENTS {
            return Err(RedisError::TooLarge);
        }
        let (kind, line) = self.line()?.split_first().ok_or(RedisError::Malformed)?;
        match kind {
            b'+' => text(line).map(Value::Simple),
            b'-' => {
                // Only a reply to a command redirects. An error inside an array is a script's result.
                self.redirection = if depth == 0 { redirection(line) } else { None };
                Err(RedisError::Refused(ErrorReply::parse(line)))
            }
            b':' => number(line).map(Value::Integer),
            b'$' => match number(line)? {
                -1 => Ok(Value::Nil),
                len => self.bulk(usize::try_from(len).map_err(|_| RedisError::Malformed)?),
            },
            b'*' => match number(line)? {
                -1 => Ok(Value::Nil),
                len => {
                    let len = usize::try_from(len).map_err(|_| RedisError::Malformed)?;
                    let mut items = Vec::new();
                    for _ in 0..len {
                        items.push(self.value(depth.saturating_add(1))?);
                    }
                    Ok(Value::Array(items))
                }
            },
            _ => Err(RedisError::Malformed),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], RedisError> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n").ok_or(RedisError::Incomplete)?;
        let (line, rest) = self.rest.split_at_checked(end).ok_or(RedisError::Incomplete)?;
        self.rest = rest.strip_prefix(b"\r\n").ok_or(RedisError::Incomplete)?;
        Ok(line)
    }

    fn bulk(&mut self, len: usize) -> Result<Value, RedisError> {
        let (value, rest) = self.rest.split_at_checked(len).ok_or(RedisError::Incomplete)?;
        self.rest = rest.strip_prefix(b"\r\n").ok_or(RedisError::Incomplete)?;
        Ok(Value::Bulk(value.to_vec()))
    }
}

fn text(line: &[u8]) -> Result<String, RedisError> {
    String::from_utf8(line.to_vec()).map_err(|_| RedisError::Malformed)
}

fn number(line: &[u8]) -> Result<i64, RedisError> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(RedisError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::cluster::Endpoint;
    use crate::testing::test;

    #[test]
    fn replies_of_every_kind_are_read() {
        let bytes = b"+OK\r\n:-3\r\n$5\r\na\r\nbc\r\n$-1\r\n*2\r\n$0\r\n\r\n*-1\r\n";
        assert_eq!(
            parse_exactly(bytes, 5).unwrap(),
            [
                Value::Simple("OK".into()),
                Value::Integer(-3),
                Value::Bulk(b"a\r\nbc".to_vec()),
                Value::Nil,
                Value::Array(vec![Value::Bulk(vec![]), Value::Nil]),
            ]
        );
    }

    #[test]
    fn ss03_only_complete_answers_count() {
        let whole = b"+OK\r\n*2\r\n$1\r\n1\r\n$3\r\nabc\r\n".as_slice();
        assert!(parse_exactly(whole, 2).is_ok());
        for end in 0..whole.len() {
            assert!(parse_exactly(&whole[..end], 2).is_err(), "cut at {end}");
        }
        assert!(parse_exactly(whole, 1).is_err(), "more replies than commands");
        assert!(parse_exactly(whole, 3).is_err(), "fewer replies than commands");
    }

    #[test]
    fn ss03_an_error_reply_anywhere_fails_the_whole_and_quotes_nothing() {
        for (reply, kind) in [
            ("-LOADING Redis is loading\r\n", "LOADING"),
            ("-READONLY x\r\n", "READONLY"),
            ("-MOVED 1 10.0.0.1:6379\r\n", "MOVED"),
            ("-OOM x\r\n", "OOM"),
            ("-MISCONF Redis is configured to save RDB snapshots\r\n", "MISCONF"),
            ("-NOREPLICAS Not enough good replicas to write.\r\n", "NOREPLICAS"),
            ("-ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM x\r\n", "OOM"),
            ("-ERR secret -OOM\r\n", "ERR"),
            ("-NOAUTH x\r\n", "NOAUTH"),
            ("-WRONGTYPE x\r\n", "WRONGTYPE"),
            ("-NOSCRIPT x\r\n", "NOSCRIPT"),
            ("*1\r\n-OOM x\r\n", "OOM"),
            ("-ERR unknown command 'secret'\r\n", "ERR"),
        ] {
            let error = parse_exactly(reply.as_bytes(), 1).unwrap_err().error;
            let message = error.to_string();
            assert!(
                message.starts_with(kind)
                    && matches!(error, RedisError::Refused(_))
                    && !message.contains("secret")
                    && !message.contains("10."),
                "{message}"
            );
        }
    }

    /// An attacker who can write a value must not be able to redirect us, and our password, to another server.
    #[test]
    fn a_redirection_counts_as_an_error_reply_only() {
        let moved = Redirection::Moved(Endpoint::Address("10.0.0.1:6379".parse().unwrap()));
        let redirected = |bytes: &[u8]| parse_exactly(bytes, 2).unwrap_err().redirection;
        assert_eq!(redirected(b"+OK\r\n-MOVED 1 10.0.0.1:6379\r\n"), Some(moved));
        let value = "x\r\n-MOVED 1 10.0.0.1:6379\r\n";
        let bulk = format!("${}\r\n{value}\r\n", value.len());
        for reply in [
            format!("+OK\r\n{bulk}+more\r\n"),
            format!("+OK\r\n{bulk}").trim_end().to_owned(),
            format!("{bulk}-ERR x\r\n"),
            format!("*9999\r\n{}", bulk.repeat(9999)),
            format!("*2\r\n{bulk}-MOVED 1 10.0.0.1:6379\r\n+OK\r\n"),
        ] {
            assert_eq!(redirected(reply.as_bytes()), None, "{:?}", reply.get(..50));
        }
    }

    #[test]
    fn rx02_nesting_and_numbers_of_the_peer_cost_nothing() {
        let deep = "*1\r\n".repeat(100_000);
        assert!(parse_exactly(deep.as_bytes(), 1).is_err());
        for hostile in [
            "*99999999999\r\n",
            "$99999999999\r\n",
            "$-2\r\n",
            "*-2\r\n",
            ":1e9\r\n",
            ":\r\n",
            "$\r\n",
            "\r\n",
            "!\r\n",
            "*9223372036854775807\r\n:1\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "+\u{0}\r",
            "$3\r\nabcd\r\n",
        ] {
            assert!(parse_exactly(hostile.as_bytes(), 1).is_err(), "{hostile:?}");
        }
        assert!(parse_exactly(b"+\xff\r\n", 1).is_err());
    }
}
