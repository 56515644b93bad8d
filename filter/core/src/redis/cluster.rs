//! Redis Cluster: which node has a key's slot, as redirections told (MOVED, ASK), and which nodes there are at all.
//!
//! A redirection is followed only to a node that the configured nodes name: the password goes with each call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::sync::Flights;
use crate::time::Timestamp;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;
/// Nodes of a cluster that are remembered; Redis Cluster is made for 1000.
const MAX_NODES: usize = 1000;
/// Longest host of a redirection, as names are long.
const MAX_HOST_LEN: usize = 255;
/// How often the configured nodes are asked at most, whatever redirections say.
const LEARN_PAUSE: Duration = Duration::from_secs(1);
/// After that they are asked again: a node may have left, and its address may be somebody else's.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Where a redirection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A name that the node announces, and a port. It counts as far as the cluster says which address it has.
    Name(String, u16),
}

/// A node says that another one has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// From now on.
    Moved(Endpoint),
    /// This once: the slot is on its way.
    Ask(Endpoint),
}

/// The nodes of the cluster, as its configured nodes name them.
#[derive(Default)]
pub struct Nodes {
    /// Each address, with the name that it announces.
    known: RefCell<HashMap<SocketAddr, Option<String>>>,
    learned: Cell<Timestamp>,
    asked: Cell<Timestamp>,
    /// However many calls are redirected at once, one of them asks.
    pub flights: Flights<()>,
}

impl Nodes {
    /// The address of a node of the cluster.
    pub fn find(&self, endpoint: &Endpoint) -> Option<SocketAddr> {
        let known = self.known.borrow();
        match endpoint {
            Endpoint::Address(address) => known.contains_key(address).then_some(*address),
            Endpoint::Name(name, port) => {
                let is_it = |(address, announced): &(&SocketAddr, &Option<String>)| {
                    address.port() == *port
                        && announced.as_ref().is_some_and(|announced| announced.eq_ignore_ascii_case(name))
                };
                known.iter().find(is_it).map(|(address, _)| *address)
            }
        }
    }

    /// Whether what is known is too old, and it is time to ask again.
    pub fn are_due(&self, now: Timestamp) -> bool {
        !self.known.borrow().is_empty() && is_over(self.learned.get(), KNOWN_FOR, now) && self.may_ask(now)
    }

    /// Whether the configured nodes may be asked now.
    pub fn may_ask(&self, now: Timestamp) -> bool {
        is_over(self.asked.get(), LEARN_PAUSE, now)
    }

    /// They are asked now.
    pub fn ask(&self, now: Timestamp) {
        self.asked.set(now);
    }

    /// What they said, the answer to `CLUSTER NODES`. Without any node in it, it is not one.
    pub fn learn(&self, answer: &[u8], now: Timestamp) -> bool {
        let text = String::from_utf8_lossy(answer);
        let nodes: HashMap<_, _> = text.lines().filter_map(node).take(MAX_NODES).collect();
        if nodes.is_empty() {
            return false;
        }
        self.known.replace(nodes);
        self.learned.set(now);
        true
    }
}

/// A clock that was set back makes nobody wait.
fn is_over(since: Timestamp, pause: Duration, now: Timestamp) -> bool {
    now < since || now.since(since) >= pause
}

/// One line of `CLUSTER NODES`: id, `address:port@bus[,name[,more]]`, flags, and more.
fn node(line: &str) -> Option<(SocketAddr, Option<String>)> {
    let mut words = line.split(' ');
    let (_id, place, flags) = (words.next()?, words.next()?, words.next()?);
    // One that has no address, or is not a node of this cluster yet.
    if flags.split(',').any(|flag| matches!(flag, "noaddr" | "handshake")) {
        return None;
    }
    let mut parts = place.split(',');
    let (address, _bus) = parts.next()?.split_once('@')?;
    let name = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
    match endpoint(address)? {
        Endpoint::Address(address) => Some((address, name.map(str::to_owned))),
        Endpoint::Name(..) => None,
    }
}

/// `10.0.0.1:6379`, `[::1]:6379`, `::1:6379` as Redis writes IPv6, or a name and a port.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(Endpoint::Address(SocketAddr::new(address, port)));
    }
    let is_name = !host.is_empty()
        && host.len() <= MAX_HOST_LEN
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    is_name.then(|| Endpoint::Name(host.to_owned(), port))
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

    /// Forgets nodes that are not of the cluster any more.
    pub fn keep(&self, nodes: &Nodes) {
        let is_known = |node: SocketAddr| nodes.find(&Endpoint::Address(node)).is_some();
        self.0.borrow_mut().retain(|_, node| is_known(*node));
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

/// Where the text of an error reply leads.
pub fn redirection(error: &[u8]) -> Option<Redirection> {
    let mut words = std::str::from_utf8(error).ok()?.split(' ');
    let (kind, _slot, node) = (words.next()?, words.next()?, words.next()?);
    let node = endpoint(node)?;
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
    fn a_redirection_names_an_address_or_a_name() {
        let at = |text: &str| Endpoint::Address(text.parse().unwrap());
        for (text, expected) in [
            ("MOVED 3999 127.0.0.1:6381", Redirection::Moved(at("127.0.0.1:6381"))),
            ("ASK 3999 [::1]:6381", Redirection::Ask(at("[::1]:6381"))),
            ("MOVED 3999 2001:db8::1:6381", Redirection::Moved(at("[2001:db8::1]:6381"))),
            ("MOVED 3999 redis-2:6381", Redirection::Moved(Endpoint::Name("redis-2".into(), 6381))),
        ] {
            assert_eq!(redirection(text.as_bytes()), Some(expected), "{text}");
        }
        let long = format!("MOVED 3999 {}:6381", "x".repeat(256));
        for other in [
            "MOVED 3999 127.0.0.1",
            "MOVED 3999 127.0.0.1:0",
            "MOVED 3999 127.0.0.1:65536",
            "MOVED 3999 :6381",
            "MOVED 3999 ?:6381",
            "MOVED 3999 a/b:6381",
            "MOVED 3999",
            "MOVED",
            "moved 3999 127.0.0.1:6381",
            "ERR MOVED 3999 127.0.0.1:6381",
            "",
            &long,
        ] {
            assert_eq!(redirection(other.as_bytes()), None, "{other:?}");
        }
    }
}
