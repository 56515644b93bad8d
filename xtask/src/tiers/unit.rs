//! Pure code, natively. If the tier is named, the core's tests also run as Wasm, because the filter runs as Wasm. Tests
//! that need the Lua scripts of the Redis model run natively only.

use anyhow::Result;

use super::Runs;
use crate::install::cargo_tool::CargoTool;
use crate::install::{apt, wasm};
use crate::progress::Progress;
use crate::workspace::{CORE_PACKAGE, NODE_TARGET, PLUGIN_PACKAGE, TESTS_PACKAGE, Workspace};

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    let mut native = workspace.cargo();
    native.args(["test", "--locked", "--no-fail-fast", "--workspace"]);
    // The plugin has no tests, and the other packages need servers.
    runs.cargo_test(native.args(["--exclude", PLUGIN_PACKAGE, "--exclude", TESTS_PACKAGE]), "", &[])?;
    if !runs.is_whole() || !runs.is_thorough() {
        // The tests must be compiled again, together with a tool. The end-to-end tests cover the core as Wasm too.
        println!("not run as Wasm: `cargo xtask test unit` does that with the core's tests");
        return Ok(());
    }
    under_node(workspace, progress, runs)
}

fn under_node(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    apt::NODE.ensure(progress)?;
    wasm::ensure_target(workspace, NODE_TARGET, progress)?;
    // The runner and the library in the tests use a private protocol that changes with every version.
    let version = workspace.locked_version("wasm-bindgen")?;
    let program = "wasm-bindgen-test-runner";
    let runner =
        CargoTool { package: "wasm-bindgen-cli", version: &version, program }.ensure(workspace, progress)?;
    let mut node = workspace.cargo();
    node.args([
        "test",
        "--locked",
        "--no-fail-fast",
        "--package",
        CORE_PACKAGE,
        "--lib",
        "--target",
        NODE_TARGET,
    ]);
    runs.cargo_test(node.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner), "as Wasm", &[])
}
