//! Istio: the filter, its cluster and the hardening of the listener, as istiod creates them from the manifests.
//!
//! istiod does not run here. Its handling of a WasmPlugin is a dozen lines (`buildWasmConfig` and `buildVMConfig` in
//! pilot/pkg/model/extensions.go), which are repeated here. So is the replacement of a filter (`patchHTTPFilters` in
//! pilot/pkg/networking/core/envoyfilter/listener_patch.go). An EnvoyFilter contains Envoy's own configuration.

use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_tests::Gate;
use serde_json::{Value, json};

use crate::comparison::Exception::{Absent, Different};
use crate::comparison::{
    assert_lacks_nothing, assert_nobody_is_internal, cluster, edge, shipped_cluster, shipped_edge,
    shipped_handshake_timeout,
};
use crate::journey;
use crate::manifests::{merge, resource};

/// The name that istiod gives to the filter of the WasmPlugin.
const GENERATED: &str = "extensions.istio.io/trafficextension/mlflow.oidc-gate";

/// The filter that istiod creates from a WasmPlugin.
fn plugin_config(plugin: &Value) -> Value {
    let spec = &plugin["spec"];
    let environment = spec["vmConfig"]["env"].as_array().cloned().unwrap_or_default();
    assert!(environment.iter().all(|variable| variable["valueFrom"] == "HOST"), "secrets by reference only");
    let keys: Vec<_> = environment.iter().map(|variable| variable["name"].clone()).collect();
    json!({
        "name": format!("{}.{}", "mlflow", plugin["metadata"]["name"].as_str().unwrap()),
        "root_id": spec["pluginName"],
        "failure_policy": spec["failStrategy"],
        // As text, because istiod converts the structure to JSON.
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": spec["pluginConfig"].to_string(),
        },
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"remote": {
                "http_uri": {"uri": spec["url"], "timeout": "30s", "cluster": "_"},
                "sha256": spec.get("sha256").cloned().unwrap_or(json!("nil")),
            }},
            "environment_variables": {"host_env_keys": keys},
        },
    })
}

/// The patches of an EnvoyFilter that apply to this kind of object.
fn patches(file: &str, name: &str, apply_to: &str) -> Vec<Value> {
    let filter = resource(file, "EnvoyFilter", name);
    let patches = filter["spec"]["configPatches"].as_array().unwrap();
    patches
        .iter()
        .filter(|patch| patch["applyTo"] == apply_to)
        .map(|patch| patch["patch"]["value"].clone())
        .collect()
}

