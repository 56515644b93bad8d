//! The session store of a gate: Redis in several deployments, and the matching configuration of Envoy.

use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::process::{Trouble, required_path};
use oidc_gate_testkit::provider::random_text;
use oidc_gate_testkit::redis::{Account, Authority, Cluster, FakeRedis, HaProxy, Pair, Proxy, Redis, Script};

/// `session.redis.prefix` in the shipped configuration.
const PREFIX: &str = "mlflow";

/// A running store: the parts that its deployment has.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// The password for the gate.
    pub password: String,
    /// A single real Redis.
    pub redis: Option<Redis>,
    /// Can corrupt the replies of that Redis.
    pub proxy: Option<Proxy>,
    pub fake: Option<FakeRedis>,
    pub cluster: Option<Cluster>,
    /// A primary and a replica.
    pub pair: Option<Pair>,
    /// Leads to the primary.
    front: Option<HaProxy>,
    /// Has issued the certificate of a Redis with TLS.
    authority: Option<Authority>,
}

/// The deployment of a store.
pub(crate) enum Kind {
    Redis,
    Proxied,
    Fake(Script),
    /// Requires TLS and an ACL user.
    Tls,
    Cluster,
    /// Behind HAProxy.
    Pair,
}

impl Store {
    pub fn start(kind: Kind) -> Result<Self, Trouble> {
        let program = required_path("OIDC_GATE_REDIS")?;
        let mut store = Self::default();
        match kind {
            Kind::Redis | Kind::Proxied => {
                let redis = Redis::start(&program)?;
                redis.password().clone_into(&mut store.password);
                if matches!(kind, Kind::Proxied) {
                    store.proxy = Some(Proxy::start(redis.port())?);
                }
                store.redis = Some(redis);
            }
            Kind::Fake(script) => {
                store.password = format!("fake-{}", random_text(24));
                store.fake = Some(FakeRedis::start(script)?);
            }
            Kind::Tls => {
                store.password = format!("acl-{}", random_text(24));
                let account = Account {
                    username: "gate".to_owned(),
                    password: store.password.clone(),
                    prefix: PREFIX.to_owned(),
                };
                let authority = Authority::new()?;
                store.redis = Some(Redis::with_tls(&program, &authority, account)?);
                store.authority = Some(authority);
            }
            Kind::Cluster => {
                let cluster = Cluster::start(&program)?;
                cluster.password().clone_into(&mut store.password);
                store.cluster = Some(cluster);
            }
            Kind::Pair => {
                let pair = Pair::start(&program)?;
                pair.password().clone_into(&mut store.password);
                let haproxy = required_path("OIDC_GATE_HAPROXY")?;
                store.front = Some(HaProxy::start(&haproxy, &pair.ports(), pair.password())?);
                store.pair = Some(pair);
            }
        }
        Ok(store)
    }

    /// Configures an Envoy to use this store.
    pub fn configure(&self, config: EnvoyConfig) -> EnvoyConfig {
        if let Some(cluster) = &self.cluster {
            let ports: Vec<u16> = cluster.nodes().iter().map(Redis::port).collect();
            return config.redis_cluster(&ports);
        }
        // What stands in front comes first.
        let front = [self.proxy.as_ref().map(Proxy::port), self.front.as_ref().map(HaProxy::port)];
        let server = [self.fake.as_ref().map(FakeRedis::port), self.redis.as_ref().map(Redis::port)];
        let port = front.into_iter().chain(server).flatten().next().expect("a store has a port");
        let config = config.cluster("redis", "127.0.0.1", port);
        match (&self.authority, &self.fake) {
            (Some(authority), _) => config.redis_tls(authority.certificate(), "gate"),
            (None, Some(_)) => config.without_health_check("redis"),
            (None, None) => config,
        }
    }
}
