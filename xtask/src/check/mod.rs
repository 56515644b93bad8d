//! `cargo xtask check`: everything about the code that can be checked without running tests.

mod exceptions;
mod imports;
mod lines;
mod map;
mod modules;
mod paths;
mod public;
mod source;
mod threats;
mod unsafe_code;

use std::net::{TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::command::describe;
use crate::install::cargo_tool::CargoTool;
use crate::install::wasm;
use crate::progress::Progress;
use crate::signals;
use crate::workspace::{CORE_PACKAGE, PLUGIN_PACKAGE, PLUGIN_TARGET, Workspace};

const CARGO_DENY_VERSION: &str = "0.20.2";
/// The server with cargo-deny's advisories.
const ADVISORIES_HOST: &str = "github.com:443";
const REACHABLE_BOUND: Duration = Duration::from_secs(5);

/// Checks this repository's rules, formatting, lints, documentation and dependencies. All of them run, even if one
/// fails.
///
/// # Errors
/// If one of them finds something. Its own output says what.
pub fn run(workspace: &Workspace, only_rules: bool, progress: &Progress) -> Result<()> {
    let mut failed = rules(workspace)?;
    if only_rules {
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        return Ok(());
    }
    wasm::ensure_target(workspace, PLUGIN_TARGET, progress)?;
    let deny = CargoTool { package: "cargo-deny", version: CARGO_DENY_VERSION, program: "cargo-deny" };
    let deny = deny.ensure(workspace, progress)?;
    let native = ["--workspace", "--exclude", PLUGIN_PACKAGE];
    let plugin = ["--package", PLUGIN_PACKAGE, "--target", PLUGIN_TARGET];
    let mut step = |name: &'static str, command: &mut Command| -> Result<()> {
        signals::check()?;
        println!("\n$ {}", describe(command));
        let started = Instant::now();
        let success = command.stdin(Stdio::null()).status()?.success();
        println!("{} {name} ({} s)", if success { "✓" } else { "✗" }, started.elapsed().as_secs());
        if !success {
            failed.push(name);
        }
        Ok(())
    };
    step("format", workspace.cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "lints",
        workspace.cargo().args(["clippy", "--locked", "--all-targets"]).args(native).args(WARNINGS),
    )?;
    step("lints of the plugin", workspace.cargo().args(["clippy", "--locked"]).args(plugin).args(WARNINGS))?;
    let documentation = |packages: &[&str]| {
        let mut cargo = workspace.cargo();
        cargo.args(["doc", "--locked", "--no-deps"]).args(packages).env("RUSTDOCFLAGS", "-D warnings");
        cargo
    };
    step("documentation", &mut documentation(&[&native[..], &["--exclude", CORE_PACKAGE]].concat()))?;
    // Few modules of the core are public, and a cdylib has no public items. Their documentation is for the developers
    // of these crates.
    step(
        "documentation of the core",
        documentation(&["--package", CORE_PACKAGE]).arg("--document-private-items"),
    )?;
    step("documentation of the plugin", documentation(&plugin).arg("--document-private-items"))?;
    let cargo_deny = || {
        let mut command = Command::new(&deny);
        command.current_dir(workspace.root());
        command
    };
    step("dependencies", cargo_deny().args(["--offline", "check", "bans", "licenses", "sources"]))?;
    if advisories_are_reachable() {
        step("advisories", cargo_deny().args(["check", "advisories"]))?;
    } else {
        println!("\n- advisories: NOT checked, {ADVISORIES_HOST} cannot be reached from here");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("\nall checks passed");
    Ok(())
}

/// Checks the rules that no other tool has. Returns the names of those that are broken.
fn rules(workspace: &Workspace) -> Result<Vec<&'static str>> {
    let sources = source::all(workspace)?;
    let graph = modules::Graph::read(&sources, modules::FOLDER)?;
    let found = [
        ("threats", threats::check(&sources)?),
        ("map", map::check(&sources)?),
        ("direction of imports", imports::directions(&sources, &graph)?),
        ("circles of imports", imports::circles(&graph)),
        ("public modules", public::check(&sources)?),
        ("unsafe", unsafe_code::check(&sources)?),
        ("length of files", lines::lengths(&sources)),
        ("length of comments", lines::comments(&sources)),
    ];
    println!();
    let mut failed = Vec::new();
    for (name, problems) in found {
        println!("{} {name}", if problems.is_empty() { "✓" } else { "✗" });
        for problem in &problems {
            println!("  {problem}");
        }
        if !problems.is_empty() {
            failed.push(name);
        }
    }
    Ok(failed)
}

const WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

fn advisories_are_reachable() -> bool {
    let Ok(addresses) = ADVISORIES_HOST.to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, REACHABLE_BOUND).is_ok())
}
