//! A complete gate: Envoys with the shipped configuration and the filter, Redis, a provider, an application.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use oidc_gate_testkit::balancer::Balancer;
use oidc_gate_testkit::browser::{Client, Journey, Request};
use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::envoy::{Envoy, Launch};
use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::process::{Trouble, wait_until};
use oidc_gate_testkit::provider::Provider;
use oidc_gate_testkit::redis::{Cluster, FakeRedis, Pair, Proxy, Redis};
use tempfile::TempDir;

use crate::builder::Builder;
use crate::everywhere::{BOUND, wait_for_age};
use crate::oracle;
use crate::secrets::Secrets;
use crate::store::Store;

/// The name of the session cookie if the public URL is `http://localhost`.
const SESSION_COOKIE: &str = "oidc-gate";
/// The user for the check that workers live. It is separate from the tests' users, so neither affects the other's
/// sessions.
pub(crate) const CANARY: &str = "canary";
/// How long Envoy may take to find Redis healthy. Health checks are seconds apart.
pub(crate) const HEALTHY: Duration = Duration::from_secs(10);

/// A running gate. When it is dropped, it searches all logs of Envoy, including the access log, for every secret of the
/// test, and checks the counters of the Wasm host. No test can forget these checks.
#[derive(Debug)]
pub struct Gate {
    pub(crate) store: Store,
    /// The OpenID provider.
    pub provider: Provider,
    /// The application.
    pub echo: Echo,
    /// The configuration of the first Envoy.
    pub config: EnvoyConfig,
    pub(crate) nodes: Vec<Node>,
    pub(crate) port: u16,
    pub(crate) secret_key: String,
    pub(crate) planted: Mutex<Vec<String>>,
    /// Logs of Envoys that were stopped during the test.
    pub(crate) ended: Vec<String>,
    pub(crate) _balancer: Option<Balancer>,
    pub(crate) _listeners: TempDir,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub launch: Launch,
    pub port: u16,
    pub envoy: Option<Envoy>,
}

impl Gate {
    /// Starts a gate with the shipped configuration and two workers.
    ///
    /// # Panics
    /// If something does not start.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A gate with the shipped configuration, and a browser that has signed in as `mlflow_user`.
    ///
    /// # Panics
    /// If something does not start.
    pub fn with_browser() -> (Self, Client) {
        let gate = Self::start();
        let browser = gate.signed_in("mlflow_user");
        (gate, browser)
    }

    /// A gate that can be changed before it starts.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The public URL of a path.
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

    /// The URL of a path at one Envoy, without the load balancer.
    ///
    /// # Panics
    /// If there is no such Envoy.
    pub fn url_at(&self, envoy: usize, path: &str) -> String {
        format!("http://localhost:{}{path}", self.node(envoy).port)
    }

    /// The first Envoy that is running.
    ///
    /// # Panics
    /// If none is running.
    pub fn envoy(&self) -> &Envoy {
        match self.envoys().next() {
            Some((_, envoy)) => envoy,
            None => panic!("no Envoy of this gate runs"),
        }
    }

    /// One of several Envoys.
    ///
    /// # Panics
    /// If it is not running.
    pub fn envoy_at(&self, number: usize) -> &Envoy {
        match &self.node(number).envoy {
            Some(envoy) => envoy,
            None => panic!("Envoy {number} does not run"),
        }
    }

