//! A Redis client over an Envoy cluster with a TCP connection pool. One callout sends a RESP pipeline. It returns all
//! replies, or it fails.
//!
//! Each callout has its own connection. The pipeline is `AUTH` if there is a password, the commands, and `ECHO` with a
//! random word. Envoy reports status 200 as soon as it is connected, which says nothing about Redis. So an answer
//! counts only if it has exactly one well-formed reply for each command, none of them is an error, and the last one is
//! the random word. The number of replies would not be enough: it does not show that they belong to this pipeline.
//!
//! The cluster must set `max_requests_per_connection: 1`. Otherwise Envoy may send a callout on the closing connection
//! of another one, and the callout is lost.
//!
//! In a Redis Cluster (`session.redis.nodes`) all keys of a pipeline are in one slot. `MOVED` and `ASK` are followed,
//! four times at most (`cluster`).

pub mod cluster;
pub mod error;
pub mod resp;

use std::net::SocketAddr;
use std::rc::Rc;

use crate::config;
use crate::host::{Callout, Host, Level};
use crate::secret::Secret;
use crate::sync::Role;
use cluster::{Endpoint, Nodes, Redirection, Slots, slot};
pub use error::RedisError;
use resp::{NoReplies, Value};

/// How many redirections one call follows.
const MAX_REDIRECTIONS: usize = 4;
/// The header that names the node to Envoy's ORIGINAL_DST cluster (`use_http_header`).
const NODE_HEADER: &str = "x-envoy-original-dst-host";

/// Longest value that is sent or accepted. Some transports silently truncate replies above 64 KiB.
pub const MAX_VALUE_LEN: usize = 60 * 1024;

/// A client without a lasting connection. Each call is a separate pipeline.
#[derive(Clone)]
pub struct Redis {
    host: Rc<dyn Host>,
    config: config::Redis,
    slots: Rc<Slots>,
    nodes: Rc<Nodes>,
}

/// The destination of a pipeline.
#[derive(Clone, Copy)]
enum Target {
    /// The configured cluster.
    Any,
    /// A node that owns the slot.
    Node(SocketAddr),
    /// A node to which the slot is being migrated.
    Asking(SocketAddr),
}

impl Redis {
    /// For the cluster, credentials and timeout of the configuration.
    pub fn new(host: Rc<dyn Host>, config: config::Redis) -> Self {
        Self { host, config, slots: Rc::default(), nodes: Rc::default() }
    }

    /// A key under this tenant's prefix.
    pub fn key(&self, parts: &[&str]) -> String {
        let mut key = self.config.prefix.clone();
        for part in parts {
            key.push(':');
            key.push_str(part);
        }
        key
    }

    /// Runs the commands in order and returns one reply for each. In a Redis Cluster all keys must be in the same slot.
    /// Redirections to nodes of the cluster are followed.
    ///
    /// # Errors
    /// Anything except exactly one well-formed reply without error for each command.
    pub async fn run(&self, commands: &[Command]) -> Result<Vec<Value>, RedisError> {
        let Some(nodes) = &self.config.nodes else {
            return self
                .send(commands, &self.config.cluster, Target::Any)
                .await
                .map_err(|failed| failed.error);
        };
        let slot = commands.iter().find_map(Command::key).map(slot);
        if self.nodes.are_due(self.host.now()) {
            let redis = self.clone();
            self.host.spawn(Box::pin(async move { redis.learn_nodes_once().await }));
        }
        let known = slot.and_then(|slot| self.slots.node(slot));
        let mut target = known.map_or(Target::Any, Target::Node);
        let mut failure = RedisError::TooManyRedirections;
        for _ in 0..=MAX_REDIRECTIONS {
            let cluster = if matches!(target, Target::Any) { &self.config.cluster } else { nodes };
            let NoReplies { error, redirection } = match self.send(commands, cluster, target).await {
                Ok(replies) => return Ok(replies),
                Err(failed) => failed,
            };
            failure = error;
            target = match (redirection, target) {
                (Some(Redirection::Moved(to)), _) => {
                    let Some(node) = self.node_of_the_cluster(&to).await else { break };
                    if let Some(slot) = slot {
                        self.slots.moved(slot, node);
                    }
                    Target::Node(node)
                }
                (Some(Redirection::Ask(to)), _) => {
                    let Some(node) = self.node_of_the_cluster(&to).await else { break };
                    Target::Asking(node)
                }
                // The node may be gone, and another one may have replaced it.
                (None, Target::Node(node) | Target::Asking(node)) => {
                    self.slots.forget(node);
                    Target::Any
                }
                (None, Target::Any) => break,
            };
        }
        Err(failure)
    }

    /// The node to which a redirection leads, if it belongs to the cluster. After a failover the node may be new, so an
    /// unknown one makes the gate request the list of nodes again.
    async fn node_of_the_cluster(&self, to: &Endpoint) -> Option<SocketAddr> {
        if let Some(node) = self.nodes.find(to) {
            return Some(node);
        }
        self.learn_nodes_once().await;
        let found = self.nodes.find(to);
        if found.is_none() {
            self.host.log(
                Level::Debug,
                &format!("Redis redirected to {to:?}, which is not a known node: redirection not followed"),
            );
        }
        found
    }

