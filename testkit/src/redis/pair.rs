//! A primary and its replica, which takes over on command or when the primary fails.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::server::{Data, Redis, new_password};
use crate::process::{Trouble, free_port, wait_until};

const READY: Duration = Duration::from_secs(20);

/// Two servers with one password; one is the primary.
#[derive(Debug)]
pub struct Pair {
    servers: [Redis; 2],
    primary: AtomicUsize,
}

impl Pair {
    /// Starts both and waits until the replica follows the primary.
    ///
    /// # Errors
    /// A server does not start, or the replica does not follow within 20 s.
    pub fn start(program: &Path) -> Result<Self, Trouble> {
        let password = new_password();
        let server = || {
            let port = free_port();
            let arguments = [
                ["--port", &port.to_string()],
                ["--masterauth", &password],
                // A failover on command transfers the data at once, instead of after some seconds.
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

    /// The other server. After [`Pair::fail_over`] it is not running.
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

    /// The password of both servers.
    pub fn password(&self) -> &str {
        self.servers[0].password()
    }

    /// Waits until the replica has everything that the primary has written so far.
    ///
    /// # Errors
    /// It does not within 20 s.
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

    /// Kills the primary, and promotes the replica. Writes that had not reached the replica are lost.
    ///
    /// # Errors
    /// The replica does not take over within 20 s.
    pub fn fail_over(&self) -> Result<(), Trouble> {
        self.primary().kill();
        self.replica().command(&["REPLICAOF", "NO", "ONE"])?;
        self.wait_for_role(self.replica(), "master")?;
        self.primary.fetch_xor(1, Ordering::SeqCst);
        Ok(())
    }

    /// Swaps the roles in an orderly way (`FAILOVER`), without loss of data.
    ///
    /// # Errors
    /// The roles are not swapped within 20 s.
    pub fn hand_over(&self) -> Result<(), Trouble> {
        self.primary().command(&["FAILOVER"])?;
        self.wait_for_role(self.replica(), "master")?;
        self.wait_for_role(self.primary(), "slave")?;
        self.primary.fetch_xor(1, Ordering::SeqCst);
        Ok(())
    }

    /// Restarts the killed server as a replica of the other one.
    ///
    /// # Errors
    /// It does not start, or does not follow within 20 s.
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
