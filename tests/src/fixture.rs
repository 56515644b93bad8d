//! A whole gate: Envoy with the shipped configuration and the filter, Redis, a provider, an application.

use std::sync::Mutex;
use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::envoy::{Envoy, Launch};
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::process::{Trouble, free_port, required_path};
use oidc_gate_testkit::provider::{Provider, Setup, random_text};
use oidc_gate_testkit::redis::{FakeRedis, Redis, Script};
use serde_json::Value;
use tempfile::TempDir;

use crate::oracle;
use crate::secrets::Secrets;

/// The session cookie's name behind a public URL of `http://localhost`.
const SESSION_COOKIE: &str = "oidc-gate";

/// A running gate. When it goes out of scope it looks through Envoy's whole log, access log included, for every secret
/// of the test, and at the counters of the Wasm host: no test can forget to.
#[derive(Debug)]
pub struct Gate {
    /// Envoy with the filter.
    pub envoy: Option<Envoy>,
    /// The sessions.
    pub store: SessionStore,
    /// The OpenID provider.
    pub provider: Provider,
    /// The application.
    pub echo: Echo,
    /// What Envoy was started with.
    pub config: EnvoyConfig,
    port: u16,
    secret_key: String,
    planted: Mutex<Vec<String>>,
    _listeners: TempDir,
}

/// Where the sessions are.
#[derive(Debug)]
pub enum SessionStore {
    /// A Redis that works.
    Redis(Redis),
    /// One that does what it is told.
    Fake(FakeRedis),
}

type PrepareProvider = Box<dyn FnOnce(&Provider)>;
type EditConfig = Box<dyn FnOnce(EnvoyConfig) -> EnvoyConfig>;

/// A gate about to be started.
pub struct Builder {
    workers: u32,
    edits: Vec<EditConfig>,
    environment: Vec<(String, String)>,
    fake_redis: Option<Script>,
    before: Vec<PrepareProvider>,
    replaceable: bool,
}

impl Builder {
    /// How many workers Envoy has (2 unless told, so that no test passes because there is only one).
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Edits the filter's configuration.
    #[must_use]
    pub fn plugin(mut self, edit: impl FnOnce(&mut Value) + 'static) -> Self {
        self.edits.push(Box::new(|config| config.plugin(edit)));
        self
    }

    /// Edits Envoy's configuration.
    #[must_use]
    pub fn envoy(mut self, edit: impl FnOnce(EnvoyConfig) -> EnvoyConfig + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Sets a variable of Envoy's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A fake in the place of Redis, without the health check that would notice.
    #[must_use]
    pub fn fake_redis(mut self, script: Script) -> Self {
        self.fake_redis = Some(script);
        self
    }

    /// Does something to the provider before Envoy starts.
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

    /// Starts everything.
    ///
    /// # Panics
    /// When something does not start; with the tail of its log.
    pub fn start(self) -> Gate {
        match self.try_start() {
            Ok(gate) => gate,
            Err(trouble) => panic!("{trouble}"),
        }
    }

    /// Starts everything.
    ///
    /// # Errors
    /// Something does not start; with the tail of its log.
    pub fn try_start(self) -> Result<Gate, Trouble> {
        let program = required_path("OIDC_GATE_ENVOY")?;
        let wasm = required_path("OIDC_GATE_WASM")?;
        let redis_server = required_path("OIDC_GATE_REDIS")?;
        let port = free_port();
        let public_url = format!("http://localhost:{port}");
        let provider = Provider::start(Setup::for_gate(&public_url))?;
        for prepare in self.before {
            prepare(&provider);
        }
        let echo = Echo::start()?;
        let fake = self.fake_redis.is_some();
        let store = match self.fake_redis {
            Some(script) => SessionStore::Fake(FakeRedis::start(script)?),
            None => SessionStore::Redis(Redis::start(&redis_server)?),
        };
        let (redis_port, redis_password) = match &store {
            SessionStore::Redis(redis) => (redis.port(), redis.password().to_owned()),
            SessionStore::Fake(fake) => (fake.port(), format!("fake-{}", random_text(24))),
        };
        let mut config = EnvoyConfig::shipped()?
            .listener_port(port)
            .cluster("mlflow", "127.0.0.1", echo.port())
            .cluster("keycloak", "127.0.0.1", provider.port())
            .cluster("redis", "127.0.0.1", redis_port)
            .wasm(&wasm);
        if fake {
            config = config.without_health_check("redis");
        }
        let listeners = TempDir::new()?;
        if self.replaceable {
            config = config.with_lds(listeners.path());
        }
        for edit in self.edits {
            config = edit(config);
        }
        let secret_key = random_text(48);
        let mut launch = Launch::new(&program, config.clone())
            .workers(self.workers)
            // CF01: what the filter says at its most talkative must be free of secrets too.
            .component_log_level("wasm:debug")
            .env("SECRET_KEY", &secret_key)
            .env("OIDC_CLIENT_SECRET", provider.client_secret())
            .env("REDIS_PASSWORD", &redis_password)
            .env("MLFLOW_PUBLIC_URL", &public_url)
            .env("OIDC_ISSUER_URL", &provider.issuer());
        for (name, value) in &self.environment {
            launch = launch.env(name, value);
        }
        let planted = Mutex::new(vec![redis_password]);
        let envoy = Envoy::start(launch)?;
        envoy.wait_for_healthy("redis", Duration::from_secs(10))?;
        let envoy = Some(envoy);
        Ok(Gate { envoy, store, provider, echo, config, port, secret_key, planted, _listeners: listeners })
    }
}

impl Gate {
    /// A gate as it is shipped, with two workers.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A gate to be changed before it starts.
    pub fn builder() -> Builder {
        Builder {
            workers: 2,
            edits: Vec::new(),
            environment: Vec::new(),
            fake_redis: None,
            before: Vec::new(),
            replaceable: false,
        }
    }

