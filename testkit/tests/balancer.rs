//! Several servers behind one address.

use oidc_gate_testkit::balancer::Balancer;
use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::process::free_port;

#[test]
fn connections_go_round_and_pass_over_those_that_are_down() {
    let echoes = [Echo::start().unwrap(), Echo::start().unwrap()];
    let balancer = Balancer::start(free_port(), echoes.iter().map(Echo::port).collect()).unwrap();
    let url = format!("http://localhost:{}/x", balancer.port());
    let ask = || Client::new().fetch(&url).map(|response| response.status).ok();
    for _ in 0..10 {
        assert_eq!(ask(), Some(200));
    }
    assert_eq!(echoes.each_ref().map(Echo::count), [5, 5]);
    echoes[0].stop();
    for _ in 0..10 {
        assert_eq!(ask(), Some(200));
    }
    assert_eq!(echoes.each_ref().map(Echo::count), [5, 15]);
    echoes[1].stop();
    assert_eq!(ask(), None);
    echoes[0].resume().unwrap();
    assert_eq!(ask(), Some(200));
}
