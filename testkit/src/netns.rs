//! A network namespace for one test, with addresses other than loopback and its own kernel settings.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Trouble, free_port};

/// Runs `test` in a new network namespace whose loopback device has `addresses` besides 127.0.0.1 and ::1. Threads and
/// processes that the test starts belong to it too. Everything that the test connects to must be started there.
///
/// Settings below `/proc/sys/net` that the test writes apply only to this namespace. No clean-up is needed: the
/// namespace no longer has a name when the test begins, and it ends with its last process.
///
/// # Errors
/// No namespace can be created. This needs root and the program `ip` (Debian package iproute2).
///
/// # Panics
/// If `test` panics.
pub fn isolated<T: Send>(addresses: &[IpAddr], test: impl FnOnce() -> T + Send) -> Result<T, Trouble> {
    std::thread::scope(|scope| {
        // In another thread, because a thread cannot leave its namespace again.
        let thread = scope.spawn(|| {
            enter(addresses)?;
            Ok(test())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves this thread to a new namespace.
fn enter(addresses: &[IpAddr]) -> Result<(), Trouble> {
    // A number that no other test process uses.
    let name = format!("oidc-gate-{}", free_port());
    ip(&["netns", "add", &name])?;
    let entered = open(&name);
    // The namespace continues to exist while a thread is in it.
    ip(&["netns", "delete", &name])?;
    let namespace = entered?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| no_namespace(&error.to_string()))?;
    ip(&["link", "set", "lo", "up"])?;
    for address in addresses {
        ip(&["address", "add", &address.to_string(), "dev", "lo"])?;
    }
    Ok(())
}

fn open(name: &str) -> Result<File, Trouble> {
    File::open(Path::new("/run/netns").join(name)).map_err(|error| no_namespace(&error.to_string()))
}

fn ip(arguments: &[&str]) -> Result<(), Trouble> {
    let output =
        Command::new("ip").args(arguments).output().map_err(|error| no_namespace(&format!("ip: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(no_namespace(&format!("ip {}: {}", arguments.join(" "), said.trim())))
}

fn no_namespace(why: &str) -> Trouble {
    Trouble::new(format!(
        "no network namespace for this test, which needs root and the program ip (Debian package iproute2): {why}"
    ))
}
