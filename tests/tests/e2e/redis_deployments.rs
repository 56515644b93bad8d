//! Redis with TLS and an ACL user, behind a proxy that follows the primary, and as a cluster.

use std::collections::BTreeSet;

use oidc_gate_redis_model::resp::Reply;
use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::provider::Times;
use oidc_gate_testkit::redis::{Authority, FakeRedis, Fault, NODES, On, Script};
use oidc_gate_tests::{
    Gate, assert_everywhere, assert_refused, assert_soon_everywhere, assert_workers_alive,
};

#[test]
fn tls_and_an_acl_user_are_all_that_redis_takes_and_sessions_work() {
    let gate = Gate::builder().redis_tls().set("session.cache_ttl", "0s").start();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_eq!(browser.navigate(&gate.url("/oauth2/account")).unwrap().status, 200);
    // Only the test kit itself may connect as the default user, which has all permissions.
    let clients: String = gate.redis().query(&["CLIENT", "LIST"]).unwrap();
    // Connections are listed as the default user during the TLS handshake and until AUTH.
    let strangers = |line: &&str| line.contains("addr=127.0.0.1") && !line.contains("cmd=NULL");
    assert!(clients.lines().filter(strangers).all(|line| !line.contains("user=default")), "{clients}");
    gate.provider.delete_session(&sid);
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    gate.redis().stop();
    let again = gate.browser_with(&"A".repeat(64));
    assert_soon_everywhere(&gate, 503, "/x", |url| again.fetching("GET", url));
    gate.redis().resume().unwrap();
    assert_soon_everywhere(&gate, 401, "/x", |url| again.fetching("GET", url));
    gate.signed_in("mlflow_user");
}

#[test]
fn cf06_a_redis_whose_certificate_nobody_vouches_for_is_not_told_anything() {
    let stranger = Authority::new().unwrap();
    let path = stranger.certificate().to_owned();
    let gate = Gate::builder()
        .redis_tls()
        .envoy(move |config| config.redis_tls(&path, "gate").without_health_check("redis"))
        .start();
    let monitor = gate.redis().monitor().unwrap();
    let (browser, callback) = gate.at_callback("mlflow_user", "/");
    assert_eq!(browser.navigate(&callback).unwrap().status, 503);
    browser.jar().plant("localhost", gate.session_cookie_name(), &"A".repeat(64));
    assert_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
    assert_eq!(monitor.commands().unwrap(), []);
}

/// A browser that signs in as soon as Redis accepts writes. Until then each try ends with 503.
fn signed_in_soon(gate: &Gate, username: &str) -> Client {
    let browser = Client::new();
    gate.provider.sign_in_as(username);
    let signed_in = || {
        let journey = browser.visit(&gate.url("/")).unwrap();
        assert!([200, 503].contains(&journey.end().status), "{}", journey.end());
        journey.end().status == 200
    };
    gate.wait_until("takes no login", signed_in);
    gate.provider.ask_for_password();
    gate.plant_secret(&gate.session_cookie(&browser).unwrap());
    browser
}

