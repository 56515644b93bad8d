//! Redis behind an Envoy cluster with a TCP connection pool: one callout carries a RESP pipeline and brings back all
//! replies, or it failed.

pub mod resp;

use std::rc::Rc;

use crate::config;
use crate::host::{Callout, CalloutError, Host};
use crate::secret::Secret;
use resp::Value;

/// Longest value that is sent or accepted: beyond 64 KiB Redis' replies are cut silently on some transports.
pub const MAX_VALUE_LEN: usize = 60 * 1024;

/// Why Redis gave no usable answer. Every one of them means "don't know", never "not there".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisError(pub &'static str);

/// A connection-less client: every call is a pipeline of its own.
#[derive(Clone)]
pub struct Redis {
    host: Rc<dyn Host>,
    config: config::Redis,
}

impl Redis {
    /// For the cluster, credentials and timeout of the configuration.
    pub fn new(host: Rc<dyn Host>, config: config::Redis) -> Self {
        Self { host, config }
    }

    /// A key in this tenant's part of the store.
    pub fn key(&self, parts: &[&str]) -> String {
        let mut key = self.config.prefix.clone();
        for part in parts {
            key.push(':');
            key.push_str(part);
        }
        key
    }

    /// Runs the commands in order and gives back one reply each.
    ///
    /// # Errors
    /// Anything but exactly one well-formed, error-free reply per command.
    pub async fn run(&self, commands: &[Command]) -> Result<Vec<Value>, RedisError> {
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
        for command in commands {
            command.encode(&mut body);
        }
        // The last reply is one that only an answer to this very pipeline can have.
        let mut nonce = [0; 9];
        self.host.random(&mut nonce).map_err(|_| RedisError("no randomness"))?;
        let nonce = crate::encoding::base64url(nonce);
        Command::new("ECHO").arg(nonce.as_bytes()).encode(&mut body);
        expected = expected.saturating_add(1);

        let callout = Callout {
            cluster: self.config.cluster.clone(),
            headers: vec![
                (":method".to_owned(), "POST".to_owned()),
                (":path".to_owned(), "/".to_owned()),
                (":authority".to_owned(), self.config.cluster.clone()),
            ],
            body,
            timeout: self.config.timeout,
        };
        let reply = self.host.call(callout).await.map_err(|error| {
            RedisError(match error {
                CalloutError::UnknownCluster => "unknown cluster",
                CalloutError::NotSent => "no healthy host",
                CalloutError::Reset => "connection lost",
            })
        })?;
        match reply.status {
            // Envoy makes this up once connected; it says nothing about Redis.
            200 => {}
            504 => return Err(RedisError("timeout")),
            _ => return Err(RedisError("can't connect")),
        }
        let mut replies = resp::parse_exactly(&reply.body, expected)?;
        if replies.pop() != Some(Value::Bulk(nonce.into_bytes())) {
            return Err(RedisError("reply of another request"));
        }
        if self.config.password.is_some() {
            replies.remove(0);
        }
        Ok(replies)
    }
}

/// One command with its arguments.
pub struct Command {
    args: Vec<Secret>,
}

impl Command {
    /// A command without arguments yet.
    pub fn new(name: &str) -> Self {
        Self { args: vec![Secret::new(name)] }
    }

    /// Adds an argument; any bytes.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.args.push(Secret::new(value));
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, value: u64) -> Self {
        self.arg(value.to_string())
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
