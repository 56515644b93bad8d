//! MLflow as a single small server. Only Envoy knows its port.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::daemon::Launch;
use super::instance::Instance;
use super::part::Part;

/// How MLflow is started.
pub fn launch(python: &Path, instance: &Instance) -> Result<Launch> {
    let data = instance.data(Part::Mlflow);
    std::fs::create_dir_all(&data)?;
    let words = [
        "-m".to_owned(),
        "mlflow".to_owned(),
        "server".to_owned(),
        "--host=127.0.0.1".to_owned(),
        format!("--port={}", instance.plan.ports.application),
        "--workers=1".to_owned(),
        format!("--backend-store-uri=sqlite:///{}", data.join("mlflow.db").display()),
        format!("--artifacts-destination={}", data.join("artifacts").display()),
    ];
    Ok(Launch {
        program: python.to_owned(),
        arguments: words.map(Into::into).to_vec(),
        environment: BTreeMap::from([
            // Otherwise it starts fifteen processes that take 3 GB.
            ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION".to_owned(), "false".to_owned()),
            ("MLFLOW_DISABLE_TELEMETRY".to_owned(), "true".to_owned()),
            ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
        ]),
        inputs: Vec::new(),
    })
}