#[test]
fn istio_may_hand_the_gateway_its_certificate() {
    let file = "istio/gateway-deployment.yaml";
    let gateway = resource("istio/gateway.yaml", "Gateway", "mlflow");
    let secret = gateway["spec"]["servers"][0]["tls"]["credentialName"].as_str().unwrap();
    // A plain name refers to the gateway's own namespace. istiod checks that the gateway's account may list Secrets
    // there.
    assert!(!secret.contains(['/', ':']), "{secret}");
    let deployment = resource(file, "Deployment", "mlflow-gateway");
    let account = &deployment["spec"]["template"]["spec"]["serviceAccountName"];
    resource(file, "ServiceAccount", account.as_str().unwrap());
    let binding = resource(file, "RoleBinding", "mlflow-gateway");
    assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": account}]));
    assert_eq!(binding["roleRef"]["kind"], "Role");
    let role = resource(file, "Role", binding["roleRef"]["name"].as_str().unwrap());
    assert_eq!(
        role["rules"],
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}])
    );
    // The pods get no token, so an attacker in one cannot use this permission.
    assert_eq!(deployment["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
}

/// The filter that replaces the one of the WasmPlugin, and the configuration that it requests from istiod.
fn replacement() -> (Value, Value) {
    let filter = resource("istio/announced-logouts.yaml", "EnvoyFilter", "oidc-gate-announced-logouts");
    let of_the_generated = |patch: &&Value| {
        patch.pointer("/match/listener/filterChain/filter/subFilter/name") == Some(&json!(GENERATED))
    };
    let patch = filter["spec"]["configPatches"].as_array().unwrap().iter().find(of_the_generated);
    let patch = &patch.expect("a patch is about the generated filter")["patch"];
    assert_eq!(patch["operation"], "REPLACE");
    let replaced = patch["value"].clone();
    let offered = patches("istio/announced-logouts.yaml", "oidc-gate-announced-logouts", "EXTENSION_CONFIG");
    let [offered] = <[Value; 1]>::try_from(offered).unwrap();
    assert_eq!(offered["name"], replaced["name"], "Envoy asks for a configuration by its filter's name");
    (replaced, offered)
}

/// The configuration that Istio creates for a gateway, with the test's addresses.
fn as_istio_makes_it(config: EnvoyConfig) -> EnvoyConfig {
    config.bootstrap(|bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].take();
        let mut clusters = clusters.as_array().unwrap().clone();
        let address = |name: &str| {
            let cluster = clusters.iter().find(|cluster| cluster["name"] == name).unwrap();
            cluster["load_assignment"]["endpoints"].clone()
        };
        let (redis, keycloak) = (address("redis"), address("keycloak"));
        let [mut ours] =
            <[Value; 1]>::try_from(patches("istio/redis.yaml", "oidc-gate-redis", "CLUSTER")).unwrap();
        ours["load_assignment"]["endpoints"] = redis;
        clusters.push(ours);
        // The cluster that istiod creates from the ServiceEntry, without TLS, which the test's provider does not
        // support.
        let service = resource("istio/keycloak.yaml", "ServiceEntry", "keycloak");
        let host = service["spec"]["hosts"][0].as_str().unwrap();
        let name = format!("outbound|{}||{host}", service["spec"]["ports"][0]["number"]);
        clusters.push(json!({
            "name": name, "type": "STRICT_DNS", "connect_timeout": "10s",
            "load_assignment": {"cluster_name": name, "endpoints": keycloak},
        }));
        bootstrap["static_resources"]["clusters"] = Value::Array(clusters);

        let listener = &mut bootstrap["static_resources"]["listeners"][0];
        let members = listener.as_object_mut().unwrap();
        for hardened in ["per_connection_buffer_limit_bytes", "listener_filters_timeout"] {
            assert!(members.remove(hardened).is_some(), "{hardened}");
        }
        for patch in patches("istio/hardening.yaml", "oidc-gate-hardening", "LISTENER") {
            merge(listener, &patch);
        }
        for patch in patches("istio/hardening.yaml", "oidc-gate-hardening", "FILTER_CHAIN") {
            merge(&mut listener["filter_chains"][0], &patch);
        }
        let manager = bootstrap
            .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
            .expect("the shipped configuration has a connection manager");
        let wasm = manager["http_filters"][0]["typed_config"]["config"]["vm_config"]["code"].take();
        let routes = manager["route_config"].take();
        // istiod's connection manager, as far as it matters for a gateway. All hardening comes from the manifest.
        *manager = json!({
            "@type": manager["@type"],
            "stat_prefix": "outbound_0.0.0.0_8443",
            "route_config": routes,
            "use_remote_address": true,
            "forward_client_cert_details": "SANITIZE_SET",
            "server_name": "istio-envoy",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": manager["access_log"],
        });
        let (replaced, offered) = replacement();
        let mut plugin = offered["typed_config"].clone();
        // istio-agent has stored the code in a local file.
        plugin["config"]["vm_config"]["code"] = wasm;
        // The test's provider and listener have other addresses, and its application a path that MLflow lacks. All
        // other settings are unchanged.
        let settings = &mut plugin["config"]["configuration"]["value"];
        assert_eq!(
            settings["issuer"]["cluster"],
            name.as_str(),
            "the filter names the ServiceEntry's cluster"
        );
        settings["public_url"] = json!({"env": "MLFLOW_PUBLIC_URL"});
        settings["issuer"]["url"] = json!({"env": "OIDC_ISSUER_URL"});
        journey::allow_canary(settings);
        let keys = plugin["config"]["vm_config"]["environment_variables"]["host_env_keys"].as_array_mut();
        keys.unwrap().extend([json!("MLFLOW_PUBLIC_URL"), json!("OIDC_ISSUER_URL")]);
        manager["http_filters"] = json!([
            {"name": replaced["name"], "typed_config": plugin},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }},
        ]);
        for patch in patches("istio/hardening.yaml", "oidc-gate-hardening", "NETWORK_FILTER") {
            merge(manager, &patch["typed_config"]);
        }
    })
}

#[test]
fn a_gateway_as_istio_configures_it_serves_logins_tokens_and_announced_logouts() {
    let gate = Gate::builder().envoy(as_istio_makes_it).start();
    journey::works(&gate);
}

#[test]
fn the_filter_that_reads_logout_messages_is_otherwise_the_one_that_istio_makes_of_the_wasm_plugin() {
    let (replaced, offered) = replacement();
    let discovery = &replaced["config_discovery"];
    assert!(discovery["config_source"]["ads"].is_object(), "istiod is asked, through istio-agent");
    assert_eq!(
        discovery["config_source"]["initial_fetch_timeout"], "0s",
        "nothing is served before it is there"
    );
    assert_eq!(discovery.get("default_config"), None);
    let config = &offered["typed_config"]["config"];
    assert_eq!(config["allow_on_headers_stop_iteration"], true, "without it no logout message can be read");
    let mut expected = plugin_config(&resource("istio/wasm-plugin.yaml", "WasmPlugin", "oidc-gate"));
    expected["allow_on_headers_stop_iteration"] = json!(true);
    let text = expected["configuration"]["value"].as_str().unwrap().to_owned();
    expected["configuration"] = json!({
        "@type": "type.googleapis.com/google.protobuf.Struct",
        "value": serde_json::from_str::<Value>(&text).unwrap(),
    });
    assert_eq!(*config, expected);
}

