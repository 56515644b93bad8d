//! Envoy Gateway: its own translation of the manifests.
//!
//! `envoy-gateway.json` is the output of egctl. `cargo xtask test mesh` runs egctl again. Here the output is loaded
//! into Envoy, with the test's addresses and without TLS, which the test's servers do not support.

use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_tests::Gate;
use serde_json::{Value, json};

use crate::comparison::Exception::{Absent, Different};
use crate::comparison::{
    assert_lacks_nothing, assert_names_the_host, assert_nobody_is_internal, cluster, edge, shipped_cluster,
    shipped_edge, shipped_handshake_timeout,
};
use crate::journey;

const LISTENER: &str = "mlflow/mlflow/https";
const CONNECTION_MANAGER: &str = "/filterChains/0/filters/0/typedConfig";

fn translation() -> Value {
    serde_json::from_str(include_str!("envoy-gateway.json")).expect("egctl's answer is JSON")
}

/// The resources of one kind, in the form of Envoy's configuration dump.
fn dumped(kind: &str, list: &str, path: &str) -> Vec<Value> {
    let translation = translation();
    let found = translation[kind][list].as_array().cloned().unwrap_or_default();
    assert!(!found.is_empty(), "the translation has no {list}");
    found.iter().map(|entry| entry.pointer(path).unwrap().clone()).collect()
}

fn listener() -> Value {
    let listeners = dumped("ListenersConfigDump", "dynamicListeners", "/activeState/listener");
    listeners.into_iter().find(|listener| listener["name"] == LISTENER).expect("the Gateway's listener")
}

fn routes() -> Value {
    let routes = dumped("RoutesConfigDump", "dynamicRouteConfigs", "/routeConfig");
    routes.into_iter().find(|routes| routes["name"] == LISTENER).expect("the listener's routes")
}

fn clusters() -> Vec<Value> {
    dumped("ClustersConfigDump", "dynamicActiveClusters", "/cluster")
}

fn gate_filter(manager: &mut Value) -> &mut Value {
    let filters = manager["httpFilters"].as_array_mut().expect("there are filters");
    let ours = filters.iter_mut().find(|filter| {
        filter["name"].as_str().is_some_and(|name| name.starts_with("envoy.filters.http.wasm/"))
    });
    &mut ours.expect("the filter is among them")["typedConfig"]["config"]
}

/// The configuration that Envoy Gateway creates for a Gateway, with the test's addresses.
fn as_envoy_gateway_translates_it(config: EnvoyConfig) -> EnvoyConfig {
    config.bootstrap(|bootstrap| {
        let address = |name: &str| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
            let cluster = clusters.iter().find(|cluster| cluster["name"] == name).unwrap();
            cluster["load_assignment"]["endpoints"].clone()
        };
        let mut all = clusters();
        for cluster in &mut all {
            let endpoints = match cluster["name"].as_str().unwrap() {
                "oidc-gate-redis" => address("redis"),
                "oidc-gate-keycloak" => address("keycloak"),
                name if name.starts_with("httproute/mlflow/mlflow/") => address("mlflow"),
                // Clusters that Envoy Gateway adds for itself.
                _ => continue,
            };
            let name = cluster["name"].clone();
            let members = cluster.as_object_mut().unwrap();
            members.remove("transportSocket");
            members.insert("loadAssignment".to_owned(), json!({"clusterName": name, "endpoints": endpoints}));
        }
        for cluster in &mut all {
            cluster.as_object_mut().unwrap().remove("@type");
        }
        all.retain(|cluster| cluster.get("loadAssignment").is_some());
        // The fixture waits for this cluster.
        let shipped = bootstrap["static_resources"]["clusters"].as_array().unwrap();
        all.extend(shipped.iter().filter(|cluster| cluster["name"] == "redis").cloned());

        let mut listener = listener();
        listener["address"] = bootstrap["static_resources"]["listeners"][0]["address"].clone();
        let members = listener.as_object_mut().unwrap();
        members.remove("@type");
        members.remove("listenerFilters");
        let chain = listener["filterChains"][0].as_object_mut().unwrap();
        assert!(chain.remove("transportSocket").is_some(), "the Gateway's listener ends TLS");
        chain.remove("filterChainMatch");

        let shipped = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
        let code = bootstrap.pointer(shipped).unwrap()["config"]["vm_config"]["code"].clone();
        let manager = listener.pointer_mut(CONNECTION_MANAGER).unwrap();
        let mut routes = routes();
        routes.as_object_mut().unwrap().remove("@type");
        routes["virtualHosts"][0]["domains"] = json!(["*"]);
        manager.as_object_mut().unwrap().remove("rds");
        manager["routeConfig"] = routes;

        let filter = gate_filter(manager);
        filter["vmConfig"]["code"] = code;
        let keys = filter["vmConfig"]["environmentVariables"]["hostEnvKeys"].as_array_mut().unwrap();
        keys.extend([json!("MLFLOW_PUBLIC_URL"), json!("OIDC_ISSUER_URL")]);
        let mut settings: Value = serde_json::from_str(filter["configuration"]["value"].as_str().unwrap()).unwrap();
        settings["public_url"] = json!({"env": "MLFLOW_PUBLIC_URL"});
        settings["issuer"]["url"] = json!({"env": "OIDC_ISSUER_URL"});
        journey::allow_canary(&mut settings);
        filter["configuration"]["value"] = json!(settings.to_string());

        bootstrap["static_resources"] = json!({"listeners": [listener], "clusters": all});
    })
}

