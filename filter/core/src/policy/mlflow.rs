//! The rules of the `mlflow` preset, for MLflow 3.

use crate::config::{Access, PathMatch, Rule, RuleName};
use crate::methods::Method;

/// The preset's rules, in order.
pub fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    // MLflow serves health and version to everyone, and probes have no credentials.
    for path in ["/health", "/version"] {
        rules.push(rule("public", PathMatch::Exact(path.to_owned()), &[Method::Get], Access::Public));
    }
    for api in ["/api", "/ajax-api"] {
        for version in ["2.0", "3.0"] {
            let prefix = |path: &str| PathMatch::Prefix(format!("{api}/{version}{path}"));
            // This announces downloads from S3 by presigned URL, which would bypass the gate. Without the announcement,
            // clients download through the server.
            rules.push(rule("presigned", prefix("/mlflow/server-info"), &[], Access::NotFound));
            rules.push(rule("presigned", prefix("/mlflow-artifacts/presigned"), &[], Access::NotFound));
            rules.push(rule(
                "presigned",
                prefix("/mlflow/artifacts/presigned-download-url"),
                &[],
                Access::NotFound,
            ));
            rules.push(rule(
                "presigned",
                prefix("/mlflow/artifacts/presigned-upload-url"),
                &[],
                Access::NotFound,
            ));
            rules.push(rule("presigned", prefix("/mlflow-artifacts/mpu"), &[], Access::NotFound));
            // The assistant runs shell commands on MLflow's host for every user that appears to be local.
            rules.push(rule("assistant", prefix("/mlflow/assistant"), &[], Access::Deny));
        }
    }
    rules.push(rule("members", PathMatch::Prefix("/".to_owned()), &[], Access::Users));
    rules
}

fn rule(name: &str, path: PathMatch, methods: &[Method], access: Access) -> Rule {
    Rule { name: RuleName::Own(format!("mlflow.{name}")), path, methods: methods.to_vec(), access }
}
