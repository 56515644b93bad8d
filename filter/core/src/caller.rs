//! The client's address, as Envoy determines it: the peer's address, or the one that a trusted proxy reports
//! (`use_remote_address`, `xff_num_trusted_hops`). The gate never reads it from a header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The client's address, which also stands for those that share a limit with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller(Option<IpAddr>);

impl Caller {
    /// Parses Envoy's attribute `source.address`. All texts that are not addresses count as one unknown caller.
    pub fn parse(address: &[u8]) -> Self {
        let text = std::str::from_utf8(address).unwrap_or_default();
        let address = text.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| text.parse()).ok();
        Self(address.map(|address| address.to_canonical()))
    }

    /// The address by which callers are told apart: all of IPv4, or the /64 that one household has of IPv6.
    pub fn address(self) -> Self {
        self.prefix(32, 64)
    }

    /// The network around the address: /24 or /48, the usual size of an assignment.
    pub fn network(self) -> Self {
        self.prefix(24, 48)
    }

    fn prefix(self, v4: u32, v6: u32) -> Self {
        let masked = |address| match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(v4)).unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(v6)).unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Self(self.0.map(masked))
    }

    /// 16 bytes, with IPv4 mapped into IPv6. All zero if the address is unknown.
    pub fn key(self) -> [u8; 16] {
        match self.0 {
            Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(address)) => address.octets(),
            None => [0; 16],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn f902_callers_are_told_apart_by_address_and_by_network() {
        for (one, other, same_address, same_network) in [
            ("192.0.2.7:1", "192.0.2.7:65535", true, true),
            ("192.0.2.7:1", "192.0.2.7", true, true),
            ("192.0.2.7:1", "[::ffff:192.0.2.7]:9", true, true),
            ("192.0.2.7:1", "192.0.2.8:1", false, true),
            ("192.0.2.7:1", "192.0.3.7:1", false, false),
            ("[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:2", true, true),
            ("[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false, true),
            ("[2001:db8:1:2::1]:1", "[2001:db8:2:2::1]:1", false, false),
            ("", "no address", true, true),
            ("/run/envoy.sock", "\u{e9}", true, true),
            ("192.0.2.7:1", "", false, false),
        ] {
            let [one_, other_] = [one, other].map(|text| Caller::parse(text.as_bytes()));
            assert_eq!(one_.address() == other_.address(), same_address, "{one} {other}");
            assert_eq!(one_.network() == other_.network(), same_network, "{one} {other}");
            assert_eq!(one_.address().key() == other_.address().key(), same_address, "{one} {other}");
        }
        assert_eq!(Caller::parse(b"\xff"), Caller::default());
    }
}
