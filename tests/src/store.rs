//! The session store of a gate: Redis in several deployments, and the matching configuration of Envoy.

use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::process::{Trouble, required_path};
use oidc_gate_testkit::provider::random_text;
use oidc_gate_testkit::redis::{Account, Authority, Cluster, FakeRedis, HaProxy, Pair, Proxy, Redis, Script};

/// `session.redis.prefix` in the shipped configuration.
const PREFIX: &str = "mlflow";

/// A running store.
#[derive(Debug)]
pub enum SessionStore {
    /// A real Redis.
    Redis(Box<Redis>),
    /// A Redis whose replies can be corrupted.
    Proxied(Box<Redis>, Proxy),
    /// A fake Redis with a script.
    Fake(FakeRedis, String),
    /// A Redis that requires TLS and a user.
    Tls(Box<Redis>, Box<Authority>),
    /// A Redis Cluster.
    Cluster(Cluster),
    /// A primary and a replica behind HAProxy.
    Pair(Box<Pair>, HaProxy),
}

/// A store before it is started.
pub(crate) enum Kind {
    Redis,
    Proxied,
    Fake(Script),
    Tls,
    Cluster,
    Pair,
}

impl SessionStore {
    pub(crate) fn start(kind: Kind) -> Result<Self, Trouble> {
        let program = required_path("OIDC_GATE_REDIS")?;
        let redis = || Redis::start(&program).map(Box::new);
        Ok(match kind {
            Kind::Redis => Self::Redis(redis()?),
            Kind::Proxied => {
                let redis = redis()?;
                let proxy = Proxy::start(redis.port())?;
                Self::Proxied(redis, proxy)
            }
            Kind::Fake(script) => Self::Fake(FakeRedis::start(script)?, format!("fake-{}", random_text(24))),
            Kind::Tls => {
                let authority = Authority::new()?;
                let account = Account {
                    username: "gate".to_owned(),
                    password: format!("acl-{}", random_text(24)),
                    prefix: PREFIX.to_owned(),
                };
                Self::Tls(Box::new(Redis::with_tls(&program, &authority, account)?), Box::new(authority))
            }
            Kind::Cluster => Self::Cluster(Cluster::start(&program)?),
            Kind::Pair => {
                let pair = Pair::start(&program)?;
                let haproxy = required_path("OIDC_GATE_HAPROXY")?;
                let front = HaProxy::start(&haproxy, &pair.ports(), pair.password())?;
                Self::Pair(Box::new(pair), front)
            }
        })
    }

    /// Configures an Envoy to use this store.
    pub(crate) fn configure(&self, config: EnvoyConfig) -> EnvoyConfig {
        let at = |port| config.clone().cluster("redis", "127.0.0.1", port);
        match self {
            Self::Redis(redis) => at(redis.port()),
            Self::Proxied(_, proxy) => at(proxy.port()),
            Self::Fake(fake, _) => at(fake.port()).without_health_check("redis"),
            Self::Tls(redis, authority) => {
                let username = redis.account().map(|account| account.username.clone()).unwrap_or_default();
                at(redis.port()).redis_tls(authority.certificate(), &username)
            }
            Self::Cluster(cluster) => {
                let ports: Vec<u16> = cluster.nodes().iter().map(Redis::port).collect();
                config.redis_cluster(&ports)
            }
            Self::Pair(_, front) => at(front.port()),
        }
    }

    /// The password for the gate.
    pub(crate) fn password(&self) -> &str {
        match self {
            Self::Redis(redis) | Self::Proxied(redis, _) => redis.password(),
            Self::Fake(_, password) => password,
            Self::Tls(redis, _) => redis.account().map_or(redis.password(), |account| &account.password),
            Self::Cluster(cluster) => cluster.password(),
            Self::Pair(pair, _) => pair.password(),
        }
    }

    /// Stops the store before Envoy starts. It must be a single real Redis.
    pub(crate) fn stop(&self) {
        match self {
            Self::Redis(redis) | Self::Proxied(redis, _) | Self::Tls(redis, _) => redis.stop(),
            _ => panic!("only a single real Redis can be away at the start"),
        }
    }
}
