//! Redirections of a Redis Cluster: which are followed, and who gets the password.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::testing::test;
use oidc_gate_redis_model::resp::{Reply, Words, take_command};

use super::*;
use crate::host::CalloutReply;
use crate::testing::TestHost;

/// What `CLUSTER NODES` says.
const NODES: &str = "07c3 10.0.0.1:6379@16379 myself,master - 0 1 1 connected 0-5460\n\
                     e7d1 10.0.0.2:6379@16379,redis-2.example master - 0 1 2 connected 5461-10922\n\
                     a1b2 2001:db8::3:6379@16379,redis-3.example,shard-id=x master - 0 1 3 connected 10923-16383\n\
                     dead :0@0 master,noaddr - 0 1 0 disconnected\n\
                     meet 10.6.6.6:6379@16379 handshake - 0 0 0 disconnected\n";

/// A cluster whose configured nodes answer every data command with a redirection, and `CLUSTER NODES` with that text.
struct Cluster {
    host: Rc<TestHost>,
    redis: Redis,
    answer: Rc<RefCell<String>>,
    nodes: Rc<RefCell<String>>,
}

impl Cluster {
    fn new() -> Self {
        let host = TestHost::new();
        let config = config::Redis {
            cluster: "redis".into(),
            nodes: Some("redis_nodes".into()),
            username: None,
            password: Some(Secret::new("redis-s3cret")),
            prefix: "p".into(),
            timeout: Duration::from_secs(2),
        };
        let answer = Rc::new(RefCell::new(String::new()));
        let nodes = Rc::new(RefCell::new(NODES.to_owned()));
        let redis = Redis::new(host.clone(), config);
        let (first, listed) = (answer.clone(), nodes.clone());
        host.on("redis", move |callout| {
            let asks_for_nodes = commands(callout).iter().any(|command| command[0] == b"CLUSTER");
            let answer =
                if asks_for_nodes { bulk(&listed.borrow()) } else { first.borrow().clone().into_bytes() };
            Ok(reply(callout, &answer))
        });
        host.on("redis_nodes", |callout| Ok(reply(callout, &bulk("v"))));
        Self { host, redis, answer, nodes }
    }

    fn get(&self, redirection: &str) -> Result<Vec<Value>, RedisError> {
        *self.answer.borrow_mut() = redirection.to_owned();
        // Each about another slot, so that nothing is known of it.
        let key = format!("p:{}", self.host.calls().len());
        self.host.run(self.redis.run(&[Command::new("GET").arg(key)]))
    }

    /// The addresses that were sent anything.
    fn reached(&self) -> Vec<String> {
        let to = |callout: &Callout| {
            callout.headers.iter().find(|(name, _)| name == NODE_HEADER).map(|(_, node)| node.clone())
        };
        self.host.calls().iter().filter_map(to).collect()
    }

    fn lookups(&self) -> usize {
        let calls = self.host.calls();
        calls.iter().filter(|callout| String::from_utf8_lossy(&callout.body).contains("NODES")).count()
    }
}

fn commands(callout: &Callout) -> Vec<Words> {
    let mut pipeline = callout.body.clone();
    std::iter::from_fn(|| take_command(&mut pipeline).unwrap()).collect()
}

fn bulk(text: &str) -> Vec<u8> {
    Reply::Bulk(text.into()).bytes()
}

/// `AUTH`, `ASKING` and `ECHO` as Redis answers them, and these bytes for any other command.
fn reply(callout: &Callout, answer: &[u8]) -> CalloutReply {
    let one = |command: &Words| match command[0].as_slice() {
        b"AUTH" | b"ASKING" => b"+OK\r\n".to_vec(),
        b"ECHO" => Reply::Bulk(command[1].clone()).bytes(),
        _ => answer.to_vec(),
    };
    CalloutReply { status: 200, headers: Vec::new(), body: commands(callout).iter().flat_map(one).collect() }
}