#[test]
fn istios_hardening_is_that_of_the_shipped_configuration() {
    let [manager] =
        <[Value; 1]>::try_from(patches("istio/hardening.yaml", "oidc-gate-hardening", "NETWORK_FILTER"))
            .unwrap();
    let [mut listener] =
        <[Value; 1]>::try_from(patches("istio/hardening.yaml", "oidc-gate-hardening", "LISTENER")).unwrap();
    let [chain] =
        <[Value; 1]>::try_from(patches("istio/hardening.yaml", "oidc-gate-hardening", "FILTER_CHAIN"))
            .unwrap();
    assert_eq!(chain, json!({"transport_socket_connect_timeout": shipped_handshake_timeout()}));
    assert_nobody_is_internal(&manager["typed_config"]);
    let (_, offered) = replacement();
    listener["filter_chains"] = json!([{"filters": [manager]}]);
    listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"] = json!([offered]);
    let (hardened, shipped) = (edge(&listener), shipped_edge());
    assert_lacks_nothing(
        &shipped,
        &hardened,
        &[
            Absent("manager.stat_prefix", "istiod names its own"),
            Absent(
                "manager.xff_num_trusted_hops",
                "0 says nothing in a merge, and the header is removed before",
            ),
            Absent(
                "manager.server_header_transformation",
                "to overwrite is Envoy's default, and istiod's for a gateway",
            ),
            Absent("manager.upgrade_configs", "istiod's gateways have WebSockets"),
            Absent(
                "log_format",
                "the access log belongs to the mesh; docs/service-mesh.md says what it should be",
            ),
            Absent("route", "the VirtualService makes it, and has no timeout"),
            Absent(
                "router",
                "istiod's own; whether answers say how long they took is the mesh's setting (proxyHeaders)",
            ),
            Absent(
                "gate.reload_config",
                "what stands for a WasmPlugin has only what one can have, and leave to stop at headers",
            ),
            Absent("gate.vm_config.vm_id", "one plugin, one VM"),
            Different("gate.name", "istiod's name for it"),
            Different(
                "gate.vm_config.environment_variables.host_env_keys",
                "what is no secret stands in the manifest",
            ),
        ],
    );
    // It also has nothing that the shipped configuration lacks.
    for (name, value) in hardened["manager"].as_object().unwrap() {
        assert_eq!(&shipped["manager"][name], value, "{name}");
    }
}

#[test]
fn istios_redis_and_provider_are_those_of_the_shipped_configuration() {
    let [redis] = <[Value; 1]>::try_from(patches("istio/redis.yaml", "oidc-gate-redis", "CLUSTER")).unwrap();
    assert_lacks_nothing(&shipped_cluster("redis"), &cluster(&redis), &[]);
    let shipped = shipped_cluster("keycloak");
    let rule = resource("istio/keycloak.yaml", "DestinationRule", "keycloak");
    let port = &rule["spec"]["trafficPolicy"]["portLevelSettings"][0];
    let pool = &port["connectionPool"];
    let limits = &shipped["circuit_breakers"]["thresholds"][0];
    assert_eq!(pool["tcp"]["connectTimeout"], shipped["connect_timeout"]);
    assert_eq!(pool["tcp"]["maxConnections"], limits["max_connections"]);
    assert_eq!(pool["http"]["http2MaxRequests"], limits["max_requests"]);
    assert_eq!(pool["http"]["http1MaxPendingRequests"], limits["max_pending_requests"]);
    assert_eq!(port["tls"]["mode"], "SIMPLE");
    assert_eq!(port["tls"]["caCertificates"], "system", "without authorities Envoy accepts any certificate");
    assert_eq!(port["tls"]["subjectAltNames"], json!([port["tls"]["sni"]]));
}

#[test]
fn no_secret_stands_in_a_manifest_of_istio() {
    let plugin = resource("istio/wasm-plugin.yaml", "WasmPlugin", "oidc-gate");
    assert_ne!(plugin["spec"]["failStrategy"], "FAIL_OPEN");
    let settings = &plugin["spec"]["pluginConfig"];
    for secret in [
        &settings["client"]["secret"],
        &settings["session"]["keys"][0],
        &settings["session"]["redis"]["password"],
    ] {
        assert!(secret["env"].is_string(), "{secret}");
    }
}