    /// Lets one of several concurrent calls request the list of nodes, within the limit on its frequency.
    async fn learn_nodes_once(&self) {
        match self.nodes.flights.join(()) {
            Role::Lead(_until_learned) if self.nodes.may_ask(self.host.now()) => self.learn_nodes().await,
            Role::Lead(_) => {}
            Role::Follow(learned) => learned.await,
        }
    }

    /// Requests the list of nodes from the configured nodes. On failure the known list stays.
    async fn learn_nodes(&self) {
        self.nodes.ask(self.host.now());
        let asked = self
            .send(&[Command::new("CLUSTER").arg("NODES")], &self.config.cluster, Target::Any)
            .await
            .map_err(|failed| failed.error);
        let learned = asked.and_then(|replies| match replies.as_slice() {
            [Value::Bulk(answer)] if self.nodes.learn(answer, self.host.now()) => Ok(()),
            _ => Err(RedisError::WrongType),
        });
        match learned {
            Ok(()) => self.slots.keep(&self.nodes),
            Err(error) => {
                self.host
                    .log(Level::Warn, &format!("CLUSTER NODES failed, keeping the known nodes: {error}"));
            }
        }
    }

    /// Runs unrelated commands in order and returns one reply for each.
    ///
    /// # Errors
    /// As [`Redis::run`], for any of the commands.
    pub async fn run_each(&self, commands: Vec<Command>) -> Result<Vec<Value>, RedisError> {
        if self.config.nodes.is_none() {
            return if commands.is_empty() { Ok(Vec::new()) } else { self.run(&commands).await };
        }
        let mut replies = Vec::new();
        for command in commands {
            replies.extend(self.run(&[command]).await?);
        }
        Ok(replies)
    }

    async fn send(
        &self,
        commands: &[Command],
        cluster: &str,
        target: Target,
    ) -> Result<Vec<Value>, NoReplies> {
        let mut body = Vec::new();
        let mut expected = commands.len();
        if let Some(password) = &self.config.password {
            let mut auth = Command::new("AUTH");
            if let Some(username) = &self.config.username {
                auth = auth.arg(username.as_bytes());
            }
            auth.secret(password).encode(&mut body);
            expected = expected.saturating_add(1);
        }
        let asking = matches!(target, Target::Asking(_));
        for command in commands {
            if asking {
                Command::new("ASKING").encode(&mut body);
                expected = expected.saturating_add(1);
            }
            command.encode(&mut body);
        }
        // The random word proves that the replies belong to this pipeline.
        let mut nonce = [0; 9];
        self.host.random(&mut nonce).map_err(|_| RedisError::NoRandomness)?;
        let nonce = crate::encoding::base64url(nonce);
        Command::new("ECHO").arg(nonce.as_bytes()).encode(&mut body);
        expected = expected.saturating_add(1);

        let mut headers = vec![
            (":method".to_owned(), "POST".to_owned()),
            (":path".to_owned(), "/".to_owned()),
            (":authority".to_owned(), cluster.to_owned()),
        ];
        if let Target::Node(node) | Target::Asking(node) = target {
            headers.push((NODE_HEADER.to_owned(), node.to_string()));
        }
        let callout = Callout { cluster: cluster.to_owned(), headers, body, timeout: self.config.timeout };
        let reply = self.host.call(callout).await.map_err(RedisError::from)?;
        match reply.status {
            // Envoy makes up this status once it is connected. It says nothing about Redis.
            200 => {}
            504 => return Err(RedisError::Timeout.into()),
            _ => return Err(RedisError::CannotConnect.into()),
        }
        let mut replies = resp::parse_exactly(&reply.body, expected)?;
        if replies.pop() != Some(Value::Bulk(nonce.into_bytes())) {
            return Err(RedisError::OfAnotherRequest.into());
        }
        if self.config.password.is_some() {
            replies.remove(0);
        }
        if asking {
            replies = replies.into_iter().skip(1).step_by(2).collect();
        }
        Ok(replies)
    }
}

/// One command with its arguments.
pub struct Command {
    args: Vec<Secret>,
}

impl Command {
    /// A command without arguments.
    pub fn new(name: &str) -> Self {
        Self { args: vec![Secret::new(name)] }
    }

    /// Adds an argument, which may be any bytes.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.args.push(Secret::new(value));
        self
    }

    /// Adds a number as an argument.
    #[must_use]
    pub fn number(self, value: u64) -> Self {
        self.arg(value.to_string())
    }

    /// The key that the command is about.
    fn key(&self) -> Option<&[u8]> {
        let at = match self.args.first()?.expose() {
            b"EVAL" => 3,
            _ => 1,
        };
        self.args.get(at).map(Secret::expose)
    }

    fn secret(mut self, value: &Secret) -> Self {
        self.args.push(value.clone());
        self
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*{}\r\n", self.args.len()).as_bytes());
        for arg in &self.args {
            out.extend_from_slice(format!("${}\r\n", arg.expose().len()).as_bytes());
            out.extend_from_slice(arg.expose());
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests;
