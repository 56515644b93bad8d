//! Reads the manifests.

use std::path::Path;

use serde_json::Value;

/// The resources of a file below `envoy/`.
pub fn resources(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The resource of this kind and name. There must be exactly one.
pub fn resource(file: &str, kind: &str, name: &str) -> Value {
    let mut found =
        resources(file).into_iter().filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    let resource = found.next().unwrap_or_else(|| panic!("{file} has no {kind} {name}"));
    assert!(found.next().is_none(), "{file} has {kind} {name} twice");
    resource
}

/// Merges `patch` into `target` like Istio's MERGE: messages member by member, lists by appending.
pub fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(patch)) => target.extend(patch.iter().cloned()),
        (target, patch) => *target = patch.clone(),
    }
}