    /// The running Envoys with their numbers.
    pub fn envoys(&self) -> impl Iterator<Item = (usize, &Envoy)> {
        self.nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.envoy.as_ref()?)))
    }

    /// Kills an Envoy (SIGKILL), whatever it is doing.
    ///
    /// # Panics
    /// If it is not running, or its filter has failed before.
    pub fn kill_envoy(&mut self, number: usize) {
        let Some(envoy) = self.node_mut(number).envoy.take() else { panic!("Envoy {number} does not run") };
        let incidents = oracle::incidents(&envoy);
        let log = envoy.kill();
        assert!(incidents.is_none(), "the filter failed in Envoy {number}: {incidents:?}\n{log}");
        self.ended.push(log);
    }

    /// Sets an environment variable for every Envoy that is started from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        for node in &mut self.nodes {
            node.launch.environment.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Starts a stopped Envoy again.
    ///
    /// # Panics
    /// If it does not start. The message has the end of its log.
    pub fn start_envoy(&mut self, number: usize) {
        let started = self.try_start_envoy(number);
        let started = started.and_then(|()| self.envoy_at(number).wait_for_healthy("redis", HEALTHY));
        started.unwrap_or_else(|trouble| panic!("{trouble}"));
    }

    /// Starts a stopped Envoy again while Redis is unreachable.
    ///
    /// # Panics
    /// If it does not start. The message has the end of its log.
    pub fn start_envoy_without_redis(&mut self, number: usize) {
        self.try_start_envoy(number).unwrap_or_else(|trouble| panic!("{trouble}"));
    }

    pub(crate) fn try_start_envoy(&mut self, number: usize) -> Result<(), Trouble> {
        let node = self.node_mut(number);
        node.envoy = Some(Envoy::start(node.launch.clone())?);
        Ok(())
    }

    fn node(&self, number: usize) -> &Node {
        match self.nodes.get(number) {
            Some(node) => node,
            None => panic!("this gate has no Envoy {number}"),
        }
    }

    fn node_mut(&mut self, number: usize) -> &mut Node {
        match self.nodes.get_mut(number) {
            Some(node) => node,
            None => panic!("this gate has no Envoy {number}"),
        }
    }

    /// The real Redis, also if there is a proxy in front of it.
    ///
    /// # Panics
    /// If the gate uses another store.
    pub fn redis(&self) -> &Redis {
        self.store.redis.as_ref().expect("this gate has a single real Redis")
    }

    /// The proxy in front of Redis.
    ///
    /// # Panics
    /// If the gate has none.
    pub fn redis_proxy(&self) -> &Proxy {
        self.store.proxy.as_ref().expect("this gate has a proxy in front of Redis")
    }

    /// The fake Redis.
    ///
    /// # Panics
    /// If the gate uses a real one.
    pub fn fake_redis(&self) -> &FakeRedis {
        self.store.fake.as_ref().expect("this gate has a fake Redis")
    }

    /// The Redis Cluster.
    ///
    /// # Panics
    /// If the gate has none.
    pub fn redis_cluster(&self) -> &Cluster {
        self.store.cluster.as_ref().expect("this gate has a Redis Cluster")
    }

    /// The primary and its replica.
    ///
    /// # Panics
    /// If the gate has none.
    pub fn redis_pair(&self) -> &Pair {
        self.store.pair.as_ref().expect("this gate has a replicated Redis")
    }

    /// A browser that has signed in as this user and shows the application's start page.
    ///
    /// # Panics
    /// If the login fails.
    pub fn signed_in(&self, username: &str) -> Client {
        let client = Client::new();
        self.sign_in(&client, username, "/");
        client
    }

    /// Like [`Gate::signed_in`], and returns the `sid` of the new session at the provider.
    ///
    /// # Panics
    /// If the login fails.
    pub fn signed_in_with_sid(&self, username: &str) -> (Client, String) {
        let before = self.provider.sessions_of(username);
        let client = self.signed_in(username);
        let mut new = self.provider.sessions_of(username);
        new.retain(|session| !before.iter().any(|known| known.sid == session.sid));
        match new.as_slice() {
            [session] => (client, session.sid.clone()),
            _ => panic!("signing in began no single session at the provider: {new:?}"),
        }
    }

    /// A browser whose access token has expired after this many seconds. The token from a refresh is valid for long. If
    /// signing in was slow, the first token may have been refreshed already.
    ///
    /// # Panics
    /// If the login fails.
    pub fn signed_in_and_expired(&self, username: &str, seconds: u32) -> Client {
        self.provider.settings(|settings| settings.access_token_lifespan = seconds.into());
        let browser = self.signed_in(username);
        let signed_in = Instant::now();
        self.provider.settings(|settings| settings.access_token_lifespan = 300);
        wait_for_age(signed_in, Duration::from_secs((seconds + 1).into()));
        browser
    }

    /// Signs a browser in as this user by opening `path`. Afterwards the provider asks for passwords again.
    ///
    /// # Panics
    /// If the login does not end with the application's response to `path`.
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

    /// Starts a login by opening `path` and signs in at the provider. Returns the URL of the callback, which is not
    /// opened.
    ///
    /// # Panics
    /// If the provider does not redirect the browser back.
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

    /// A new browser that has signed in at the provider, and the URL of its callback, as [`Gate::callback_of`].
    ///
    /// # Panics
    /// As [`Gate::callback_of`].
    pub fn at_callback(&self, username: &str, path: &str) -> (Client, String) {
        let client = Client::new();
        let callback = self.callback_of(&client, username, path);
        (client, callback)
    }

    /// The session cookie of a browser.
    pub fn session_cookie(&self, client: &Client) -> Option<String> {
        client.jar().get(SESSION_COOKIE)
    }

    /// A browser that sends this as its session cookie, as a thief does.
    pub fn browser_with(&self, session: &str) -> Client {
        let client = Client::new();
        client.jar().plant("localhost", SESSION_COOKIE, session);
        client
    }

    /// The session cookie of a browser, as it stands in a Cookie header.
    ///
    /// # Panics
    /// If it has none.
    pub fn cookie_header(&self, client: &Client) -> String {
        match self.session_cookie(client) {
            Some(session) => format!("{SESSION_COOKIE}={session}"),
            None => panic!("this browser has no session"),
        }
    }

    /// The names of the login cookies of a browser.
    pub fn login_cookies(&self, client: &Client) -> Vec<String> {
        let jar = client.jar();
        let names = jar.names().into_iter().filter(|name| name.starts_with("oidc-gate-login-"));
        names.map(str::to_owned).collect()
    }

    /// Signs out as with the button of the application, and follows all redirects.
    ///
    /// # Panics
    /// If that does not end with the gate's page about it.
    pub fn sign_out(&self, client: &Client) -> Journey {
        let response = client.submit(&self.url("/oauth2/logout"), &[]);
        let journey = response.and_then(|response| client.follow(response));
        let journey = journey.unwrap_or_else(|trouble| panic!("{trouble}"));
        let end = journey.end();
        assert!(
            end.status == 200 && end.url.starts_with(&self.url("/oauth2/signed-out")),
            "signing out ends elsewhere: {:#?}\n{end}\n{}",
            journey.urls(),
            self.envoy().trouble("is asked what happened")
        );
        journey
    }

    /// A request of a script with this access token.
    pub fn with_token(&self, path: &str, token: &str) -> Request {
        Client::new().request("GET", &self.url(path)).bearer(token)
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not hold within 20 s. `does_not_do_it` completes the sentence "Envoy …". The message has the end of
    /// the log.
    #[track_caller]
    pub fn wait_until(&self, does_not_do_it: &str, condition: impl FnMut() -> bool) {
        self.wait_until_within(BOUND, does_not_do_it, condition);
    }

    /// Like [`Gate::wait_until`], with another time limit.
    ///
    /// # Panics
    /// As [`Gate::wait_until`].
    #[track_caller]
    pub fn wait_until_within(&self, bound: Duration, does_not_do_it: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(bound, condition), "{}", self.envoy().trouble(does_not_do_it));
    }

    /// Waits until the provider's clock, in whole seconds, shows a later second than this one.
    pub fn wait_for_second_after(&self, second: i64) {
        wait_until(BOUND, || self.provider.now() > second);
    }

    /// The session cookie's name.
    pub fn session_cookie_name(&self) -> &'static str {
        SESSION_COOKIE
    }

    /// Adds a text that must not appear in any log or response.
    pub fn plant_secret(&self, secret: &str) {
        self.planted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(secret.to_owned());
    }

    /// The first secret of this test in `text`, with its encoding.
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
        let envoys: Vec<Envoy> = self.nodes.iter_mut().filter_map(|node| node.envoy.take()).collect();
        if std::thread::panicking() {
            return;
        }
        let incidents: Vec<String> = envoys.iter().filter_map(oracle::incidents).collect();
        // Envoy writes the rest of its access log when it stops.
        self.ended.extend(envoys.into_iter().map(Envoy::stop));
        let log = self.ended.join("\n");
        if let Some(leak) = self.find_secret_in(&log) {
            panic!("Envoy's log shows {leak}:\n{log}");
        }
        assert!(incidents.is_empty(), "the filter failed in Envoy: {incidents:?}\n{log}");
    }
}
