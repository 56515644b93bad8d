//! Three real nodes: each key is on the node of its slot, and slots can be moved.

use oidc_gate_testkit::process::required_path;
use oidc_gate_testkit::redis::{Cluster, NODES};

#[test]
fn keys_live_on_one_node_and_the_others_say_where() {
    let cluster = Cluster::start(&required_path("OIDC_GATE_REDIS").unwrap()).unwrap();
    let key = "mlflow:s:x";
    let slot = cluster.slot_of(key).unwrap();
    let owner = cluster.owner_of(slot).unwrap();
    cluster.node(owner).command(&["SET", key, "1"]).unwrap();
    let elsewhere = cluster.node((owner + 1) % NODES).command(&["GET", key]).unwrap_err().to_string();
    let moved = format!("{slot} 127.0.0.1:{}", cluster.node(owner).port());
    assert!(elsewhere.to_lowercase().contains("moved") && elsewhere.contains(&moved), "{elsewhere}");

    let to = (owner + 2) % NODES;
    cluster.begin_move(slot, to).unwrap();
    let ask = cluster.node(owner).command(&["GET", key]).unwrap_err().to_string();
    let asked = format!("{slot} 127.0.0.1:{}", cluster.node(to).port());
    assert!(ask.to_lowercase().contains("ask") && ask.contains(&asked), "{ask}");
    cluster.finish_move(slot, to).unwrap();
    let found: String = cluster.node(to).query(&["GET", key]).unwrap();
    assert_eq!((found.as_str(), cluster.owner_of(slot).unwrap()), ("1", to));
    assert_eq!(cluster.keys("*").unwrap(), [key]);
}
