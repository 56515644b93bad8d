//! RESP2 for tests: encodes commands and replies, decodes commands, and finds the end of a reply.

/// The words of a command, starting with its name.
pub type Words = Vec<Vec<u8>>;

/// Deepest nesting of replies.
const MAX_DEPTH: usize = 8;

/// A reply, errors included.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3`
    Bulk(Vec<u8>),
    /// `$-1`
    Nil,
    /// `*-1`
    NilArray,
    /// `*2`
    Array(Vec<Reply>),
}

impl Reply {
    /// Appends the encoded reply.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => line(out, '+', text),
            Self::Error(text) => line(out, '-', text),
            Self::Integer(number) => line(out, ':', number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Nil => line(out, '$', -1),
            Self::NilArray => line(out, '*', -1),
            Self::Array(items) => {
                line(out, '*', items.len());
                items.iter().for_each(|item| item.encode(out));
            }
        }
    }

    /// The encoded reply.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// The encoded command.
pub fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut out = Vec::new();
    line(&mut out, '*', words.len());
    words.iter().for_each(|word| bulk(&mut out, word.as_ref()));
    out
}

/// Removes the first complete command from the buffer.
///
/// # Errors
/// The bytes are not a command. A real server reports that and closes the connection.
pub fn take_command(buffer: &mut Vec<u8>) -> Result<Option<Words>, String> {
    let mut at = 0;
    let Some(count) = length(buffer, &mut at, b'*')? else { return Ok(None) };
    let mut words = Words::new();
    for _ in 0..count {
        let Some(len) = length(buffer, &mut at, b'$')? else { return Ok(None) };
        let Some(bytes) = buffer.get(at..at + len + 2) else { return Ok(None) };
        words.push(bytes[..len].to_vec());
        at += len + 2;
    }
    buffer.drain(..at);
    Ok(Some(words))
}

/// The length of the first reply in the buffer, if it is complete.
pub fn reply_length(buffer: &[u8]) -> Option<usize> {
    nested_length(buffer, 0)
}

fn nested_length(buffer: &[u8], depth: usize) -> Option<usize> {
    let line = buffer.windows(2).position(|pair| pair == b"\r\n")?;
    let head = line + 2;
    let number = || -> Option<i64> { std::str::from_utf8(buffer.get(1..line)?).ok()?.parse().ok() };
    match buffer.first()? {
        b'+' | b'-' | b':' => Some(head),
        b'$' => match usize::try_from(number()?) {
            Ok(length) => (buffer.len() >= head + length + 2).then_some(head + length + 2),
            Err(_) => Some(head),
        },
        b'*' if depth < MAX_DEPTH => {
            let mut at = head;
            for _ in 0..usize::try_from(number()?).unwrap_or(0) {
                at += nested_length(buffer.get(at..)?, depth + 1)?;
            }
            Some(at)
        }
        _ => None,
    }
}

fn line(out: &mut Vec<u8>, mark: char, rest: impl std::fmt::Display) {
    out.extend_from_slice(format!("{mark}{rest}\r\n").as_bytes());
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, '$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn length(buffer: &[u8], at: &mut usize, mark: u8) -> Result<Option<usize>, String> {
    let rest = &buffer[*at..];
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = &rest[..end];
    let number = line.strip_prefix(&[mark]).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    *at += end + 2;
    number.map(Some).ok_or_else(|| "ERR Protocol error: invalid multibulk length".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_only_when_all_of_it_has_arrived() {
        let whole = command(&["ECHO", "a\r\n"]);
        assert_eq!(whole, b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n");
        for end in 0..whole.len() {
            assert_eq!(take_command(&mut whole[..end].to_vec()), Ok(None), "{end}");
        }
        assert!(take_command(&mut b"GET /\r\n".to_vec()).is_err());
    }

    #[test]
    fn commands_are_taken_off_one_by_one() {
        let mut buffer = [command(&["AUTH", "x"]), b"*1\r\n$4\r\nPI".to_vec()].concat();
        assert_eq!(take_command(&mut buffer), Ok(Some(vec![b"AUTH".to_vec(), b"x".to_vec()])));
        assert_eq!(take_command(&mut buffer), Ok(None));
        buffer.extend(b"NG\r\n");
        assert_eq!(take_command(&mut buffer), Ok(Some(vec![b"PING".to_vec()])));
        assert!(buffer.is_empty());
    }

    #[test]
    fn replies_end_where_they_end() {
        for (reply, length) in [
            (&b"+OK\r\n+x"[..], Some(5)),
            (b":12\r\n", Some(5)),
            (b"$-1\r\n", Some(5)),
            (b"$3\r\nabc\r\nrest", Some(9)),
            (b"$3\r\nab", None),
            (b"*-1\r\n", Some(5)),
            (b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n!", Some(19)),
            (b"*2\r\n:1\r\n", None),
            (b"?", None),
        ] {
            assert_eq!(reply_length(reply), length, "{}", String::from_utf8_lossy(reply));
        }
        assert_eq!(reply_length(&b"*1\r\n".repeat(100)), None);
    }

    #[test]
    fn every_reply_is_written_as_redis_writes_it() {
        let all = Reply::Array(vec![
            Reply::Simple("OK".to_owned()),
            Reply::Error("ERR x".to_owned()),
            Reply::Integer(-1),
            Reply::Bulk(b"a\r\n".to_vec()),
            Reply::Nil,
            Reply::NilArray,
        ]);
        assert_eq!(all.bytes(), b"*6\r\n+OK\r\n-ERR x\r\n:-1\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n");
        assert_eq!(reply_length(&all.bytes()), Some(all.bytes().len()));
    }
}
