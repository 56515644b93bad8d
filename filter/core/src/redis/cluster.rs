//! Redis Cluster: which node has the slot of a key, learned from redirections (MOVED, ASK), and which nodes belong to
//! the cluster.
//!
//! A redirection is followed only to a node that the configured nodes list, because each call sends the password.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::sync::Flights;
use crate::time::Timestamp;

/// Number of slots in a cluster.
const SLOTS: u16 = 16_384;
/// How many nodes are remembered. Redis Cluster is designed for up to 1000.
const MAX_NODES: usize = 1000;
/// Longest host name in a redirection: the limit of DNS names.
const MAX_HOST_LEN: usize = 255;
/// Shortest interval between two requests for the list of nodes, however many redirections arrive.
const LEARN_PAUSE: Duration = Duration::from_secs(1);
/// How long the list of nodes counts as current. After that a node may have left, and another machine may have its
/// address.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Target of a redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// The host name that a node announces, and a port. It is used only if the list of nodes has an address for it.
    Name(String, u16),
}

/// A node's answer that another node has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// The slot has moved permanently.
    Moved(Endpoint),
    /// For this command only: the slot is being migrated.
    Ask(Endpoint),
}

/// The nodes of the cluster, as listed by the configured nodes.
#[derive(Default)]
pub struct Nodes {
    /// The address of each node, with the name that it announces.
    known: RefCell<HashMap<SocketAddr, Option<String>>>,
    learned: Cell<Timestamp>,
    asked: Cell<Timestamp>,
    /// Lets one of several redirected calls request the list.
    pub flights: Flights<()>,
}

impl Nodes {
    /// The address of a node, if it belongs to the cluster.
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

    /// Whether the list is out of date and may be requested again.
    pub fn are_due(&self, now: Timestamp) -> bool {
        !self.known.borrow().is_empty() && is_over(self.learned.get(), KNOWN_FOR, now) && self.may_ask(now)
    }

    /// Whether the list of nodes may be requested now.
    pub fn may_ask(&self, now: Timestamp) -> bool {
        is_over(self.asked.get(), LEARN_PAUSE, now)
    }

    /// Notes that the list is being requested now.
    pub fn ask(&self, now: Timestamp) {
        self.asked.set(now);
    }

    /// Stores the answer to `CLUSTER NODES`. An answer without any node is invalid and changes nothing.
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

/// If the clock was set back, the pause counts as over.
fn is_over(since: Timestamp, pause: Duration, now: Timestamp) -> bool {
    now < since || now.duration_since(since) >= pause
}

/// Parses one line of `CLUSTER NODES`: id, `address:port@bus[,name[,more]]`, flags, and further fields.
fn node(line: &str) -> Option<(SocketAddr, Option<String>)> {
    let mut words = line.split(' ');
    let (_id, place, flags) = (words.next()?, words.next()?, words.next()?);
    // Skips a node without an address, or one that is not part of the cluster yet.
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

/// Parses `10.0.0.1:6379`, `[::1]:6379`, `::1:6379` (Redis' form of IPv6), or a name and a port.
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

/// The node of each slot that this worker has learned from redirections. It has at most 16384 entries.
#[derive(Debug, Default)]
pub struct Slots(RefCell<HashMap<u16, SocketAddr>>);

impl Slots {
    /// The node to send a command for this slot to.
    pub fn node(&self, slot: u16) -> Option<SocketAddr> {
        self.0.borrow().get(&slot).copied()
    }

    /// Stores the target of a MOVED redirection.
    pub fn moved(&self, slot: u16, node: SocketAddr) {
        self.0.borrow_mut().insert(slot, node);
    }

    /// Forgets nodes that no longer belong to the cluster.
    pub fn keep(&self, nodes: &Nodes) {
        let is_known = |node: SocketAddr| nodes.find(&Endpoint::Address(node)).is_some();
        self.0.borrow_mut().retain(|_, node| is_known(*node));
    }

    /// Forgets a node that does not answer. Another one may have replaced it.
    pub fn forget(&self, node: SocketAddr) {
        self.0.borrow_mut().retain(|_, known| *known != node);
    }
}

/// The slot of a key: the CRC16 of its hash tag, or of the whole key.
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

/// Parses the redirection in an error reply.
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
    use crate::testing::test;

    #[test]
    fn slots_are_those_of_redis() {
        // The values were computed by CLUSTER KEYSLOT.
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