#[test]
fn a_gateway_as_envoy_gateway_translates_it_serves_logins_tokens_and_announced_logouts() {
    let gate = Gate::builder().envoy(as_envoy_gateway_translates_it).start();
    journey::works(&gate);
}

#[test]
fn envoy_gateways_translation_never_fails_open_and_has_no_secret() {
    let mut listener = listener();
    let manager = listener.pointer_mut(CONNECTION_MANAGER).unwrap();
    let filter = gate_filter(manager);
    assert_eq!(filter["failurePolicy"], "FAIL_RELOAD");
    assert_eq!(filter["allowOnHeadersStopIteration"], true, "without it no logout message can be read");
    assert!(filter.get("failOpen").is_none_or(|open| open == false));
    let text = include_str!("envoy-gateway.json");
    assert!(!text.contains("PRIVATE KEY"));
    for name in ["SECRET_KEY", "OIDC_CLIENT_SECRET", "REDIS_PASSWORD", "ASSERTION_KEYS"] {
        assert!(
            filter["vmConfig"]["environmentVariables"]["hostEnvKeys"]
                .as_array()
                .unwrap()
                .contains(&json!(name))
        );
    }
}

#[test]
fn every_route_of_the_gateway_has_the_filter() {
    for host in routes()["virtualHosts"].as_array().unwrap() {
        for route in host["routes"].as_array().unwrap() {
            let switched_on = route["typedPerFilterConfig"].as_object().unwrap();
            assert!(switched_on.keys().any(|name| name.starts_with("envoy.filters.http.wasm/")), "{route}");
        }
    }
}

#[test]
fn envoy_gateways_listener_is_that_of_the_shipped_configuration() {
    let mut listener = listener();
    let timeout = &listener["filterChains"][0]["transportSocketConnectTimeout"];
    assert_eq!(*timeout, shipped_handshake_timeout());
    let manager = listener.pointer_mut(CONNECTION_MANAGER).unwrap();
    assert_nobody_is_internal(manager);
    manager["routeConfig"] = routes();
    // Envoy Gateway allows upgrades per route.
    manager["upgradeConfigs"] =
        manager["routeConfig"]["virtualHosts"][0]["routes"][0]["route"]["upgradeConfigs"].clone();
    assert_lacks_nothing(
        &shipped_edge(),
        &edge(&listener),
        &[
            Different("manager.stat_prefix", "Envoy Gateway names its own"),
            Absent("manager.xff_num_trusted_hops", "0 is the default"),
            Absent("manager.max_request_headers_kb", "60 is the default"),
            Absent("manager.server_header_transformation", "to overwrite is the default"),
            Different("route.cluster", "Envoy Gateway names its own"),
            Different("gate.vm_config.vm_id", "Envoy Gateway names its own"),
            Different(
                "gate.vm_config.environment_variables.host_env_keys",
                "what is no secret stands in the manifest",
            ),
        ],
    );
}

#[test]
fn envoy_gateways_clusters_are_those_of_the_shipped_configuration() {
    for (name, shipped) in [
        ("httproute/mlflow/mlflow/", "mlflow"),
        ("oidc-gate-redis", "redis"),
        ("oidc-gate-keycloak", "keycloak"),
    ] {
        let all = clusters();
        let made =
            all.iter().find(|cluster| cluster["name"].as_str().is_some_and(|found| found.starts_with(name)));
        let exceptions: &[_] = match shipped {
            "mlflow" => {
                &[Absent("type", "Envoy Gateway says the same by its clusterType, envoy.cluster.dns")]
            }
            "redis" => &[Absent("common_lb_config.healthy_panic_threshold.value", "0 is not written")],
            _ => &[],
        };
        assert_lacks_nothing(&shipped_cluster(shipped), &cluster(made.unwrap()), exceptions);
        if shipped == "keycloak" {
            assert_names_the_host(&made.unwrap()["transportSocket"]["typedConfig"]);
        }
    }
}
