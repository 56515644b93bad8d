//! A gate with everything around it, in memory, and a browser in front of it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::TestHost;
pub use super::config::config;
use super::provider::{ISSUER, MemoryProvider};
use super::redis::MemoryRedis;
use crate::caller::Caller;
use crate::config::Config;
use crate::gate::{Decision, Gate};
use crate::host::{Counter, Host as _};
use crate::http::body::Body;
use crate::http::reply::Reply;

pub struct World {
    pub host: Rc<TestHost>,
    pub redis: Rc<MemoryRedis>,
    pub provider: Rc<MemoryProvider>,
    pub gate: RefCell<Rc<Gate>>,
    pub config: Config,
    pub cookies: RefCell<BTreeMap<String, String>>,
    /// The address that its requests come from.
    pub caller: Cell<Caller>,
    /// The `:authority` of its requests.
    pub authority: Cell<&'static str>,
}

/// The headers of a browser that follows a link.
pub const NAVIGATION: &[(&str, &str)] = &[("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate")];

/// The headers of a browser that submits a form on the gate's own pages.
pub const OWN_FORM: &[(&str, &str)] =
    &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Config) -> Self {
        let host = TestHost::new();
        let provider = MemoryProvider::new(host.now().as_secs());
        Self::around(host, MemoryRedis::new(), provider, config)
    }

    /// With the usual configuration after `change`.
    pub fn changed(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::with(config)
    }

    /// With a browser that is signed in.
    pub fn signed_in() -> Self {
        let world = Self::new();
        world.log_in("/");
        world
    }

    /// The same world with the cookies of another one's browser.
    pub fn with_cookies_of(self, other: &Self) -> Self {
        self.cookies.replace(other.cookies.borrow().clone());
        self
    }

    /// Another Envoy with the same configuration, Redis and provider, at the same time.
    pub fn other_envoy(&self) -> Self {
        let host = TestHost::new();
        host.advance(self.host.now().duration_since(host.now()));
        Self::around(host, self.redis.clone(), self.provider.clone(), self.config.clone())
    }

    /// Another worker of the same Envoy.
    pub fn other_worker(&self) -> Self {
        Self::around(self.host.clone(), self.redis.clone(), self.provider.clone(), self.config.clone())
    }

    fn around(
        host: Rc<TestHost>,
        redis: Rc<MemoryRedis>,
        provider: Rc<MemoryProvider>,
        config: Config,
    ) -> Self {
        let (r, p) = (redis.clone(), provider.clone());
        let [clock, other_clock] = [(); 2].map(|()| Rc::downgrade(&host));
        host.on("redis", move |callout| r.answer(callout, clock.upgrade().unwrap().now().as_millis()));
        host.on("keycloak", move |callout| p.answer(callout, other_clock.upgrade().unwrap().now().as_secs()));
        let gate = Gate::new(config.clone(), host.clone());
        gate.background();
        Self {
            host,
            redis,
            provider,
            gate: RefCell::new(gate),
            config,
            cookies: RefCell::default(),
            caller: Cell::default(),
            authority: Cell::new("mlflow.example"),
        }
    }

    /// The same worker with another configuration.
    pub fn replace_gate(&self, config: Config) {
        let gate = Gate::new(config, self.host.clone());
        gate.background();
        self.gate.replace(gate);
    }

    pub fn now(&self) -> u64 {
        self.host.now().as_secs()
    }

    /// Sends a request without cookies.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Decision {
        self.send_with(method, target, headers, Body::none())
    }

    /// Sends a request with a body.
    pub fn send_with(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body) -> Decision {
        let gate = self.gate.borrow().clone();
        self.host.run(gate.decide(self.head(method, target, headers), body, self.caller.get()))
    }

    /// Sends a request with this bearer token.
    pub fn present(&self, token: &str) -> Decision {
        self.send("GET", "/", &[("authorization", &format!("Bearer {token}"))])
    }

    /// Sends a request with an access token after these changes of its claims.
    pub fn bearer(&self, changes: Value) -> Decision {
        self.present(&self.provider.access_token(self.now(), changes))
    }

    /// Whether an API client's request with the browser's cookies is forwarded.
    pub fn is_in(&self) -> bool {
        matches!(self.browse("GET", "/", &[("accept", "*/*")]), Decision::Forward { .. })
    }

    /// The status of the reply to an API client's request with the browser's cookies.
    pub fn status(&self) -> u16 {
        replied(self.browse("GET", "/", &[("accept", "*/*")])).status
    }

    /// Presses the sign-out button.
    pub fn sign_out(&self) -> Reply {
        replied(self.browse("POST", "/oauth2/logout", OWN_FORM))
    }

    /// Lets time pass while jobs run.
    pub fn sleep(&self, duration: Duration) {
        self.host.run(self.host.clone().sleep_for(duration));
    }

    /// The number of sessions in Redis.
    pub fn sessions(&self) -> usize {
        self.redis.keys().iter().filter(|key| key.contains(":s:")).count()
    }

    /// How many log lines contain this text.
    pub fn said(&self, what: &str) -> usize {
        self.host.log_lines().iter().filter(|line| line.contains(what)).count()
    }

    /// The request headers, as Envoy passes them on.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        let mut all = vec![(":method", method), (":path", target), (":authority", self.authority.get())];
        all.extend_from_slice(headers);
        all.into_iter().map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec())).collect()
    }

    /// Sends a request as the browser and stores the cookies of the reply.
    pub fn browse(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Decision {
        let cookies: Vec<String> = self.cookies.borrow().iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cookies = cookies.join("; ");
        let mut all = headers.to_vec();
        if !cookies.is_empty() {
            all.push(("cookie", &cookies));
        }
        let decision = self.send(method, target, &all);
        if let Decision::Reply { reply, .. } = &decision {
            for (_, cookie) in reply.headers.iter().filter(|(name, _)| *name == "set-cookie") {
                let (name, rest) = cookie.split_once('=').unwrap();
                let value = rest.split(';').next().unwrap();
                match value {
                    "" => self.cookies.borrow_mut().remove(name),
                    value => self.cookies.borrow_mut().insert(name.into(), value.into()),
                };
            }
        }
        decision
    }

    pub fn navigate(&self, target: &str) -> Decision {
        self.browse("GET", target, NAVIGATION)
    }

    /// Requests a page, which redirects to the provider. Returns the parameters of the authorization request.
    pub fn begin_login(&self, target: &str) -> BTreeMap<String, String> {
        let reply = replied(self.navigate(target));
        assert_eq!(reply.status, 302, "{reply:?}");
        let location = Url::parse(header(&reply, "location").unwrap()).unwrap();
        location.query_pairs().into_owned().collect()
    }

    /// Sends the provider's response to an authorization request.
    pub fn finish_login(&self, request: &BTreeMap<String, String>, code: &str) -> Decision {
        self.provider.id_token.borrow_mut()["nonce"] = request["nonce"].clone().into();
        self.navigate(&callback(&request["state"], code))
    }

    /// Completes a login that must succeed. Returns where it redirected to.
    pub fn log_in(&self, target: &str) -> String {
        let request = self.begin_login(target);
        let reply = replied(self.finish_login(&request, &format!("code-{}", &request["state"])));
        assert_eq!(reply.status, 303, "{reply:?} {:#?}", self.host.log_lines());
        header(&reply, "location").unwrap().to_owned()
    }
}

