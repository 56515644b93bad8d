//! The ports of a stack: which ones, whether they are free, and which processes use them.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The range for ports that users do not need to know. It is below the kernel's ephemeral ports, so that an outgoing
/// connection cannot take a port while its server restarts.
const HIDDEN: std::ops::Range<u16> = 20_000..32_000;

/// The port of each part, on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Envoy's listener, for browsers.
    pub gate: u16,
    /// The provider: Keycloak, or the light one.
    pub provider: u16,
    /// Keycloak's health endpoints.
    pub provider_management: u16,
    /// The application behind the gate. Only Envoy knows it.
    pub application: u16,
    /// Redis.
    pub redis: u16,
    /// Envoy's admin interface.
    pub envoy_admin: u16,
}

impl Ports {
    /// The well-known ports for developers, and hidden ones for the rest.
    pub fn for_people() -> Result<Self> {
        Ok(Self { gate: 5000, provider: 8080, ..Self::hidden()? })
    }

    /// Only free ports, for a stack that must not conflict with another one.
    pub fn hidden() -> Result<Self> {
        let mut taken = Vec::new();
        let mut next = || {
            let port = free(&taken)?;
            taken.push(port);
            anyhow::Ok(port)
        };
        Ok(Self {
            gate: next()?,
            provider: next()?,
            provider_management: next()?,
            application: next()?,
            redis: next()?,
            envoy_admin: next()?,
        })
    }

    /// Replaces the hidden port `taken` by the corresponding one of `fresh`.
    pub fn replace_hidden(&mut self, taken: u16, fresh: &Self) {
        for (port, other) in [
            (&mut self.provider_management, fresh.provider_management),
            (&mut self.application, fresh.application),
            (&mut self.redis, fresh.redis),
            (&mut self.envoy_admin, fresh.envoy_admin),
        ] {
            if *port == taken {
                *port = other;
            }
        }
    }
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Unknown if it belongs to another user.
    process: Option<(i32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, command)) => write!(out, "process {pid} ({command})"),
            None => out.write_str("a process of another user"),
        }
    }
}

/// Whether no process listens on a port of this machine.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// The process that listens on a port.
pub fn holder(port: u16) -> Option<Holder> {
    let sockets = [procfs::net::tcp(), procfs::net::tcp6()];
    let inode = sockets
        .into_iter()
        .flatten()
        .flatten()
        .find(|socket| socket.state == procfs::net::TcpState::Listen && socket.local_address.port() == port)?
        .inode;
    let holds = |process: &procfs::process::Process| {
        process.fd().is_ok_and(|descriptors| {
            descriptors
                .flatten()
                .any(|descriptor| matches!(descriptor.target, procfs::process::FDTarget::Socket(held) if held == inode))
        })
    };
    let process = procfs::process::all_processes().ok()?.flatten().find(holds).map(|process| {
        let words = process.cmdline().unwrap_or_default();
        (process.pid, words.join(" ").chars().take(80).collect())
    });
    Some(Holder { process })
}

fn free(taken: &[u16]) -> Result<u16> {
    const ATTEMPTS: usize = 200;
    for _ in 0..ATTEMPTS {
        let random = getrandom::u32().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let offset = u16::try_from(random % u32::from(HIDDEN.end - HIDDEN.start))?;
        let port = HIDDEN.start + offset;
        if !taken.contains(&port) && is_free(port) {
            return Ok(port);
        }
    }
    None.context("found no free port")
}

#[cfg(test)]
mod tests {
    use oidc_gate_testkit::process::wait_until;

    use super::*;

    #[test]
    fn a_taken_port_is_not_free_and_its_holder_is_named() {
        let port = free(&[]).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        let holder = holder(port).unwrap();
        assert_eq!(holder.process.as_ref().unwrap().0, i32::try_from(std::process::id()).unwrap());
        assert!(holder.to_string().starts_with(&format!("process {} (", std::process::id())), "{holder}");
        drop(listener);
        // Between fork and exec, a process that another test starts has a copy of the listener.
        let freed = wait_until(std::time::Duration::from_secs(20), || is_free(port));
        assert!(freed, "{port} stays taken");
    }

    #[test]
    fn hidden_ports_are_six_different_ones_outside_the_ephemeral_range() {
        let ports = Ports::hidden().unwrap();
        let mut all = [
            ports.gate,
            ports.provider,
            ports.provider_management,
            ports.application,
            ports.redis,
            ports.envoy_admin,
        ];
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
        assert!(all.iter().all(|port| HIDDEN.contains(port)), "{all:?}");
    }
}
