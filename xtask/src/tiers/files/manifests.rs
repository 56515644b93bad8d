//! Checks that `kubectl apply -k` applies everything in the folder of a Kustomize base.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Source, lay};
use crate::install::go_tool::kustomize_build as build;

/// Kind and name, which identify a resource here.
type Identity = (String, String);

/// # Errors
/// If the base does not build, leaves out a file of its folder, or has a resource outside of its namespace.
pub fn check(kustomize: &Path, root: &Path, base: &str, sources: &[Source]) -> Result<()> {
    let of_the_base = |source: &&Source| source.name.starts_with(&format!("{base}/"));
    let manifests: Vec<_> = sources
        .iter()
        .filter(of_the_base)
        .filter(|source| source.name.ends_with(".yaml") && source.file_name() != "kustomization.yaml")
        .map(|source| source.text().into_owned())
        .collect();
    ensure!(manifests.len() > 3, "there are only {} manifests in {base}", manifests.len());
    compare(&build(kustomize, &root.join(base))?, &manifests)
}

/// Checks that a manifest without an entry in the kustomization is detected.
pub fn control(kustomize: &Path) -> Result<()> {
    let service = |name: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: mlflow}}\n")
    };
    let (named, forgotten) = (service("named"), service("forgotten"));
    let folder = tempfile::tempdir()?;
    lay(
        folder.path(),
        [
            ("kustomization.yaml", b"resources: [named.yaml]\n".as_slice()),
            ("named.yaml", named.as_bytes()),
            ("forgotten.yaml", forgotten.as_bytes()),
        ],
    )?;
    let built = build(kustomize, folder.path())?;
    compare(&built, std::slice::from_ref(&named))?;
    let error = compare(&built, &[named, forgotten]).err().map(|error| error.to_string());
    ensure!(error.is_some_and(|said| said.contains("forgotten")), "the omission is not detected");
    Ok(())
}

fn compare(built: &str, manifests: &[String]) -> Result<()> {
    let resources = resources(built)?;
    // Cluster-wide resources have no namespace.
    for resource in resources.iter().filter(|resource| resource["kind"] != "GatewayClass") {
        let namespace = &resource["metadata"]["namespace"];
        ensure!(namespace == "mlflow", "{:?} is in namespace {namespace}", identity(resource));
    }
    let built: BTreeSet<_> = resources.iter().map(identity).collect();
    let mut written = BTreeSet::new();
    for manifest in manifests {
        written.extend(self::resources(manifest)?.iter().map(identity));
    }
    if let Some((kind, name)) = written.symmetric_difference(&built).next() {
        bail!("{kind} {name} is in the folder or in the built manifests, but not in both");
    }
    Ok(())
}

fn resources(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context("this is not YAML")
}

fn identity(resource: &Value) -> Identity {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&resource["kind"]), text(&resource["metadata"]["name"]))
}
