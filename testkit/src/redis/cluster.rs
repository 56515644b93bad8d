//! A real Redis Cluster of three nodes on loopback, whose slots can be moved.

use std::path::Path;
use std::time::Duration;

use super::server::{Redis, new_password};
use crate::process::{Trouble, free_port, wait_until};

/// The number of nodes. Each has a third of the slots.
pub const NODES: usize = 3;

const SLOTS: u32 = 16_384;
const READY: Duration = Duration::from_secs(30);

/// Three running nodes with one password.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts three nodes from the binary `program`, introduces them to each other, and gives each its slots.
    ///
    /// # Errors
    /// A node does not start, or the cluster is not complete within 30 s.
    pub fn start(program: &Path) -> Result<Self, Trouble> {
        let password = new_password();
        let mut nodes = Vec::new();
        let mut bus_ports = Vec::new();
        for _ in 0..NODES {
            let (port, bus_port) = (free_port(), free_port());
            let arguments = [
                ["--port", &port.to_string()],
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus_port.to_string()],
                ["--cluster-announce-ip", "127.0.0.1"],
                ["--cluster-node-timeout", "2000"],
                // If one node fails, the others continue to serve their slots.
                ["--cluster-require-full-coverage", "no"],
                ["--cluster-config-file", "nodes.conf"],
                ["--masterauth", &password],
            ];
            let arguments = arguments.concat().into_iter().map(ToOwned::to_owned).collect();
            nodes.push(Redis::launch(program, port, &password, None, arguments)?);
            bus_ports.push(bus_port);
        }
        let cluster = Self { nodes };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let [from, to] = [number, number + 1].map(|n| SLOTS * number_of(n) / number_of(NODES));
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &(to - 1).to_string()])?;
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
        }
        let first = cluster.node(0);
        for (node, bus_port) in cluster.nodes.iter().zip(&bus_ports).skip(1) {
            let (port, bus_port) = (node.port().to_string(), bus_port.to_string());
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port])?;
        }
        cluster.wait_until_whole()?;
        Ok(cluster)
    }

    /// Waits until every running node sees every slot served.
    ///
    /// # Errors
    /// They do not within 30 s.
    pub fn wait_until_whole(&self) -> Result<(), Trouble> {
        let sees_all = |node: &Redis| -> Result<bool, Trouble> {
            let info: String = node.query(&["CLUSTER", "INFO"])?;
            let known = format!("cluster_known_nodes:{NODES}\r\n");
            // The state stays `ok` without the slots of a failed node, so check the number of served slots as well.
            let served = format!("cluster_slots_ok:{SLOTS}\r\n");
            Ok(info.contains("cluster_state:ok") && info.contains(&known) && info.contains(&served))
        };
        let running = || self.nodes.iter().filter(|node| node.is_running());
        if wait_until(READY, || running().all(|node| sees_all(node).unwrap_or_default())) {
            return Ok(());
        }
        Err(Trouble::new(format!("the cluster is not whole after {READY:?}")))
    }

    /// A node by its index.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&self, number: usize) -> &Redis {
        match self.nodes.get(number) {
            Some(node) => node,
            None => panic!("a cluster of {NODES} nodes has no node {number}"),
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The password of every node.
    pub fn password(&self) -> &str {
        self.node(0).password()
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// No node answers.
    pub fn slot_of(&self, key: &str) -> Result<u16, Trouble> {
        self.node(0).query(&["CLUSTER", "KEYSLOT", key])
    }

    /// The node that owns a slot, according to the nodes.
    ///
    /// # Errors
    /// No node owns the slot.
    pub fn owner_of(&self, slot: u16) -> Result<usize, Trouble> {
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_running()) {
            let nodes: String = node.query(&["CLUSTER", "NODES"])?;
            let own = nodes.lines().find(|line| line.contains("myself"));
            let ranges = own.into_iter().flat_map(|line| line.split_whitespace().skip(8));
            let owns = |range: &str| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                let bounds = (from.parse::<u16>(), to.parse::<u16>());
                matches!(bounds, (Ok(from), Ok(to)) if (from..=to).contains(&slot))
            };
            if ranges.into_iter().any(owns) {
                return Ok(number);
            }
        }
        Err(Trouble::new(format!("no node owns slot {slot}")))
    }

    /// All keys that match a glob, on all running nodes, sorted.
    ///
    /// # Errors
    /// A node does not answer.
    pub fn keys(&self, glob: &str) -> Result<Vec<String>, Trouble> {
        let mut keys = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            keys.extend(node.keys(glob)?);
        }
        keys.sort();
        Ok(keys)
    }

    /// Begins to move a slot with its keys. Until [`Cluster::finish_move`], the owner redirects with `ASK`.
    ///
    /// # Errors
    /// A node refuses.
    pub fn begin_move(&self, slot: u16, to: usize) -> Result<(), Trouble> {
        let from = self.owner_of(slot)?;
        let (source, target) = (self.node(from), self.node(to));
        let slot = slot.to_string();
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)?])?;
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)?])?;
        let keys: Vec<String> = source.query(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"])?;
        for key in keys {
            let port = target.port().to_string();
            let auth = ["AUTH", self.password()];
            source.command(&[&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"], &auth[..]].concat())?;
        }
        Ok(())
    }

    /// Completes [`Cluster::begin_move`]: from now on the old owner redirects with `MOVED`.
    ///
    /// # Errors
    /// A node refuses.
    pub fn finish_move(&self, slot: u16, to: usize) -> Result<(), Trouble> {
        let owner = id(self.node(to))?;
        let slot_text = slot.to_string();
        // Tell the new owner first, so that the slot always has an owner.
        self.node(to).command(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &owner])?;
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.command(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &owner])?;
        }
        if wait_until(READY, || self.owner_of(slot).is_ok_and(|now| now == to)) {
            return Ok(());
        }
        Err(Trouble::new(format!("slot {slot} has not moved to node {to} after {READY:?}")))
    }
}

fn id(node: &Redis) -> Result<String, Trouble> {
    node.query(&["CLUSTER", "MYID"])
}

fn number_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
