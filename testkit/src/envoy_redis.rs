//! Changes the shipped Redis cluster for a Redis with TLS and a user, and for a Redis Cluster.

use std::path::Path;

use serde_json::json;

use crate::envoy_config::{EnvoyConfig, socket_address};

/// The shipped cluster of the session store.
const REDIS: &str = "redis";
/// The cluster that reaches the nodes in redirections.
pub const REDIS_NODES: &str = "redis-nodes";

const TLS_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const PROTOCOL_OPTIONS: &str = "typed_extension_protocol_options";
const REDIS_OPTIONS: &str = "envoy.filters.network.redis_proxy";

impl EnvoyConfig {
    /// Connects to Redis with TLS, as `username`. The server must have a certificate for `localhost` from `authority`.
    #[must_use]
    pub fn redis_tls(self, authority: &Path, username: &str) -> Self {
        let context = json!({
            "@type": TLS_TYPE,
            "sni": "localhost",
            "common_tls_context": {"validation_context": {
                "trusted_ca": {"filename": authority},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
            }},
        });
        let config = self.edit_cluster(REDIS, |cluster| {
            cluster["transport_socket"] =
                json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
            // This includes the handshake, which may take long on a busy machine.
            cluster["connect_timeout"] = json!("5s");
            // The health check signs in as the filter does.
            cluster[PROTOCOL_OPTIONS][REDIS_OPTIONS]["auth_username"] = json!({"inline_string": username});
        });
        config.plugin(|plugin| plugin["session"]["redis"]["username"] = json!(username))
    }

    /// Connects to a Redis Cluster. The shipped cluster reaches the nodes at `ports`. [`REDIS_NODES`] reaches the node
    /// of a redirection, which the filter names in a header. No route leads to it.
    #[must_use]
    pub fn redis_cluster(self, ports: &[u16]) -> Self {
        let endpoints: Vec<_> = ports
            .iter()
            .map(|port| json!({"endpoint": {"address": socket_address("127.0.0.1", *port)}}))
            .collect();
        let mut nodes = serde_json::Value::Null;
        let config = self.edit_cluster(REDIS, |cluster| {
            cluster["load_assignment"]["endpoints"] = json!([{"lb_endpoints": endpoints}]);
            nodes = cluster.clone();
        });
        nodes["name"] = json!(REDIS_NODES);
        nodes["type"] = json!("ORIGINAL_DST");
        nodes["lb_policy"] = json!("CLUSTER_PROVIDED");
        nodes["original_dst_lb_config"] = json!({"use_http_header": true});
        if let Some(members) = nodes.as_object_mut() {
            // The hosts come from redirections, so there is nothing to resolve or to check.
            for member in ["load_assignment", "dns_lookup_family", "health_checks", "common_lb_config"] {
                members.remove(member);
            }
        }
        if let Some(options) = nodes[PROTOCOL_OPTIONS].as_object_mut() {
            options.remove(REDIS_OPTIONS);
        }
        config.add_cluster(nodes).plugin(|plugin| plugin["session"]["redis"]["nodes"] = json!(REDIS_NODES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_nodes_has_the_tcp_pool_and_nothing_to_resolve() {
        let _ = EnvoyConfig::shipped().unwrap().redis_cluster(&[7001, 7002]).bootstrap(|bootstrap| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
            let named = |name: &str| clusters.iter().find(|cluster| cluster["name"] == name).unwrap();
            let nodes = named(REDIS_NODES);
            assert_eq!(nodes["upstream_config"], named(REDIS)["upstream_config"]);
            assert_eq!(nodes.get("load_assignment"), None);
            let seeds = named(REDIS)["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array().unwrap();
            assert_eq!(seeds.len(), 2);
        });
    }
}
