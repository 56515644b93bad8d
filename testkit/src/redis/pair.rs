//! A primary and its replica, which takes over by command or when the primary is gone.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::server::{Data, Redis, new_password};
use crate::process::{Trouble, free_port, wait_until};

const READY: Duration = Duration::from_secs(20);

/// Two servers with one password, one of which is the primary.
#[derive(Debug)]
pub struct Pair {
    servers: [Redis; 2],
    primary: AtomicUsize,
}

impl Pair {
    /// Starts both, and waits until the replica follows.
    ///
    /// # Errors
    /// A server does not start, or does not follow in 20 s.
    pub fn start(program: &Path) -> Result<Self, Trouble> {
        let password = new_password();
        let server = || {
            let port = free_port();
            let arguments = [
                ["--port", &port.to_string()],
                ["--masterauth", &password],
                // A failover by command hands the data over at once, not after some seconds.
                ["--repl-diskless-sync-delay", "0"],
            ];
            let arguments = arguments.concat().into_iter().map(ToOwned::to_owned).collect();
            Redis::launch(program, port, &password, None, arguments)
        };
        let pair = Self { servers: [server()?, server()?], primary: AtomicUsize::new(0) };
        pair.follow(pair.replica(), pair.primary())?;
        Ok(pair)
    }

    /// The primary.
    pub fn primary(&self) -> &Redis {
        self.server(self.primary.load(Ordering::SeqCst))
    }

    /// The other one; after [`Pair::fail_over`] it is not running.
    pub fn replica(&self) -> &Redis {
        self.server(1 - self.primary.load(Ordering::SeqCst))
    }

    fn server(&self, number: usize) -> &Redis {
        let [first, second] = &self.servers;
        if number == 0 { first } else { second }
    }

    /// The ports of both.
    pub fn ports(&self) -> [u16; 2] {
        [self.servers[0].port(), self.servers[1].port()]
    }

    /// What `AUTH` wants, on both.
    pub fn password(&self) -> &str {
        self.servers[0].password()
    }

    /// Waits until everything that the primary has written so far has reached the replica.
    ///
    /// # Errors
    /// It did not in 20 s.
    pub fn wait_until_replicated(&self) -> Result<(), Trouble> {
        let offset = |redis: &Redis| redis.info("replication", "master_repl_offset");
        let written: u64 = offset(self.primary())?.and_then(|text| text.parse().ok()).unwrap_or_default();
        let arrived = || {
            let offset = self.replica().info("replication", "slave_repl_offset").ok().flatten();
            offset.and_then(|text| text.parse::<u64>().ok()).is_some_and(|offset| offset >= written)
        };
        if wait_until(READY, arrived) {
            return Ok(());
        }
        Err(Trouble::new(format!("the replica is behind after {READY:?}")))
    }

    /// The primary dies, and the replica takes over. What had not reached it is lost.
    ///
    /// # Errors
    /// The replica does not take over in 20 s.
    pub fn fail_over(&self) -> Result<(), Trouble> {
        self.primary().kill();
        self.replica().command(&["REPLICAOF", "NO", "ONE"])?;
        self.wait_for_role(self.replica(), "master")?;
        self.primary.fetch_xor(1, Ordering::SeqCst);
        Ok(())
    }

    /// The primary hands over in order (`FAILOVER`): nothing is lost, and it is the replica from now on.
    ///
    /// # Errors
    /// They do not change places in 20 s.
    pub fn hand_over(&self) -> Result<(), Trouble> {
        self.primary().command(&["FAILOVER"])?;
        self.wait_for_role(self.replica(), "master")?;
        self.wait_for_role(self.primary(), "slave")?;
        self.primary.fetch_xor(1, Ordering::SeqCst);
        Ok(())
    }

    /// Starts the one that died, as a replica of the other.
    ///
    /// # Errors
    /// It does not start, or does not follow in 20 s.
    pub fn rejoin(&self) -> Result<(), Trouble> {
        self.replica().resume_with(Data::Lost)?;
        self.follow(self.replica(), self.primary())
    }

    fn follow(&self, replica: &Redis, primary: &Redis) -> Result<(), Trouble> {
        replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()])?;
        let follows = || {
            let link = replica.info("replication", "master_link_status").ok().flatten();
            link.as_deref() == Some("up")
        };
        if wait_until(READY, follows) {
            return Ok(());
        }
        Err(Trouble::new(format!("the replica does not follow after {READY:?}")))
    }

    fn wait_for_role(&self, redis: &Redis, role: &str) -> Result<(), Trouble> {
        let has = || redis.info("replication", "role").ok().flatten().as_deref() == Some(role);
        if wait_until(READY, has) {
            return Ok(());
        }
        Err(Trouble::new(format!("port {} is no {role} after {READY:?}", redis.port())))
    }
}
