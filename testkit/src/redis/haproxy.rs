//! HAProxy in front of a [`Pair`](super::Pair): one address that always leads to the primary.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, Trouble, accepts_connections, free_port, tail};

/// A running HAProxy; dropping it stops it.
#[derive(Debug)]
pub struct HaProxy {
    port: u16,
    process: Process,
    _folder: TempDir,
}

impl HaProxy {
    /// Starts the binary `program` in front of the Redis servers at `ports`, which share a password. One of them is the
    /// primary.
    ///
    /// # Errors
    /// It exited, or it does not forward only to the primary within 10 s. The error has the tail of its log.
    pub fn start(program: &Path, ports: &[u16], password: &str) -> Result<Self, Trouble> {
        let port = free_port();
        let folder = TempDir::new()?;
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, configuration(port, ports, password))?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&path).current_dir(folder.path());
        let log = folder.path().join("haproxy.log");
        let mut process = Process::start("HAProxy", &mut command, &log)?;
        // HAProxy considers all servers healthy until the first check.
        let others_are_out = || tail(&log).matches(" is DOWN").count() + 1 >= ports.len();
        process.wait_until(Duration::from_secs(10), || accepts_connections(port) && others_are_out())?;
        Ok(Self { port, process, _folder: folder })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Only a server that answers `role:master` gets connections. Connections to a server that no longer does are closed. A
/// slow answer is tolerated, but a different one removes the server at once (`min-recv`).
fn configuration(port: u16, servers: &[u16], password: &str) -> String {
    let servers: String = servers
        .iter()
        .map(|server| {
            format!(
                "    server redis-{server} 127.0.0.1:{server} check inter 250ms fall 1 rise 1 \
                 on-marked-down shutdown-sessions\n"
            )
        })
        .collect();
    format!(
        "defaults
    mode tcp
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    timeout check 5s

listen redis
    bind 127.0.0.1:{port}
    option tcp-check
    tcp-check connect
    tcp-check send AUTH\\ {password}\\r\\n
    tcp-check expect string +OK
    tcp-check send INFO\\ replication\\r\\n
    tcp-check expect min-recv 64 string role:master
    tcp-check send QUIT\\r\\n
    tcp-check expect string +OK
{servers}"
    )
}
