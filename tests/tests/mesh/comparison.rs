//! Checks that a mesh's Envoy has every member of `envoy/envoy.yaml`, with the same value.

use serde_json::{Value, json};

use crate::manifests::resources;

/// A member of `envoy/envoy.yaml` that may differ in a mesh, with the reason. Its path has dots.
#[derive(Clone, Copy)]
pub enum Exception {
    /// It may be absent, but not have another value.
    Absent(&'static str, &'static str),
    /// It may have another value.
    Different(&'static str, &'static str),
}

use Exception::{Absent, Different};

impl Exception {
    fn path(self) -> &'static str {
        let (Absent(path, why) | Different(path, why)) = self;
        assert!(why.len() > 10, "{path} is excepted without a reason");
        path
    }
}

/// The parts of a listener that must be the same in a mesh: limits on buffers and on the time of the first bytes, the
/// connection manager, the format of its access log, its first route, the gate's filter and the router.
pub fn edge(listener: &Value) -> Value {
    let mut listener = plain(listener);
    let mut manager = listener["filter_chains"][0]["filters"][0]["typed_config"].take();
    let members = manager.as_object_mut().expect("the listener has a connection manager");
    let mut take = |name: &str| members.remove(name).unwrap_or_default();
    let log = take("access_log").pointer("/0/typed_config/log_format").cloned();
    let route = take("route_config").pointer("/virtual_hosts/0/routes/0/route").cloned();
    let filters = take("http_filters");
    let filter = |kind: &str| {
        let typed = filters.as_array().into_iter().flatten().map(|filter| &filter["typed_config"]);
        let mut of_the_kind =
            typed.filter(|typed| typed["@type"].as_str().is_some_and(|name| name.ends_with(kind)));
        of_the_kind.next().cloned().unwrap_or_default()
    };
    let mut gate = filter(".Wasm")["config"].take();
    if let Some(members) = gate.as_object_mut() {
        members.remove("configuration");
        if let Some(vm) = members.get_mut("vm_config").and_then(Value::as_object_mut) {
            vm.remove("code");
        }
    }
    without_nulls(json!({
        "per_connection_buffer_limit_bytes": listener["per_connection_buffer_limit_bytes"],
        "listener_filters_timeout": listener["listener_filters_timeout"],
        "manager": manager,
        "log_format": log,
        "route": route,
        "gate": gate,
        "router": filter(".Router"),
    }))
}

/// A cluster without the parts that must differ: its name and the addresses of its servers.
pub fn cluster(cluster: &Value) -> Value {
    let mut cluster = plain(cluster);
    let members = cluster.as_object_mut().expect("a cluster has members");
    members.remove("name");
    members.remove("load_assignment");
    cluster
}

/// These parts of the listener in `envoy/envoy.yaml`.
pub fn shipped_edge() -> Value {
    edge(&resources("envoy.yaml")[0]["static_resources"]["listeners"][0])
}

/// The time limit of the TLS handshake, in the filter chain of docker-compose.tls.yml.
pub fn shipped_handshake_timeout() -> Value {
    resources("tls-socket.yaml")[0]["transport_socket_connect_timeout"].clone()
}