#[test]
fn f1205_a_redirection_to_an_address_that_is_not_of_the_cluster_is_not_followed() {
    for kind in ["MOVED", "ASK"] {
        for address in [
            "10.9.9.9:6379",
            "10.0.0.1:6380",
            "127.0.0.1:6379",
            "[2001:db8::4]:6379",
            "2001:db8::4:6379",
            "10.6.6.6:6379",
            "redis-9.example:6379",
            "redis-2.example:6380",
            ":6379",
            "?:6379",
        ] {
            let cluster = Cluster::new();
            let refused = cluster.get(&format!("-{kind} 1 {address}\r\n")).unwrap_err();
            assert!(
                cluster.reached().is_empty(),
                "{kind} {address}: the password went to {:?}",
                cluster.reached()
            );
            assert!(refused.to_string().starts_with(kind), "{refused:?}");
        }
    }
}

#[test]
fn f1205_a_redirection_within_the_cluster_is_followed_however_the_node_is_written() {
    for (written, address) in [
        ("10.0.0.2:6379", "10.0.0.2:6379"),
        ("redis-2.example:6379", "10.0.0.2:6379"),
        ("Redis-2.Example:6379", "10.0.0.2:6379"),
        ("2001:db8::3:6379", "[2001:db8::3]:6379"),
        ("[2001:db8::3]:6379", "[2001:db8::3]:6379"),
    ] {
        for kind in ["MOVED", "ASK"] {
            let cluster = Cluster::new();
            cluster.get(&format!("-{kind} 1 {written}\r\n")).unwrap();
            assert_eq!(cluster.reached(), [address], "{kind} {written}");
            assert_eq!(cluster.lookups(), 1);
        }
    }
}

/// A failover brings in a node that was not there before; one that lies makes nobody ask all the time.
#[test]
fn f1205_a_new_node_is_learned_from_the_configured_nodes_and_they_are_not_asked_all_the_time() {
    let cluster = Cluster::new();
    let new = "-MOVED 1 10.0.0.7:6379\r\n";
    for _ in 0..50 {
        cluster.get(new).unwrap_err();
    }
    assert!((1..=2).contains(&cluster.lookups()), "{} lookups", cluster.lookups());
    assert!(cluster.reached().is_empty());
    cluster.nodes.borrow_mut().push_str("f00d 10.0.0.7:6379@16379 master - 0 1 4 connected\n");
    cluster.host.advance(Duration::from_secs(1));
    cluster.get(new).unwrap();
    assert_eq!(cluster.reached(), ["10.0.0.7:6379"]);
}

/// Its address may be somebody else's by then.
#[test]
fn f1205_a_node_that_has_left_the_cluster_is_not_asked_any_more() {
    let cluster = Cluster::new();
    let ask = || cluster.host.run(cluster.redis.run(&[Command::new("GET").arg("p:x")]));
    *cluster.answer.borrow_mut() = "-MOVED 1 10.0.0.2:6379\r\n".to_owned();
    ask().unwrap();
    ask().unwrap();
    assert_eq!(cluster.reached().len(), 2, "the slot's node is remembered");
    let without: String =
        NODES.lines().filter(|line| !line.contains("10.0.0.2")).map(|line| format!("{line}\n")).collect();
    *cluster.nodes.borrow_mut() = without;
    *cluster.answer.borrow_mut() = "$1\r\nv\r\n".to_owned();
    cluster.host.advance(Duration::from_secs(60));
    ask().unwrap();
    cluster.host.run(cluster.host.clone().sleep_for(Duration::from_millis(10)));
    let before = cluster.reached().len();
    ask().unwrap();
    assert_eq!(cluster.reached().len(), before, "the configured nodes are asked instead");
}

/// Configured nodes that are away, or do not say: what was known stays.
#[test]
fn f1205_what_is_known_of_the_cluster_outlives_configured_nodes_that_do_not_say() {
    let cluster = Cluster::new();
    cluster.get("-MOVED 1 10.0.0.2:6379\r\n").unwrap();
    for answer in ["", "-ERR This instance has cluster support disabled", "x y z"] {
        *cluster.nodes.borrow_mut() = answer.to_owned();
        cluster.host.advance(Duration::from_secs(60));
        cluster.get("-MOVED 1 10.0.0.2:6379\r\n").unwrap();
        cluster.host.run(cluster.host.clone().sleep_for(Duration::from_millis(10)));
        cluster.get("-MOVED 1 10.9.9.9:6379\r\n").unwrap_err();
    }
}