/// Helpers that only tests of the gate need.
impl TestHost {
    pub fn now_millis(&self) -> u64 {
        self.now.get().as_millis()
    }

    pub fn log_lines(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Runs `work` after a pause.
    pub fn spawn_after(self: &Rc<Self>, pause: Duration, work: impl FnOnce() + 'static) {
        let sleep = self.sleep(pause);
        self.spawn(Box::pin(async move {
            sleep.await;
            work();
        }));
    }

    /// The value of a counter.
    pub fn counted(&self, Counter(place): Counter) -> u64 {
        self.counts.borrow().get(&place).copied().unwrap_or_default()
    }
}

pub fn callback(state: &str, code: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("state", state)
        .append_pair("code", code)
        .append_pair("iss", ISSUER)
        .append_pair("session_state", "x")
        .finish();
    format!("/oauth2/callback?{query}")
}

/// The reason of a refusal that is not named after a rule.
pub fn label(reason: Cow<'static, str>) -> &'static str {
    match reason {
        Cow::Borrowed(label) => label,
        Cow::Owned(reason) => panic!("a rule's: {reason}"),
    }
}

pub fn replied(decision: Decision) -> Reply {
    match decision {
        Decision::Reply { reply, .. } => reply,
        Decision::Forward { reason, .. } => panic!("forwarded: {reason}"),
    }
}

pub fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value.as_str())
}