    /// The public address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// The public origin.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The public port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Envoy.
    ///
    /// # Panics
    /// Never before the gate is dropped.
    pub fn envoy(&self) -> &Envoy {
        match &self.envoy {
            Some(envoy) => envoy,
            None => unreachable!("Envoy lives as long as the gate"),
        }
    }

    /// The real Redis.
    ///
    /// # Panics
    /// When the gate was built with a fake one.
    pub fn redis(&mut self) -> &mut Redis {
        match &mut self.store {
            SessionStore::Redis(redis) => redis,
            SessionStore::Fake(_) => panic!("this gate has a fake Redis"),
        }
    }

    /// A browser that has signed in as that user and is on the application's first page.
    ///
    /// # Panics
    /// When the login does not get there.
    pub fn signed_in(&self, username: &str) -> Client {
        let client = Client::new();
        self.sign_in(&client, username, "/");
        client
    }

    /// Signs a browser in as that user, by opening `path`; the provider goes back to asking for a password.
    ///
    /// # Panics
    /// When the login does not end with the application's answer to `path`.
    pub fn sign_in(&self, client: &Client, username: &str, path: &str) {
        self.provider.sign_in_as(username);
        let journey = client.visit(&self.url(path)).unwrap_or_else(|trouble| panic!("{trouble}"));
        self.provider.ask_for_password();
        let session = self.session_cookie(client);
        assert!(session.is_some(), "signing in leaves no session: {:#?}\n{}", journey.urls(), journey.end());
        self.planted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(session);
        let end = journey.end();
        assert!(
            end.status == 200 && end.url == self.url(path),
            "signing in ends elsewhere: {:#?}\n{end}\n{}",
            journey.urls(),
            self.envoy().trouble("is asked what happened")
        );
    }

    /// Begins a login by opening `path` and signs in at the provider; the address of the callback, not yet visited.
    ///
    /// # Panics
    /// When the provider does not send the browser back.
    pub fn callback_of(&self, client: &Client, username: &str, path: &str) -> String {
        self.provider.sign_in_as(username);
        let to_provider = client.navigate(&self.url(path)).unwrap_or_else(|trouble| panic!("{trouble}"));
        let Some(authorize) = to_provider.redirect_target() else {
            panic!("no redirect to login: {to_provider}")
        };
        let back = client.navigate(&authorize).unwrap_or_else(|trouble| panic!("{trouble}"));
        self.provider.ask_for_password();
        match back.redirect_target() {
            Some(callback) if callback.starts_with(&self.url("/oauth2/callback")) => callback,
            _ => panic!("the provider does not send the browser back: {back}"),
        }
    }

    /// The session cookie of a browser.
    pub fn session_cookie(&self, client: &Client) -> Option<String> {
        client.jar().get(SESSION_COOKIE).map(|cookie| cookie.value.clone())
    }

    /// The session cookie's name.
    pub fn session_cookie_name(&self) -> &'static str {
        SESSION_COOKIE
    }

    /// From now on this text may appear nowhere.
    pub fn plant_secret(&self, secret: &str) {
        self.planted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(secret.to_owned());
    }

    /// A secret of this test that `text` shows, and in which form.
    pub fn find_secret_in(&self, text: &str) -> Option<String> {
        self.secrets().find_in(text)
    }

    fn secrets(&self) -> Secrets {
        let mut all = self.provider.secrets();
        all.push(self.secret_key.clone());
        all.extend(self.planted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().cloned());
        Secrets::new(all)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let Some(envoy) = self.envoy.take() else { return };
        if std::thread::panicking() {
            return;
        }
        let incidents = oracle::incidents(&envoy);
        // Envoy writes its access log out when it ends.
        let log = envoy.stop();
        if let Some(leak) = self.find_secret_in(&log) {
            panic!("Envoy's log shows {leak}:\n{log}");
        }
        assert!(incidents.is_none(), "the filter failed in Envoy: {incidents:?}\n{log}");
    }
}
