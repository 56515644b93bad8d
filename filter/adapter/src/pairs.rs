//! proxy-wasm's form of a header map: a count, a pair of lengths for each header, and then, for each, name, NUL, value,
//! NUL. Numbers have four bytes, the least significant first.

/// Most headers for which memory is reserved before they are read.
const MAX_RESERVED: usize = 4096;

/// Reads a map. A truncated or inconsistent map yields no headers. No memory is allocated only because a number in it
/// asks for it. In a name, bytes that are not UTF-8 become replacement characters; a value is kept as it is.
pub fn parse(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    parse_all(bytes).unwrap_or_default()
}

fn parse_all(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let (count, mut sizes) = number(bytes)?;
    let mut data = sizes.split_at_checked(count.checked_mul(8)?)?.1;
    let mut pairs = Vec::with_capacity(count.min(MAX_RESERVED));
    for _ in 0..count {
        let (name_len, rest) = number(sizes)?;
        let (value_len, rest) = number(rest)?;
        sizes = rest;
        let name = text(&mut data, name_len)?;
        let value = text(&mut data, value_len)?;
        pairs.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
    Some(pairs)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// Takes `len` bytes and the NUL that follows.
fn text<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest.strip_prefix(&[0])?;
    Some(text)
}

/// Writes a map.
pub fn serialize(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = number(pairs.len()).to_vec();
    for (name, value) in pairs {
        bytes.extend_from_slice(&number(name.len()));
        bytes.extend_from_slice(&number(value.len()));
    }
    for (name, value) in pairs {
        for text in [name.as_bytes(), value] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [(&str, &[u8]); 2] = [(":path", b"/a"), ("x-empty", b"")];

    fn owned(pairs: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn the_bytes_are_those_of_proxy_wasm() {
        let expected: &[u8] = b"\x02\0\0\0\x05\0\0\0\x02\0\0\0\x07\0\0\0\0\0\0\0:path\0/a\0x-empty\0\0";
        assert_eq!(serialize(&TWO), expected);
        assert_eq!(serialize(&[]), [0; 4]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = vec![b'v'; 100_000];
        let many: Vec<(&str, &[u8])> = (0..5000).map(|_| ("cookie", &b"a=b"[..])).collect();
        let cases: [&[(&str, &[u8])]; 5] =
            [&[], &TWO, &[("a", b"\xff\0\r\n"), ("a", b"2"), ("", b"")], &[("long", &long)], &many];
        for pairs in cases {
            assert_eq!(parse(&serialize(pairs)), owned(pairs));
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_kept_as_far_as_it_is_text() {
        let mut bytes = serialize(&[("name", b"v")]);
        let name = bytes.windows(4).position(|window| window == b"name").unwrap();
        bytes[name] = 0xe9;
        assert_eq!(parse(&bytes), owned(&[("\u{fffd}ame", b"v")]));
    }

    #[test]
    fn a_map_that_is_cut_anywhere_has_no_headers() {
        let whole = serialize(&TWO);
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).is_empty(), "{len} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_map_that_contradicts_itself_has_no_headers() {
        let cases: [(&str, &[u8]); 6] = [
            ("more headers than there are", b"\x03\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0"),
            ("as many headers as a number can say", b"\xff\xff\xff\xff\x01\0\0\0\x01\0\0\0a\0b\0"),
            ("a count whose lengths overflow 32 bits", b"\0\0\0\x20\x01\0\0\0\x01\0\0\0a\0b\0"),
            ("a name as long as a number can say", b"\x01\0\0\0\xff\xff\xff\xff\x01\0\0\0a\0b\0"),
            ("a value that ends behind the map", b"\x01\0\0\0\x01\0\0\0\x02\0\0\0a\0b\0"),
            ("a name that is longer than it was said to be", b"\x01\0\0\0\x01\0\0\0\x01\0\0\0aa\0b\0"),
        ];
        for (what, bytes) in cases {
            assert!(parse(bytes).is_empty(), "{what}");
        }
    }

    #[test]
    fn no_change_of_one_byte_makes_it_panic() {
        let whole = serialize(&TWO);
        for place in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = whole.clone();
                bytes[place] = byte;
                let read: usize = parse(&bytes).iter().map(|(name, value)| name.len() + value.len()).sum();
                assert!(read <= 3 * whole.len(), "nothing is read that is not there");
            }
        }
    }
}
