//! The gate: Envoy with the shipped configuration and the addresses of this stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oidc_gate_testkit::envoy_config::EnvoyConfig;

use super::daemon::Launch;
use super::instance::{Instance, Mode};
use super::secrets::{ASSERTION_KEYS, OIDC_CLIENT_SECRET, REDIS_PASSWORD, SECRET_KEY};
use crate::workspace::Workspace;

/// Variables that the filter requires.
const REQUIRED: [&str; 4] = [SECRET_KEY, OIDC_CLIENT_SECRET, REDIS_PASSWORD, ASSERTION_KEYS];
/// Variables of `.env` that override defaults.
const OPTIONAL: [&str; 4] =
    ["OIDC_SCOPE", "OIDC_ADMIN_GROUP_NAME", "OIDC_GROUP_NAME", "OIDC_VIEWER_GROUP_NAME"];

/// The filter of this stack. It is a copy, so that a build does not change the running one.
pub fn wasm(instance: &Instance) -> PathBuf {
    instance.run_file("oidc_gate.wasm")
}

/// Installs a newly built filter.
pub fn adopt(built: &Path, instance: &Instance) -> Result<()> {
    let wasm = wasm(instance);
    let new = wasm.with_added_extension("new");
    std::fs::copy(built, &new).with_context(|| format!("copying {}", built.display()))?;
    Ok(std::fs::rename(new, wasm)?)
}

/// How Envoy is started.
pub fn launch(binary: &Path, workspace: &Workspace, instance: &Instance) -> Result<Launch> {
    let ports = &instance.plan.ports;
    let wasm = wasm(instance);
    let file = instance.run_file("envoy.json");
    let shipped = EnvoyConfig::load(&workspace.root().join("envoy/envoy.yaml"))?;
    let config = match instance.plan.mode {
        Mode::Full => shipped,
        Mode::Light => shipped.without_mlflow_preset(),
    };
    config
        .listener_port(ports.gate)
        .admin_port(ports.envoy_admin)
        .cluster("mlflow", "127.0.0.1", ports.application)
        .cluster("keycloak", "127.0.0.1", ports.provider)
        .cluster("redis", "127.0.0.1", ports.redis)
        .wasm(&wasm)
        .write(&file)?;
    let mut environment = BTreeMap::from([
        ("MLFLOW_PUBLIC_URL".to_owned(), instance.public_url()),
        ("OIDC_ISSUER_URL".to_owned(), instance.issuer_url()),
    ]);
    for name in REQUIRED {
        environment.insert(name.to_owned(), instance.secrets.required(name).to_owned());
    }
    for name in OPTIONAL {
        if let Some(value) = instance.secrets.optional(name) {
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    let words = [
        "--config-path".to_owned(),
        file.display().to_string(),
        "--concurrency".to_owned(),
        instance.plan.workers.to_string(),
        // The filter's log lines, but only errors of Envoy.
        "--log-level".to_owned(),
        "warning".to_owned(),
        "--component-log-level".to_owned(),
        "wasm:info".to_owned(),
        // As in production: a replaced listener closes its connections soon.
        "--drain-time-s".to_owned(),
        "60".to_owned(),
        "--drain-strategy".to_owned(),
        "immediate".to_owned(),
        // Otherwise several stacks on one machine would compete for one shared memory segment.
        "--disable-hot-restart".to_owned(),
    ];
    Ok(Launch {
        program: binary.to_owned(),
        arguments: words.map(Into::into).to_vec(),
        environment,
        inputs: vec![file, wasm],
    })
}
