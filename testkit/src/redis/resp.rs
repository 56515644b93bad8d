//! Where a RESP2 message ends: enough to take pipelines apart without understanding them.

/// Deeper than anything the gate asks for.
const MAX_DEPTH: usize = 8;

/// A command as clients send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// As it came.
    pub bytes: Vec<u8>,
    /// Its words.
    pub words: Vec<Vec<u8>>,
}

impl Request {
    /// The command's name in capitals.
    pub fn name(&self) -> String {
        let name = self.words.first().map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(name).to_ascii_uppercase()
    }

    /// Takes the first command off `buffer`, when it is there as a whole. `None` for good when the bytes are none.
    pub fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let length = frame_length(buffer, 0)?;
        let bytes: Vec<u8> = buffer.drain(..length).collect();
        let words = words_of(&bytes)?;
        Some(Self { bytes, words })
    }
}

/// How many bytes the first message of `buffer` has, when it is there as a whole.
pub(super) fn frame_length(buffer: &[u8], depth: usize) -> Option<usize> {
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
                at += frame_length(buffer.get(at..)?, depth + 1)?;
            }
            Some(at)
        }
        _ => None,
    }
}

fn words_of(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut at = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let mut words = Vec::new();
    while at < bytes.len() {
        let rest = bytes.get(at..)?;
        let length = frame_length(rest, 1)?;
        let head = rest.windows(2).position(|pair| pair == b"\r\n")? + 2;
        words.push(rest.get(head..length.checked_sub(2)?)?.to_vec());
        at += length;
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_off_one_by_one_and_only_whole() {
        let mut buffer = b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*1\r\n$4\r\nPI".to_vec();
        let first = Request::take(&mut buffer).unwrap();
        assert_eq!((first.name().as_str(), first.words.len()), ("AUTH", 2));
        assert_eq!(Request::take(&mut buffer), None);
        buffer.extend(b"NG\r\n");
        assert_eq!(Request::take(&mut buffer).unwrap().name(), "PING");
        assert!(buffer.is_empty());
    }

    #[test]
    fn answers_end_where_they_end() {
        for (answer, length) in [
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
            assert_eq!(frame_length(answer, 0), length, "{}", String::from_utf8_lossy(answer));
        }
        assert_eq!(frame_length(&b"*1\r\n".repeat(100), 0), None);
    }
}