#[test]
fn behind_a_front_that_follows_the_primary_a_failover_costs_no_session() {
    let gate = Gate::builder().redis_pair().envoys(2).set("session.cache_ttl", "0s").start();
    let pair = gate.redis_pair();
    let browser = gate.signed_in("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    pair.wait_until_replicated().unwrap();
    pair.hand_over().unwrap();
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    // The old primary answers reads until HAProxy notices. It refuses writes.
    let second = signed_in_soon(&gate, "mlflow_admin");
    pair.wait_until_replicated().unwrap();
    pair.fail_over().unwrap();
    for browser in [&browser, &second] {
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    // Revocations continue where they were.
    let deliveries = gate.provider.log_out_user("mlflow_user");
    assert!(deliveries.iter().all(|delivery| delivery.status == Some(200)), "{deliveries:?}");
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| second.fetching("GET", url));
    pair.rejoin().unwrap();
    assert_soon_everywhere(&gate, 200, "/x", |url| second.fetching("GET", url));
    assert_workers_alive(&gate);
}

#[test]
fn in_a_cluster_sessions_live_on_all_nodes_and_follow_their_slots() {
    let gate = Gate::builder().redis_cluster().envoys(2).set("session.cache_ttl", "0s").start();
    let cluster = gate.redis_cluster();
    let browsers: Vec<Client> = (0..9).map(|_| gate.signed_in("mlflow_user")).collect();
    for browser in &browsers {
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    let keys = cluster.keys("mlflow:s:*").unwrap();
    assert_eq!(keys.len(), browsers.len(), "{keys:?}");
    let slots: BTreeSet<u16> = keys.iter().map(|key| cluster.slot_of(key).unwrap()).collect();
    let owners: BTreeSet<usize> = slots.iter().map(|slot| cluster.owner_of(*slot).unwrap()).collect();
    // With nine keys, one node gets no key in 8 of 100 runs. That is not a failure of the gate.
    println!("sessions on nodes {owners:?}");
    assert!(owners.len() > 1, "all sessions on one node");

    // Each slot moves: Redis first answers with ASK, then with MOVED.
    for slot in &slots {
        let to = (cluster.owner_of(*slot).unwrap() + 1) % NODES;
        cluster.begin_move(*slot, to).unwrap();
    }
    for browser in &browsers {
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    let during = gate.signed_in("mlflow_admin");
    assert_everywhere(&gate, 200, "/x", |url| during.fetching("GET", url));
    for slot in &slots {
        let to = (cluster.owner_of(*slot).unwrap() + 1) % NODES;
        cluster.finish_move(*slot, to).unwrap();
    }
    for browser in &browsers {
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    assert_eq!(browsers[0].navigate(&gate.url("/oauth2/account")).unwrap().status, 200);
    let deliveries = gate.provider.log_out_user("mlflow_user");
    assert!(deliveries.iter().all(|delivery| delivery.status == Some(200)), "{deliveries:?}");
    for browser in &browsers {
        assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    }
    assert_everywhere(&gate, 200, "/x", |url| during.fetching("GET", url));
    assert_workers_alive(&gate);
}

#[test]
fn in_a_cluster_that_lost_a_node_its_sessions_are_503_and_come_back() {
    let gate = Gate::builder().redis_cluster().set("session.cache_ttl", "0s").start();
    let cluster = gate.redis_cluster();
    let browser = gate.signed_in("mlflow_user");
    let key = cluster.keys("mlflow:s:*").unwrap().remove(0);
    let owner = cluster.owner_of(cluster.slot_of(&key).unwrap()).unwrap();
    let node = cluster.node(owner);
    node.save().unwrap();
    node.kill();
    assert_soon_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
    node.resume_with(oidc_gate_testkit::redis::Data::Saved).unwrap();
    cluster.wait_until_whole().unwrap();
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    // Another node is stopped. It has no data of this session.
    let other = cluster.node((owner + 1) % NODES);
    other.freeze();
    gate.wait_until("asks a node that is away", || {
        browser.fetch(&gate.url("/x")).is_ok_and(|response| response.status == 200)
    });
    other.thaw();
    cluster.wait_until_whole().unwrap();
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
}

/// Presents the gate's only Redis as a node of a Redis Cluster.
fn as_a_node(config: EnvoyConfig) -> EnvoyConfig {
    let mut port = 0;
    let config = config.edit_cluster("redis", |cluster| {
        let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        port = endpoint["address"]["socket_address"]["port_value"].as_u64().unwrap();
    });
    config.redis_cluster(&[u16::try_from(port).unwrap()])
}

/// The answer to `CLUSTER NODES` with these ports.
fn nodes(ports: &[u16]) -> Fault {
    let line = |port: &u16| format!("07c3 127.0.0.1:{port}@1 master - 0 1 1 connected 0-16383\n");
    Fault::Bytes(Reply::Bulk(ports.iter().flat_map(|port| line(port).into_bytes()).collect()).bytes())
}

#[test]
fn f1205_a_node_that_sends_the_gate_elsewhere_gets_nobody_in_and_no_password_out() {
    let gate = Gate::builder().redis_proxy().envoy(as_a_node).set("session.cache_ttl", "0s").start();
    let proxy = gate.redis_proxy();
    // This server would accept the password and confirm every command.
    let trap = FakeRedis::start(Script::Reply(b"+OK\r\n".to_vec())).unwrap();
    let browser = gate.signed_in("mlflow_user");
    let redirect = |kind: &str, address: &str, known: &[u16]| {
        proxy.behave();
        proxy.fail(On::Command("CLUSTER"), Times::Always, nodes(known));
        let elsewhere = Fault::Error(format!("{kind} 1 {address}"));
        proxy.fail(On::Key("mlflow:s:".to_owned()), Times::Always, elsewhere);
    };
    for kind in ["MOVED", "ASK"] {
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]", ""] {
            redirect(kind, &format!("{host}:{}", trap.port()), &[proxy.port()]);
            let page = assert_refused(&gate, 503, || browser.navigate(&gate.url("/x")));
            assert!(page.header("retry-after").is_some(), "{page}");
            assert_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
        }
    }
    assert_eq!(trap.connections(), 0);
    proxy.behave();
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    // As soon as the configured node lists it, the gate contacts it. This shows that the trap works.
    redirect("MOVED", &format!("127.0.0.1:{}", trap.port()), &[proxy.port(), trap.port()]);
    gate.wait_until("does not learn of a new node", || {
        browser.fetch(&gate.url("/x")).is_ok() && trap.heard("AUTH") > 0
    });
    assert_workers_alive(&gate);
}
