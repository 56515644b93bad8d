//! The gate as a client of the provider: which host it calls, and how it handles errors.

use std::cell::RefCell;
use std::rc::Rc;

use oidc_gate_testkit::balancer::Balancer;
use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::free_port;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Times};
use oidc_gate_tests::{Builder, Gate, assert_refused, assert_stopped, assert_workers_alive};
use serde_json::{Value, json};

/// Endpoints that the gate calls, by their names in the metadata.
const ON_ANOTHER_HOST: [&str; 2] = ["token_endpoint", "userinfo_endpoint"];

/// A gate whose provider has two endpoints at another port, and the server that listens there.
fn split(builder: Builder, members: &Value) -> (Gate, Balancer, String) {
    let port = free_port();
    let origin = format!("http://localhost:{port}");
    let other = Rc::new(RefCell::new(None));
    let (started, moved, members) = (other.clone(), origin.clone(), members.clone());
    let replace = move |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace("ORIGIN", &moved)).unwrap()
    };
    let members = replace(&members);
    let to = origin.clone();
    let gate = builder
        .provider(move |provider| {
            let own = provider.issuer().split("/realms").next().unwrap().to_owned();
            started.replace(Some(Balancer::start(port, vec![provider.port()]).unwrap()));
            provider.edit_document(Endpoint::Discovery, move |metadata| {
                for name in ON_ANOTHER_HOST {
                    let moved = metadata[name].as_str().unwrap().replace(&own, &to);
                    metadata[name] = moved.into();
                }
            });
        })
        .plugin(move |plugin| {
            plugin["login"]["userinfo"] = true.into();
            for (name, value) in members.as_object().unwrap() {
                plugin["issuer"][name] = value.clone();
            }
        })
        .envoy(move |config| {
            config.add_cluster(json!({
                "name": "tokens", "type": "STATIC", "connect_timeout": "2s",
                "load_assignment": {"cluster_name": "tokens", "endpoints": [{"lb_endpoints": [{"endpoint": {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                }}]}]},
            }))
        })
        .start();
    let balancer = other.take().expect("the provider was prepared");
    (gate, balancer, origin)
}

#[test]
fn f702_a_code_and_the_secret_reach_the_host_of_the_token_endpoint_and_no_other() {
    let origins = json!({"origins": [{"origin": "ORIGIN", "cluster": "tokens"}]});
    let (gate, _balancer, origin) = split(Gate::builder(), &origins);
    let browser = gate.signed_in("mlflow_user");
    assert_eq!(browser.navigate(&gate.url("/x")).unwrap().status, 200);
    let host = origin.trim_start_matches("http://");
    for endpoint in [Endpoint::Token, Endpoint::UserInfo] {
        let requests = gate.provider.requests(endpoint);
        assert_eq!(requests.len(), 1, "{endpoint:?}");
        assert_eq!(requests[0].header("host"), Some(host), "{endpoint:?}");
    }
    assert_eq!(gate.envoy().stat("cluster.tokens.upstream_rq_total").unwrap(), 2);
    let own = gate.provider.count(Endpoint::Discovery) + gate.provider.count(Endpoint::Jwks);
    assert_eq!(gate.envoy().stat("cluster.keycloak.upstream_rq_total").unwrap(), own as u64);
    for request in gate.provider.requests(Endpoint::Jwks) {
        assert_ne!(request.header("host"), Some(host));
    }

    // Without a cluster for that origin nothing is sent, neither to it nor to the issuer.
    let (gate, _balancer, origin) = split(Gate::builder(), &json!({"allowed_origins": ["ORIGIN"]}));
    let page = assert_refused(&gate, 503, || Client::new().navigate(&gate.url("/x")));
    assert!(page.text().contains("An administrator has to act"), "{page}");
    assert_eq!(page.header("retry-after"), None, "{page}");
    let log = gate.envoy().log();
    for name in ON_ANOTHER_HOST {
        let said =
            format!("{name} can't be called: its origin {origin} has no cluster; add both to issuer.origins");
        assert!(log.contains(&said), "{name}: {log}");
    }
    assert_eq!(gate.provider.count(Endpoint::Token) + gate.provider.count(Endpoint::UserInfo), 0);
    // Bearer tokens need neither endpoint.
    assert_workers_alive(&gate);
}

#[test]
fn f701_the_provider_hears_what_the_gate_says_and_nothing_of_envoy() {
    let gate = Gate::builder().set("login.userinfo", true).set("bearer.check_interval", "1s").start();
    gate.signed_in("mlflow_user");
    let token = gate.provider.access_token("mlflow_user");
    assert_eq!(gate.with_token("/x", &token).send().unwrap().status, 200);
    for endpoint in
        [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token, Endpoint::UserInfo, Endpoint::Introspection]
    {
        let requests = gate.provider.requests(endpoint);
        assert!(!requests.is_empty(), "{endpoint:?}");
        for request in requests {
            let agent = request.header("user-agent").unwrap_or_default();
            assert!(agent.starts_with("oidc-gate/"), "{endpoint:?}: {agent}");
            let envoys: Vec<_> = request.headers.iter().filter(|(name, _)| name.starts_with("x-")).collect();
            assert!(envoys.is_empty(), "{endpoint:?}: {envoys:?}");
        }
    }
}

#[test]
fn f706_what_introspection_refuses_is_503_and_told_in_the_providers_words() {
    let gate = Gate::builder().set("bearer.check_interval", "1s").start();
    let token = gate.provider.access_token("mlflow_user");
    gate.plant_secret(&token);
    let answer = json!({
        "error": "unsupported_token_type",
        "error_description": format!("JWTs are not introspected: {token} {}", "y".repeat(5000)),
    });
    gate.provider.misbehave(Endpoint::Introspection, Times::Always, Behaviour::json(400, answer.to_string()));
    let refused = assert_stopped(&gate, &[503], "introspection", || gate.with_token("/x", &token).send());
    assert_eq!(refused.header("retry-after"), None, "{refused}");
    assert_eq!(refused.json()["error_code"], "INTERNAL_ERROR", "{refused}");
    let log = gate.envoy().log();
    let words =
        "introspection endpoint: status 400, unsupported_token_type: JWTs are not introspected: [redacted]";
    assert!(log.contains(words) && !log.contains(&"y".repeat(500)), "{log}");
    gate.provider.behave();
    assert_workers_alive(&gate);
}
