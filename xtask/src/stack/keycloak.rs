//! Keycloak with the development realm. It runs from a copy of the built distribution with separate data.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::daemon::Launch;
use super::instance::{Instance, REALM};
use super::part::Part;
use super::probe;
use super::secrets::{KEYCLOAK_ADMIN_PASSWORD, OIDC_CLIENT_SECRET};
use crate::workspace::Workspace;

/// The gate's `client_id`, as in the realm file and `envoy/envoy.yaml`.
pub const CLIENT_ID: &str = "mlflow";
/// The name of Keycloak's administrator.
pub const ADMIN: &str = "admin";

/// Time limit for a token request. The first one takes Keycloak much longer than later ones.
const FIRST_TOKEN_BOUND: Duration = Duration::from_secs(60);

/// How Keycloak is started.
pub fn launch(distribution: &Path, workspace: &Workspace, instance: &Instance) -> Result<Launch> {
    let home = instance.data(Part::Keycloak);
    if !home.join("bin").exists() {
        link_tree(distribution, &home).with_context(|| format!("copying Keycloak to {}", home.display()))?;
    }
    let import = home.join("data/import");
    fs::create_dir_all(&import)?;
    fs::copy(workspace.root().join("keycloak/realm-mlflow.json"), import.join("realm-mlflow.json"))?;
    let ports = &instance.plan.ports;
    let words = [
        "start".to_owned(),
        "--optimized".to_owned(),
        "--import-realm".to_owned(),
        "--cache=local".to_owned(),
        // Otherwise it reports each second of its own start as an outage.
        "--log-level=info,io.smallrye.health:error".to_owned(),
        "--http-enabled=true".to_owned(),
        "--http-host=127.0.0.1".to_owned(),
        format!("--http-port={}", ports.provider),
        format!("--http-management-port={}", ports.provider_management),
        format!("--hostname={}", instance.provider_url()),
    ];
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok(Launch {
        program: home.join("bin/kc.sh"),
        arguments: words.map(Into::into).to_vec(),
        environment: BTreeMap::from([
            variable("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN),
            variable("KC_BOOTSTRAP_ADMIN_PASSWORD", instance.secrets.required(KEYCLOAK_ADMIN_PASSWORD)),
            // The variable that the realm file uses.
            variable("MLFLOW_CLIENT_SECRET", instance.secrets.required(OIDC_CLIENT_SECRET)),
            variable("MLFLOW_PUBLIC_URL", &instance.public_url()),
            variable("MLFLOW_BACKCHANNEL_URL", &instance.public_url()),
            variable("JAVA_OPTS_KC_HEAP", "-Xms128m -Xmx512m"),
        ]),
        inputs: Vec::new(),
    })
}

/// # Errors
/// If Keycloak's database has another client secret than `.env`, because an existing realm is not imported again.
/// If Keycloak does not answer in time.
pub fn check_client(instance: &Instance) -> Result<()> {
    let address =
        format!("{}/protocol/openid-connect/token", instance.issuer_url().replace("localhost", "127.0.0.1"));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
        ("client_secret", instance.secrets.required(OIDC_CLIENT_SECRET)),
    ];
    let status = Cell::new(None);
    let answers = || {
        status.set(probe::agent().post(&address).send_form(form).ok().map(|answer| answer.status()));
        status.get().is_some()
    };
    let keycloak = instance.daemon(Part::Keycloak);
    keycloak.wait_until_ready(FIRST_TOKEN_BOUND, answers).context("asking Keycloak for a token")?;
    if status.get().is_some_and(|status| status == 401) {
        bail!(
            "Keycloak refuses {OIDC_CLIENT_SECRET} of {}: its realm {REALM} was made with another one. Put that one \
             back, or start over with `cargo xtask down --volumes`",
            instance.env_file().display()
        );
    }
    Ok(())
}

/// Copies a folder with hard links. The distribution's files are never changed, and its 300 MB are stored only once.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            // `.oidc-gate/data` may be on another disk.
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
