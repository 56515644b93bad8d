//! The filter, compiled for Envoy.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{find, output, run};
use crate::progress::Progress;
use crate::workspace::{PLUGIN_PACKAGE, PLUGIN_TARGET, Workspace};

/// Builds the plugin in release mode and returns the path of the `.wasm`.
pub fn build(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let task = progress.task("oidc_gate.wasm");
    ensure_target(workspace, PLUGIN_TARGET, progress)?;
    let mut cargo = workspace.cargo();
    cargo
        .args(["build", "--release", "--locked", "--target", PLUGIN_TARGET, "--package", PLUGIN_PACKAGE])
        .env("CARGO_ENCODED_RUSTFLAGS", without_local_paths(workspace)?);
    run(&mut cargo, &task)?;
    let built = workspace.metadata()?.target_directory.join(PLUGIN_TARGET).join("release/oidc_gate.wasm");
    let built = built.into_std_path_buf();
    let bytes = built.metadata().with_context(|| format!("cargo built no {}", built.display()))?.len();
    task.finish(&format!("{} KiB", bytes.div_ceil(1024)));
    Ok(built)
}

/// Compiler flags that keep this machine's paths out of messages in the code, so that a build has the same bytes on
/// every machine. The Dockerfile does the same.
fn without_local_paths(workspace: &Workspace) -> Result<String> {
    let home = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let cargo = home("CARGO_HOME").or_else(|| home("HOME").map(|home| format!("{home}/.cargo")));
    let cargo = cargo.context("neither CARGO_HOME nor HOME is set")?;
    let pairs = [(cargo, "cargo"), (workspace.root().display().to_string(), "oidc-gate")];
    let flags = pairs.map(|(from, to)| format!("--remap-path-prefix={from}={to}"));
    // Cargo's separator in this variable, which allows blanks in paths.
    Ok(flags.join("\u{1f}"))
}

/// Adds a compilation target to the pinned toolchain, which lacks it if it was installed before.
pub fn ensure_target(workspace: &Workspace, target: &str, progress: &Progress) -> Result<()> {
    if find("rustup").is_none() {
        // Rust was not installed with rustup. cargo reports a missing target itself.
        return Ok(());
    }
    let rustup = || {
        let mut command = Command::new("rustup");
        command.current_dir(workspace.root()).arg("target");
        command
    };
    let installed = output(rustup().args(["list", "--installed"]))?;
    if !installed.lines().any(|line| line == target) {
        let task = progress.task(format!("Rust target {target}"));
        run(rustup().args(["add", target]), &task)?;
        task.finish("by rustup");
    }
    Ok(())
}
