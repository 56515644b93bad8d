//! RESP2 as a server speaks it: commands in, replies out.

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
    /// `+OK`
    pub fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// Some bytes or nothing.
    pub fn bulk(value: Option<&Vec<u8>>) -> Self {
        value.map_or(Self::Nil, |value| Self::Bulk(value.clone()))
    }

    /// One or zero.
    pub fn truth(holds: bool) -> Self {
        Self::Integer(i64::from(holds))
    }

    /// A length.
    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// What a command gets that the key's type does not have.
    pub fn wrong_type() -> Self {
        Self::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
    }

    /// What a command with words that it does not know gets.
    pub fn syntax() -> Self {
        Self::Error("ERR syntax error".to_owned())
    }

    /// What a command with something else than a number gets.
    pub fn not_an_integer() -> Self {
        Self::Error("ERR value is not an integer or out of range".to_owned())
    }

    /// As it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Self::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Self::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::Bulk(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Nil => out.extend_from_slice(b"$-1\r\n"),
            Self::NilArray => out.extend_from_slice(b"*-1\r\n"),
            Self::Array(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| item.encode(out));
            }
        }
    }
}

/// Takes the first whole command off the buffer.
///
/// # Errors
/// The bytes are no command: a real server says so and closes the connection.
pub fn take_command(buffer: &mut Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, String> {
    let mut at = 0;
    let Some(count) = number(buffer, &mut at, b'*')? else { return Ok(None) };
    let mut args = Vec::new();
    for _ in 0..count {
        let Some(len) = number(buffer, &mut at, b'$')? else { return Ok(None) };
        let Some(bytes) = buffer.get(at..at + len + 2) else { return Ok(None) };
        args.push(bytes[..len].to_vec());
        at += len + 2;
    }
    buffer.drain(..at);
    Ok(Some(args))
}

fn number(buffer: &[u8], at: &mut usize, mark: u8) -> Result<Option<usize>, String> {
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
        let whole = b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(take_command(&mut whole[..end].to_vec()), Ok(None), "{end}");
        }
        let mut two = [&whole[..], b"*1"].concat();
        assert_eq!(take_command(&mut two), Ok(Some(vec![b"ECHO".to_vec(), b"a\r\n".to_vec()])));
        assert_eq!(two, b"*1");
        assert!(take_command(&mut b"GET /\r\n".to_vec()).is_err());
    }
}
