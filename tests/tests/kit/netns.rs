//! A test in its own network namespace.

use std::net::{IpAddr, TcpListener, TcpStream};

use oidc_gate_testkit::netns::isolated;

#[test]
fn a_namespace_has_addresses_that_the_machine_has_not() {
    let private: IpAddr = [10, 20, 30, 40].into();
    let peer = isolated(&[private], || {
        let listener = TcpListener::bind((private, 0)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        // A kernel setting that applies only to this namespace.
        std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").unwrap();
        peer.ip()
    });
    assert_eq!(peer.unwrap(), private);
    assert!(TcpListener::bind((private, 0)).is_err(), "only the namespace has the address");
}

#[test]
fn a_test_that_fails_in_a_namespace_fails() {
    assert!(std::panic::catch_unwind(|| isolated(&[], || panic!("as it should"))).is_err());
}
