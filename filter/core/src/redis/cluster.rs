//! Redis Cluster: which node has a key's slot, as redirections told (MOVED, ASK).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// A node says that another one has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// From now on.
    Moved(SocketAddr),
    /// This once: the slot is on its way.
    Ask(SocketAddr),
}

/// The nodes of slots that this worker has been told; at most one entry for each of the 16384 slots.
#[derive(Debug, Default)]
pub struct Slots(RefCell<HashMap<u16, SocketAddr>>);

impl Slots {
    /// Where to ask first.
    pub fn node(&self, slot: u16) -> Option<SocketAddr> {
        self.0.borrow().get(&slot).copied()
    }

    /// A node said so.
    pub fn moved(&self, slot: u16, node: SocketAddr) {
        self.0.borrow_mut().insert(slot, node);
    }

    /// The node does not answer: another one may have taken its place.
    pub fn forget(&self, node: SocketAddr) {
        self.0.borrow_mut().retain(|_, known| *known != node);
    }
}

/// The slot of a key: CRC16 of its hash tag, or of all of it.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open.checked_add(1)?..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) & (SLOTS - 1)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Where the text of an error reply leads. Names are not followed: whoever redirects must give an address.
pub fn redirection(error: &[u8]) -> Option<Redirection> {
    let mut words = std::str::from_utf8(error).ok()?.split(' ');
    let (kind, _slot, node) = (words.next()?, words.next()?, words.next()?);
    let node = node.parse().ok()?;
    match kind {
        "MOVED" => Some(Redirection::Moved(node)),
        "ASK" => Some(Redirection::Ask(node)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn slots_are_those_of_redis() {
        // The values of CLUSTER KEYSLOT.
        for (key, expected) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("somekey", 11_058),
            ("foo{hash_tag}", 2515),
            ("bar{hash_tag}", 2515),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_redirection_names_an_address() {
        let moved = Redirection::Moved("127.0.0.1:6381".parse().unwrap());
        assert_eq!(redirection(b"MOVED 3999 127.0.0.1:6381"), Some(moved));
        let ask = Redirection::Ask("[::1]:6381".parse().unwrap());
        assert_eq!(redirection(b"ASK 3999 [::1]:6381"), Some(ask));
        for other in [
            "MOVED 3999 redis-2:6381",
            "MOVED 3999 127.0.0.1",
            "MOVED 3999",
            "MOVED",
            "moved 3999 127.0.0.1:6381",
            "ERR MOVED 3999 127.0.0.1:6381",
            "",
        ] {
            assert_eq!(redirection(other.as_bytes()), None, "{other:?}");
        }
    }
}
