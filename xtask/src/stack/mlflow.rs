//! MLflow as a single small server, which knows its users from the gate's assertion. Only Envoy knows its port.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::daemon::Launch;
use super::instance::Instance;
use super::part::Part;
use super::secrets::ASSERTION_KEYS;
use crate::install;
use crate::workspace::Workspace;

/// What users may do with what nobody gave them: everybody sees everything, and changes their own.
const DEFAULT_PERMISSION: &str = "READ";
/// Variables of `.env` that override defaults.
const OPTIONAL: [&str; 2] = ["OIDC_ADMIN_GROUP_NAME", "MLFLOW_DEFAULT_PERMISSION"];

/// How MLflow is started.
pub fn launch(python: &Path, workspace: &Workspace, instance: &Instance) -> Result<Launch> {
    let data = instance.data(Part::Mlflow);
    std::fs::create_dir_all(&data)?;
    let words = [
        "-m".to_owned(),
        // The command `oidc-gate-mlflow-server`.
        "oidc_gate_mlflow.start".to_owned(),
        "--host=127.0.0.1".to_owned(),
        format!("--port={}", instance.plan.ports.application),
        "--workers=1".to_owned(),
        format!("--backend-store-uri=sqlite:///{}", data.join("mlflow.db").display()),
        format!("--artifacts-destination={}", data.join("artifacts").display()),
    ];
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut environment = BTreeMap::from([
        variable(ASSERTION_KEYS, instance.secrets.required(ASSERTION_KEYS)),
        variable("MLFLOW_AUTH_DATABASE_URI", &format!("sqlite:///{}", data.join("auth.db").display())),
        variable("MLFLOW_DEFAULT_PERMISSION", DEFAULT_PERMISSION),
        // Otherwise it starts fifteen processes that take 3 GB.
        variable("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
        variable("MLFLOW_DISABLE_TELEMETRY", "true"),
        variable("PYTHONUNBUFFERED", "1"),
    ]);
    for name in OPTIONAL {
        if let Some(value) = instance.secrets.optional(name) {
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(Launch {
        program: python.to_owned(),
        arguments: words.map(Into::into).to_vec(),
        environment,
        // MLflow reads the installed package, and that is as new as these files.
        inputs: install::mlflow::sources(workspace)?,
    })
}
