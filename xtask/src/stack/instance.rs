//! One stack on this machine: its folder, its plan (mode, ports, workers) and its secrets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::daemon::Daemon;
use super::part::Part;
use super::ports::Ports;
use super::secrets::{Secrets, write_private};
use crate::workspace::Workspace;

/// The realm in Keycloak, and in the light provider's paths.
pub const REALM: &str = "mlflow";

/// Which servers run around the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Keycloak and MLflow.
    Full,
    /// Small replacements that start within seconds.
    Light,
}

/// The plan of a stack. It is stored so that other commands find the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which servers run around the gate.
    pub mode: Mode,
    /// Envoy's worker threads.
    pub workers: u32,
    /// The ports of the servers.
    pub ports: Ports,
}

/// A stack, with what is needed to start, find and stop its parts.
pub struct Instance {
    folder: PathBuf,
    env_file: PathBuf,
    /// Its mode, ports and workers.
    pub plan: Plan,
    /// Its passwords and keys.
    pub secrets: Secrets,
}

impl Instance {
    /// Creates the folder of a stack and stores its plan, or updates an existing one.
    pub fn create(workspace: &Workspace, folder: &Path, plan: Plan) -> Result<Self> {
        for name in ["run", "logs", "data"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("making {}", folder.display()))?;
        }
        let env_file = env_file(workspace, folder);
        let secrets = Secrets::load_or_create(&env_file)?;
        let instance = Self { folder: folder.to_owned(), env_file, plan, secrets };
        instance.save()?;
        Ok(instance)
    }

    /// The stack in a folder, if there is one.
    pub fn load(workspace: &Workspace, folder: &Path) -> Result<Option<Self>> {
        let Some(plan) = stored_plan(folder) else { return Ok(None) };
        let env_file = env_file(workspace, folder);
        let secrets = Secrets::load(&env_file)?;
        Ok(Some(Self { folder: folder.to_owned(), env_file, plan, secrets }))
    }

    /// Stores the plan.
    pub fn save(&self) -> Result<()> {
        write_private(&plan_file(&self.folder), &serde_json::to_string_pretty(&self.plan)?)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file with its secrets.
    pub fn env_file(&self) -> &Path {
        &self.env_file
    }

    /// The background process of a part.
    pub fn daemon(&self, part: Part) -> Daemon {
        Daemon::new(&self.folder, part.name())
    }

    /// The folder for data that a part keeps between starts.
    pub fn data(&self, part: Part) -> PathBuf {
        self.folder.join("data").join(part.name())
    }

    /// A file that is recreated at every start.
    pub fn run_file(&self, name: &str) -> PathBuf {
        self.folder.join("run").join(name)
    }

    /// The URL of the application, for browsers.
    pub fn public_url(&self) -> String {
        format!("http://localhost:{}", self.plan.ports.gate)
    }

    /// The URL of the provider, for browsers.
    pub fn provider_url(&self) -> String {
        format!("http://localhost:{}", self.plan.ports.provider)
    }

    /// The issuer identifier.
    pub fn issuer_url(&self) -> String {
        format!("{}/realms/{REALM}", self.provider_url())
    }
}

/// The plan of an existing stack.
pub fn stored_plan(folder: &Path) -> Option<Plan> {
    serde_json::from_str(&fs::read_to_string(plan_file(folder)).ok()?).ok()
}

/// Prevents other commands from starting or stopping parts of the same stack, until the lock is dropped.
pub fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder)?;
    let file = File::create(folder.join("lock"))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another xtask command on {}", folder.display());
        file.lock()?;
    }
    Ok(file)
}

fn plan_file(folder: &Path) -> PathBuf {
    folder.join("plan.json")
}

/// The developer's stack shares `.env` with Docker Compose. Any other stack has its own file.
fn env_file(workspace: &Workspace, folder: &Path) -> PathBuf {
    if folder == workspace.state() { workspace.root().join(".env") } else { folder.join(".env") }
}
