//! A network of its own for one test: addresses that are not loopback, and settings of the kernel for it alone.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Trouble, free_port};

/// Runs `test` in a new network namespace whose loopback device has `addresses` besides 127.0.0.1 and ::1. Threads and
/// processes that the test starts live there too, so everything that it talks to has to be started in it.
///
/// Settings below `/proc/sys/net` that the test writes are those of this namespace. Nothing has to be tidied up: the
/// namespace has no name any more when the test begins, and ends with its last process.
///
/// # Errors
/// There is no such namespace to be had: it needs root, and the program `ip` (Debian package iproute2).
///
/// # Panics
/// When `test` does.
pub fn isolated<T: Send>(addresses: &[IpAddr], test: impl FnOnce() -> T + Send) -> Result<T, Trouble> {
    std::thread::scope(|scope| {
        // A thread of its own: the namespace of a thread can't be left again.
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

/// Moves this thread into a new namespace.
fn enter(addresses: &[IpAddr]) -> Result<(), Trouble> {
    // A number that no other test process has.
    let name = format!("oidc-gate-{}", free_port());
    ip(&["netns", "add", &name])?;
    let entered = open(&name);
    // It lives on as long as somebody is in it.
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
