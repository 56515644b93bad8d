//! The repository's location, and how its other tools are called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::command::output;

/// The package that makes all decisions.
pub const CORE_PACKAGE: &str = "oidc-gate-core";
/// The cdylib that Envoy loads.
pub const PLUGIN_PACKAGE: &str = "oidc-gate";
/// The end-to-end and stack tests.
pub const TESTS_PACKAGE: &str = "oidc-gate-tests";
/// The target for Envoy's V8.
pub const PLUGIN_TARGET: &str = "wasm32-wasip1";
/// The target for the core's unit tests under node.
pub const NODE_TARGET: &str = "wasm32-unknown-unknown";

/// The checked-out repository.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The repository in which cargo runs this command. Without cargo, the one from which the program was built.
    pub fn locate() -> Result<Self> {
        // The path is read at run time, because cargo does not rebuild a program when its repository moves.
        let run = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
        let mut roots = run.iter().chain([&built]).filter_map(|package| package.parent());
        let root = roots.find(|root| root.join("xtask/Cargo.toml").is_file()).with_context(|| {
            format!(
                "{} has moved since xtask was built; run `cargo xtask` from the new place",
                built.display()
            )
        })?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of everything that is installed or started here. git ignores it.
    pub fn state(&self) -> PathBuf {
        self.root.join(".oidc-gate")
    }

    /// Programs installed for this repository, shared by all of its stacks.
    pub fn tools(&self) -> PathBuf {
        self.state().join("tools")
    }

    /// Downloaded archives. They are kept so that another installation needs no network.
    pub fn downloads(&self) -> PathBuf {
        self.state().join("downloads")
    }

    /// The files of the repository as a clone would have them, including uncommitted changes. The paths are relative to
    /// its root.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = output(&mut git)?;
        let names = listed.split('\0').filter(|name| !name.is_empty());
        // A file may be deleted without the deletion being committed.
        Ok(names.filter(|name| self.root.join(name).exists()).map(str::to_owned).collect())
    }

    /// A cargo command in the workspace, with the toolchain that runs xtask.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        cargo
    }

    /// The packages, targets and target folder.
    pub fn metadata(&self) -> Result<Metadata> {
        MetadataCommand::new().current_dir(&self.root).no_deps().exec().context("`cargo metadata` failed")
    }

    /// The version of a crate in `Cargo.lock`.
    ///
    /// # Errors
    /// If the crate is not there, or is there more than once.
    pub fn locked_version(&self, name: &str) -> Result<String> {
        let metadata = MetadataCommand::new()
            .current_dir(&self.root)
            .other_options(vec!["--locked".into()])
            .exec()
            .context("`cargo metadata` failed")?;
        let versions: Vec<_> = metadata.packages.iter().filter(|package| package.name == name).collect();
        match versions.as_slice() {
            [package] => Ok(package.version.to_string()),
            [] => anyhow::bail!("Cargo.lock has no {name}"),
            _ => anyhow::bail!("Cargo.lock has {name} in several versions"),
        }
    }
}