/// F801: fails if Envoy treats any client as internal, or does not remove its own headers before it reads them.
#[track_caller]
pub fn assert_nobody_is_internal(manager: &Value) {
    let manager = plain(manager);
    assert_eq!(manager.get("internal_address_config"), None, "an empty one makes private addresses internal");
    assert_eq!(manager["use_remote_address"], true);
    assert_ne!(manager["preserve_external_request_id"], true);
    let mutations = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"].as_array();
    let removed = json!({"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}});
    assert!(mutations.expect("headers are removed early").contains(&removed));
}

/// F705: fails if a TLS context does not check the host name besides the authority.
#[track_caller]
pub fn assert_names_the_host(context: &Value) {
    let context = plain(context);
    let validation = &context["common_tls_context"]["validation_context"];
    assert!(validation["trusted_ca"].is_object(), "without authorities Envoy accepts any certificate");
    let names = validation["match_typed_subject_alt_names"].as_array().expect("the host is named");
    let [name] = names.as_slice() else { panic!("one host: {names:?}") };
    assert_eq!((&name["san_type"], &name["matcher"]["exact"]), (&json!("DNS"), &context["sni"]));
}

/// A cluster of `envoy/envoy.yaml`.
pub fn shipped_cluster(name: &str) -> Value {
    let shipped = &resources("envoy.yaml")[0];
    let clusters = shipped["static_resources"]["clusters"].as_array().unwrap();
    cluster(clusters.iter().find(|cluster| cluster["name"] == name).unwrap())
}

/// Fails if `made` lacks a member of `shipped`, or has another value. Then removes and changes each member in turn, and
/// fails if that is not detected.
#[track_caller]
pub fn assert_lacks_nothing(shipped: &Value, made: &Value, exceptions: &[Exception]) {
    let found = lacking(shipped, made, exceptions);
    assert!(found.is_empty(), "{}", found.join("\n"));
    for exception in exceptions {
        let others: Vec<_> =
            exceptions.iter().copied().filter(|other| other.path() != exception.path()).collect();
        assert!(!lacking(shipped, made, &others).is_empty(), "{} is no exception any more", exception.path());
    }
    let mut members = Vec::new();
    leaves(shipped, String::new(), &mut members);
    assert!(members.len() > 5, "{members:?}");
    for path in members.iter().filter(|path| made.pointer(path).is_some()) {
        let excepted = |kind: fn(&Exception) -> bool| {
            exceptions.iter().any(|exception| kind(exception) && dotted(path).starts_with(exception.path()))
        };
        let different = excepted(|exception| matches!(exception, Different(..)));
        let mut without = made.clone();
        remove(&mut without, path);
        assert!(
            different
                || excepted(|exception| matches!(exception, Absent(..)))
                || !lacking(shipped, &without, exceptions).is_empty(),
            "nobody misses {path}"
        );
        let mut other = made.clone();
        *other.pointer_mut(path).unwrap() = json!("another value");
        assert!(different || !lacking(shipped, &other, exceptions).is_empty(), "{path} may have any value");
    }
}

/// The members of `shipped` that `made` lacks, or has with another value.
fn lacking(shipped: &Value, made: &Value, exceptions: &[Exception]) -> Vec<String> {
    let mut found = Vec::new();
    compare(shipped, Some(made), "", exceptions, &mut found);
    found
}

fn compare(
    shipped: &Value,
    made: Option<&Value>,
    path: &str,
    exceptions: &[Exception],
    found: &mut Vec<String>,
) {
    let exception = exceptions.iter().find(|exception| exception.path() == path);
    let Some(made) = made else {
        if exception.is_none() {
            found.push(format!("{path} is missing; it should be {shipped}"));
        }
        return;
    };
    if matches!(exception, Some(Different(..))) {
        return;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (shipped, made) {
        (Value::Object(shipped), Value::Object(made)) => {
            for (name, value) in shipped {
                compare(value, made.get(name), &below(name), exceptions, found);
            }
        }
        (Value::Array(shipped), Value::Array(made)) if shipped.len() == made.len() => {
            for (at, (shipped, made)) in shipped.iter().zip(made).enumerate() {
                compare(shipped, Some(made), &below(&at.to_string()), exceptions, found);
            }
        }
        _ if same(shipped, made) => {}
        _ => found.push(format!("{path} is {made}; it should be {shipped}")),
    }
}

/// A duration has several forms: 0.5s and 0.500s.
fn same(one: &Value, other: &Value) -> bool {
    let seconds = |value: &Value| value.as_str()?.strip_suffix('s')?.parse::<f64>().ok();
    one == other || seconds(one).is_some_and(|one| seconds(other) == Some(one))
}

/// Renames protobuf fields from JSON's camel case to the form in `envoy.yaml`.
fn plain(value: &Value) -> Value {
    let name = |name: &String| {
        let of_a_field = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let mut plain = String::new();
        for letter in name.chars() {
            if of_a_field && letter.is_ascii_uppercase() {
                plain.push('_');
                plain.push(letter.to_ascii_lowercase());
            } else {
                plain.push(letter);
            }
        }
        plain
    };
    match value {
        Value::Object(members) => members.iter().map(|(key, member)| (name(key), plain(member))).collect(),
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// The pointers of all members that have no members themselves.
fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                leaves(member, format!("{path}/{}", escaped(name)), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                leaves(item, format!("{path}/{at}"), found);
            }
        }
        _ => found.push(path),
    }
}

fn remove(value: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.remove(&name.replace("~1", "/").replace("~0", "~"))),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        other => panic!("{other} has no members"),
    }
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~")
}
