//! The settings of a gate before it starts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use oidc_gate_testkit::balancer::Balancer;
use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::envoy::Launch;
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::process::{Trouble, free_port, required_path};
use oidc_gate_testkit::provider::{Provider, Setup, User, random_text};
use oidc_gate_testkit::redis::Script;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{CANARY, Gate, HEALTHY, Node};
use crate::store::{Kind, Store};

type PrepareProvider = Box<dyn FnOnce(&Provider)>;
type EditConfig = Box<dyn FnOnce(EnvoyConfig) -> EnvoyConfig>;

/// A gate that has not been started.
pub struct Builder {
    envoys: usize,
    workers: u32,
    edits: Vec<EditConfig>,
    environment: Vec<(String, String)>,
    store: Kind,
    before: Vec<PrepareProvider>,
    replaceable: bool,
    redis_away: bool,
    scheme: &'static str,
    filter_log: &'static str,
    preset: bool,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            envoys: 1,
            workers: 2,
            edits: Vec::new(),
            environment: Vec::new(),
            store: Kind::Redis,
            before: Vec::new(),
            replaceable: false,
            redis_away: false,
            scheme: "http",
            // CF01: even at the most verbose level, the filter's log must contain no secrets.
            filter_log: "wasm:debug",
            preset: false,
        }
    }

    /// Sets the number of Envoys (default 1). Several Envoys get a load balancer at the public address;
    /// [`Gate::url_at`] reaches a single one.
    #[must_use]
    pub fn envoys(mut self, envoys: usize) -> Self {
        self.envoys = envoys;
        self
    }

    /// Sets the number of workers of each Envoy. The default is 2, so that no test passes only because there is a
    /// single worker.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Changes the filter's configuration.
    #[must_use]
    pub fn plugin(self, edit: impl FnOnce(&mut Value) + 'static) -> Self {
        self.envoy(|config| config.plugin(edit))
    }

    /// Sets a member of the filter's configuration by its path, such as `session.cache_ttl`.
    #[must_use]
    pub fn set(self, path: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.envoy(move |config| config.set(path, value))
    }

    /// Changes Envoy's configuration.
    #[must_use]
    pub fn envoy(mut self, edit: impl FnOnce(EnvoyConfig) -> EnvoyConfig + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Sets an environment variable of Envoy.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces Redis by a fake. Removes the health check, which would detect it.
    #[must_use]
    pub fn fake_redis(mut self, script: Script) -> Self {
        self.store = Kind::Fake(script);
        self
    }

    /// Puts a proxy in front of Redis that can corrupt its replies ([`Gate::redis_proxy`]).
    #[must_use]
    pub fn redis_proxy(mut self) -> Self {
        self.store = Kind::Proxied;
        self
    }

    /// Uses a Redis that requires TLS and an ACL user.
    #[must_use]
    pub fn redis_tls(mut self) -> Self {
        self.store = Kind::Tls;
        self
    }

    /// Uses a Redis Cluster with three nodes ([`Gate::redis_cluster`]).
    #[must_use]
    pub fn redis_cluster(mut self) -> Self {
        self.store = Kind::Cluster;
        self
    }

    /// Uses a primary and a replica behind HAProxy ([`Gate::redis_pair`]).
    #[must_use]
    pub fn redis_pair(mut self) -> Self {
        self.store = Kind::Pair;
        self
    }

    /// Configures gate and provider for browsers that use TLS. [`Builder::envoy`] must give the listener TLS, which the
    /// test kit's clients do not support.
    #[must_use]
    pub fn public_https(mut self) -> Self {
        self.scheme = "https";
        self
    }

    /// Lets Envoy and the filter log only errors, for tests that would log too much.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.filter_log = "wasm:warn";
        self.envoy(|config| config.manager(|manager| manager["access_log"] = json!([])))
    }

    /// Starts Envoy while Redis is stopped.
    #[must_use]
    pub fn without_redis(mut self) -> Self {
        self.redis_away = true;
        self
    }

    /// Prepares the provider before Envoy starts.
    #[must_use]
    pub fn provider(mut self, prepare: impl FnOnce(&Provider) + 'static) -> Self {
        self.before.push(Box::new(prepare));
        self
    }

    /// Lets the test push another listener to the running Envoy.
    #[must_use]
    pub fn replaceable(mut self) -> Self {
        self.replaceable = true;
        self
    }

    /// Keeps the preset for MLflow, which knows none of the paths of the echo application.
    #[must_use]
    pub fn mlflow_preset(mut self) -> Self {
        self.preset = true;
        self
    }

    /// Starts everything.
    ///
    /// # Panics
    /// If something does not start. The message has the end of its log.
    pub fn start(self) -> Gate {
        match self.try_start() {
            Ok(gate) => gate,
            Err(trouble) => panic!("{trouble}"),
        }
    }

    /// Starts everything.
    ///
    /// # Errors
    /// Something does not start. Contains the end of its log.
    pub fn try_start(self) -> Result<Gate, Trouble> {
        let program = required_path("OIDC_GATE_ENVOY")?;
        let wasm = required_path("OIDC_GATE_WASM")?;
        let port = free_port();
        let public_url = format!("{}://localhost:{port}", self.scheme);
        let provider = Provider::start(Setup::for_gate(&public_url))?;
        provider.add_user(User::new(CANARY, &["/mlflow_users"]));
        for prepare in self.before {
            prepare(&provider);
        }
        let echo = Echo::start()?;
        let store = Store::start(self.store)?;
        if self.redis_away {
            store.redis.as_ref().expect("a single real Redis can be away at the start").stop();
        }
        let config = EnvoyConfig::shipped()?
            .cluster("mlflow", "127.0.0.1", echo.port())
            .cluster("keycloak", "127.0.0.1", provider.port())
            .wasm(&wasm);
        // The tests look at redirects. The ones of the page that keeps the fragment switch it on.
        let mut config = store.configure(config).set("login.keep_fragment", false);
        config = if self.preset { config.plugin(with_canary) } else { config.without_mlflow_preset() };
        let listeners = TempDir::new()?;
        if self.replaceable {
            config = config.with_lds(listeners.path());
        }
        for edit in self.edits {
            config = edit(config);
        }
        let secret_key = random_text(48);
        let assertion_key = random_text(48);
        let planted = Mutex::new(vec![store.password.clone(), assertion_key.clone()]);
        let ports: Vec<u16> = match self.envoys {
            1 => vec![port],
            envoys => (0..envoys).map(|_| free_port()).collect(),
        };
        let balancer = (self.envoys != 1).then(|| Balancer::start(port, ports.clone())).transpose()?;
        let variables = [
            ("SECRET_KEY", secret_key.as_str()),
            ("OIDC_CLIENT_SECRET", provider.client_secret()),
            ("REDIS_PASSWORD", &store.password),
            ("ASSERTION_KEYS", &assertion_key),
            ("MLFLOW_PUBLIC_URL", &public_url),
            ("OIDC_ISSUER_URL", &provider.issuer()),
        ];
        let mut environment = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>();
        environment.extend(self.environment);
        let mut nodes = Vec::new();
        for node_port in ports {
            let launch = Launch {
                program: program.clone(),
                config: config.clone().listener_port(node_port),
                workers: self.workers,
                environment: environment.clone(),
                component_log_level: self.filter_log,
            };
            nodes.push(Node { launch, port: node_port, envoy: None });
        }
        let config = config.listener_port(nodes.first().map_or(port, |node| node.port));
        let mut gate = Gate {
            store,
            provider,
            echo,
            config,
            nodes,
            port,
            secret_key,
            planted,
            ended: Vec::new(),
            _balancer: balancer,
            _listeners: listeners,
        };
        for number in 0..gate.nodes.len() {
            gate.try_start_envoy(number)?;
            if !self.redis_away {
                gate.envoy_at(number).wait_for_healthy("redis", HEALTHY)?;
            }
        }
        Ok(gate)
    }
}

/// The shipped policy, and a rule for the path that shows whether workers live.
fn with_canary(plugin: &mut Value) {
    plugin["policy"]["rules"] = json!([{"path": {"exact": "/canary"}, "access": "users"}]);
}
