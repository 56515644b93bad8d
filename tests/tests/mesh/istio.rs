//! Istio: the filter, its cluster and the hardening of the listener as istiod makes them of the manifests.
//!
//! istiod is not run. What it does with a WasmPlugin is a dozen lines (`buildWasmConfig` and `buildVMConfig` in
//! pilot/pkg/model/extensions.go), which are repeated here; an EnvoyFilter is Envoy's own configuration already.

use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_tests::Gate;
use serde_json::{Value, json};

use crate::journey;
use crate::manifests::{merge, resource, shipped_manager};

/// What istiod makes of a WasmPlugin; the istio-agent has put the code into a local file.
fn plugin_config(plugin: &Value, wasm: &Value) -> Value {
    let spec = &plugin["spec"];
    let environment = spec["vmConfig"]["env"].as_array().cloned().unwrap_or_default();
    assert!(environment.iter().all(|variable| variable["valueFrom"] == "HOST"), "secrets by reference only");
    let keys: Vec<_> = environment.iter().map(|variable| variable["name"].clone()).collect();
    json!({
        "name": format!("{}.{}", "mlflow", plugin["metadata"]["name"].as_str().unwrap()),
        "root_id": spec["pluginName"],
        "failure_policy": spec["failStrategy"],
        // As text: istiod turns the structure into JSON.
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": spec["pluginConfig"].to_string(),
        },
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": wasm,
            "environment_variables": {
                "host_env_keys": keys,
                "key_values": {"ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1"},
            },
        },
    })
}

/// The patches of an EnvoyFilter that apply to what is named.
fn patches(file: &str, name: &str, apply_to: &str) -> Vec<Value> {
    let filter = resource(file, "EnvoyFilter", name);
    let patches = filter["spec"]["configPatches"].as_array().unwrap();
    patches
        .iter()
        .filter(|patch| patch["applyTo"] == apply_to)
        .map(|patch| patch["patch"]["value"].clone())
        .collect()
}

/// A gateway as Istio configures one, with the addresses of the test in it.
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
        // What istiod makes of the ServiceEntry; without TLS, which the test's provider does not speak.
        let service = resource("istio/keycloak.yaml", "ServiceEntry", "keycloak");
        let host = service["spec"]["hosts"][0].as_str().unwrap();
        let name = format!("outbound|{}||{host}", service["spec"]["ports"][0]["number"]);
        clusters.push(json!({
            "name": name, "type": "STRICT_DNS", "connect_timeout": "10s",
            "load_assignment": {"cluster_name": name, "endpoints": keycloak},
        }));
        bootstrap["static_resources"]["clusters"] = Value::Array(clusters);

        let manager = bootstrap
            .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
            .expect("the shipped configuration has a connection manager");
        let wasm = manager["http_filters"][0]["typed_config"]["config"]["vm_config"]["code"].take();
        let routes = manager["route_config"].take();
        // istiod's own connection manager, as far as it concerns a gateway; all hardening comes from the manifest.
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
        let mut plugin = resource("istio/wasm-plugin.yaml", "WasmPlugin", "oidc-gate");
        // The test's provider and listener have addresses of their own; everything else is as it stands.
        let settings = &mut plugin["spec"]["pluginConfig"];
        assert_eq!(
            settings["issuer"]["cluster"],
            name.as_str(),
            "the plugin names the ServiceEntry's cluster"
        );
        settings["public_url"] = json!({"env": "MLFLOW_PUBLIC_URL"});
        settings["issuer"]["url"] = json!({"env": "OIDC_ISSUER_URL"});
        let variables = plugin["spec"]["vmConfig"]["env"].as_array_mut().unwrap();
        variables.extend(
            ["MLFLOW_PUBLIC_URL", "OIDC_ISSUER_URL"].map(|name| json!({"name": name, "valueFrom": "HOST"})),
        );
        manager["http_filters"] = json!([
            {"name": "mlflow.oidc-gate", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": plugin_config(&plugin, &wasm),
            }},
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
fn a_gateway_as_istio_configures_it_serves_a_login_and_a_token() {
    let gate = Gate::builder().envoy(as_istio_makes_it).start();
    journey::works(&gate);
}

#[test]
fn istios_hardening_is_that_of_the_shipped_configuration() {
    let patches = patches("istio/hardening.yaml", "oidc-gate-hardening", "NETWORK_FILTER");
    let hardened = &patches[0]["typed_config"];
    let shipped = shipped_manager();
    for (name, value) in hardened.as_object().unwrap() {
        assert_eq!(&shipped[name], value, "{name}");
    }
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
