//! Where the repository is, and how its other tools are called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::command::output;

/// What decides.
pub const CORE_PACKAGE: &str = "oidc-gate-core";
/// The cdylib that Envoy loads.
pub const PLUGIN_PACKAGE: &str = "oidc-gate";
/// The end-to-end and stack tests.
pub const TESTS_PACKAGE: &str = "oidc-gate-tests";
/// What Envoy's V8 runs.
pub const PLUGIN_TARGET: &str = "wasm32-wasip1";
/// What node runs the core's unit tests as.
pub const NODE_TARGET: &str = "wasm32-unknown-unknown";

/// The checked-out repository.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The repository that cargo runs this command in; without cargo, the one it was built from.
    pub fn locate() -> Result<Self> {
        // cargo takes a program that was built before its repository moved for up to date, so ask at run time first.
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

    /// The git-ignored folder of everything that is installed or started here.
    pub fn state(&self) -> PathBuf {
        self.root.join(".oidc-gate")
    }

    /// Programs installed for this repository only, shared by all its stacks.
    pub fn tools(&self) -> PathBuf {
        self.state().join("tools")
    }

    /// Archives, kept so that a second installation needs no network.
    pub fn downloads(&self) -> PathBuf {
        self.state().join("downloads")
    }

    /// The files of the repository as a clone would have them, with what is changed and not committed yet: their paths
    /// from its root.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = output(&mut git)?;
        let names = listed.split('\0').filter(|name| !name.is_empty());
        // Some may be deleted, and the deletion not committed yet.
        Ok(names.filter(|name| self.root.join(name).exists()).map(str::to_owned).collect())
    }

    /// A cargo command in the workspace, of the toolchain that runs xtask.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        cargo
    }

    /// Packages, targets and the target folder.
    pub fn metadata(&self) -> Result<Metadata> {
        MetadataCommand::new().current_dir(&self.root).no_deps().exec().context("`cargo metadata` failed")
    }

    /// The version of a crate in `Cargo.lock`.
    ///
    /// # Errors
    /// When the crate is not there, or there more than once.
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
