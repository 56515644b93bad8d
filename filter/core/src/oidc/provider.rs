//! The provider as this worker knows it: metadata and keys, fetched by one worker for all, refreshed ahead of time.
//!
//! What was fetched is shared between the workers of one Envoy. Whoever takes the lease fetches; the others pick the
//! result up. The last good answer serves until `issuer.max_stale`, whatever the provider does meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::{Position, Url};

use crate::config::Issuer;
use crate::encoding::base64url;
use crate::error::{Dependency, Rejection};
use crate::host::{Callout, CalloutReply, Host, Level};
use crate::jose::jwk_set::JwkSet;
use crate::lease::Lease;
use crate::oidc::metadata::Metadata;
use crate::sync::{Event, within};
use crate::time::Timestamp;

/// Keys are fetched anew for an unknown `kid` at most this often.
const MIN_REFETCH: Duration = Duration::from_secs(10);
/// How soon another try follows a failed one while nothing is known yet.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long it takes at most after repeated failures.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How often a worker looks for what others fetched.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks while a request waits.
const LOOK_AWAITED: Duration = Duration::from_millis(20);
/// How long a request with an unknown `kid` waits for newer keys.
const NEWER_WAIT: Duration = Duration::from_secs(3);

/// Metadata and keys as they were fetched together.
#[derive(Debug)]
pub struct Provider {
    /// Where everything is.
    pub metadata: Metadata,
    /// The keys that verify its signatures.
    pub keys: JwkSet,
    /// When this was fetched; also tells one set of keys from the next.
    pub fetched: Timestamp,
}

/// What came of asking for newer keys.
#[derive(Debug)]
pub enum Newer {
    /// Here they are.
    Keys(Rc<Provider>),
    /// There are none: the provider was asked a moment ago.
    None,
    /// The provider has not answered, or not well: nobody can tell.
    Unanswered,
}

/// What workers hand each other.
#[derive(Serialize, Deserialize)]
struct Shared {
    fetched: Timestamp,
    metadata: String,
    jwks: String,
}

/// Keeps one [`Provider`] fresh.
pub struct Keeper {
    host: Rc<dyn Host>,
    issuer: Issuer,
    current: RefCell<Option<Rc<Provider>>>,
    changed: Event,
    wanted: Event,
    seen: Cell<Option<u32>>,
    failures: Cell<u32>,
    next_attempt: Cell<Timestamp>,
    lease: Lease,
    shared_key: String,
}

impl Keeper {
    /// Knows nothing until [`Keeper::run`] runs.
    pub fn new(host: Rc<dyn Host>, issuer: Issuer) -> Self {
        let digest = Sha256::new()
            .chain_update(issuer.url.as_bytes())
            .chain_update([0])
            .chain_update(issuer.cluster.as_bytes())
            .finalize();
        let shared_key = format!("oidc-gate.provider.{}", base64url(digest));
        Self {
            lease: Lease::new(host.clone(), format!("{shared_key}.lease")),
            host,
            issuer,
            current: RefCell::default(),
            changed: Event::default(),
            wanted: Event::default(),
            seen: Cell::default(),
            failures: Cell::default(),
            next_attempt: Cell::default(),
            shared_key,
        }
    }

    /// The job that fetches and refreshes; never ends.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.look();
            // One worker fetches.
            let longest = self.issuer.timeout.saturating_mul(2).saturating_add(Duration::from_secs(1));
            if self.is_due() && self.lease.take(longest) {
                self.fetch_and_share().await;
                self.lease.put_off(Duration::ZERO);
            }
            let wanted = self.wanted.next();
            let pause = if self.changed.is_awaited() { LOOK_AWAITED } else { LOOK };
            select(std::pin::pin!(wanted), self.host.sleep(pause)).await;
        }
    }

    /// The provider, as soon as it is known.
    ///
    /// # Errors
    /// Not known after `issuer.startup_wait`, or staler than `issuer.max_stale`.
    pub async fn current(&self) -> Result<Rc<Provider>, Rejection> {
        if let Some(provider) = self.fresh_enough() {
            return Ok(provider);
        }
        let arrival = async {
            loop {
                let changed = self.changed.next();
                self.wanted.notify();
                if let Some(provider) = self.fresh_enough() {
                    return provider;
                }
                changed.await;
            }
        };
        within(&*self.host, self.issuer.startup_wait, arrival)
            .await
            .ok_or(Rejection::Unavailable(Dependency::ProviderMetadata))
    }

    /// The provider without waiting.
    pub fn now(&self) -> Option<Rc<Provider>> {
        self.fresh_enough()
    }

    /// A newer provider than `than`, for a token whose key is not in it. However many ask, the provider is asked at most
    /// every 10 s.
    pub async fn newer(&self, than: &Provider) -> Newer {
        let newer = || self.fresh_enough().filter(|provider| provider.fetched > than.fetched);
        if let Some(provider) = newer() {
            return Newer::Keys(provider);
        }
        // Another worker may have been faster.
        self.look();
        if let Some(provider) = newer() {
            return Newer::Keys(provider);
        }
        // A fetch that began after ours is under way: its keys are worth waiting for.
        let under_way = self.read_millis("refetched").is_some_and(|at| at > than.fetched);
        if !self.may_refetch() && !under_way {
            return Newer::None;
        }
        // Our own fetch has just failed, and it is too early for the next one: there is nothing to wait for.
        if self.is_too_early() {
            return Newer::Unanswered;
        }
        let key = format!("{}.wanted", self.shared_key);
        let _ = self.host.shared_set(&key, self.host.now().as_millis().to_string().as_bytes(), None);
        let attempts = self.next_attempt.get();
        let arrival = async {
            loop {
                let changed = self.changed.next();
                self.wanted.notify();
                if let Some(provider) = newer() {
                    return Some(provider);
                }
                changed.await;
                // The fetch failed: nothing newer is to be had now.
                if self.next_attempt.get() > attempts && newer().is_none() {
                    return None;
                }
            }
        };
        within(&*self.host, NEWER_WAIT, arrival).await.flatten().map_or(Newer::Unanswered, Newer::Keys)
    }

    /// A newer provider than `than`, however long it takes until it may be asked again.
    pub async fn newer_in_time(&self, than: &Provider) -> Option<Rc<Provider>> {
        let waits_for_its_turn = MIN_REFETCH.saturating_mul(2).as_secs();
        for _ in 0..waits_for_its_turn {
            if let Newer::Keys(newer) = self.newer(than).await {
                return Some(newer);
            }
            self.host.sleep(LOOK).await;
        }
        None
    }

    fn fresh_enough(&self) -> Option<Rc<Provider>> {
        let now = self.host.now();
        self.current.borrow().clone().filter(|provider| now.since(provider.fetched) <= self.issuer.max_stale)
    }

    /// Picks up what another worker fetched.
    fn look(&self) {
        let Some((bytes, version)) = self.host.shared_get(&self.shared_key) else { return };
        if self.seen.replace(Some(version)) == Some(version) {
            return;
        }
        let provider = serde_json::from_slice::<Shared>(&bytes).ok().and_then(|shared| {
            Some(Provider {
                metadata: Metadata::parse(shared.metadata.as_bytes(), &self.issuer).ok()?,
                keys: JwkSet::parse(shared.jwks.as_bytes()).ok()?,
                fetched: shared.fetched,
            })
        });
        if let Some(provider) = provider {
            self.publish(provider);
        }
    }

    fn is_due(&self) -> bool {
        if self.is_too_early() {
            return false;
        }
        let now = self.host.now();
        match &*self.current.borrow() {
            None => true,
            Some(provider) => {
                let age = now.since(provider.fetched);
                // A clock that was set back must not keep old keys for ever.
                let from_the_future = provider.fetched.since(now) > Duration::from_secs(60);
                from_the_future
                    || age >= self.issuer.refresh_interval
                    || (self.may_refetch()
                        && self.read_millis("wanted").is_some_and(|at| at > provider.fetched))
            }
        }
    }

    /// Whether this worker's last fetch failed a moment ago.
    fn is_too_early(&self) -> bool {
        // A clock that was set back must not hold the next attempt up.
        let (now, next) = (self.host.now(), self.next_attempt.get());
        now < next && next.since(now) <= MAX_RETRY
    }

    /// Whether the last fetch that somebody asked for out of turn, in any worker, is long enough ago.
    fn may_refetch(&self) -> bool {
        let now = self.host.now();
        self.read_millis("refetched")
            .is_none_or(|at| now.since(at) >= MIN_REFETCH || at.since(now) >= MIN_REFETCH)
    }

    fn read_millis(&self, part: &str) -> Option<Timestamp> {
        let (bytes, _) = self.host.shared_get(&format!("{}.{part}", self.shared_key))?;
        Some(Timestamp::from_millis(std::str::from_utf8(&bytes).ok()?.parse().ok()?))
    }

    async fn fetch_and_share(&self) {
        let age = self.current.borrow().as_ref().map(|provider| self.host.now().since(provider.fetched));
        if age.is_some_and(|age| age < self.issuer.refresh_interval) {
            let now = self.host.now().as_millis().to_string();
            let _ = self.host.shared_set(&format!("{}.refetched", self.shared_key), now.as_bytes(), None);
        }
        match self.fetch().await {
            Ok(shared) => {
                self.failures.set(0);
                if let Ok(bytes) = serde_json::to_vec(&shared) {
                    let _ = self.host.shared_set(&self.shared_key, &bytes, None);
                }
                self.look();
                self.host.log(
                    Level::Info,
                    &format!("provider metadata and keys fetched from {}", self.issuer.url),
                );
            }
            Err(problem) => {
                self.failures.set(self.failures.get().saturating_add(1));
                let known = self.current.borrow().is_some();
                let pause = if known {
                    FIRST_RETRY.saturating_mul(1 << self.failures.get().min(5)).min(MAX_RETRY)
                } else {
                    FIRST_RETRY
                };
                self.next_attempt.set(self.host.now().plus(pause));
                self.changed.notify();
                let serving = if known {
                    "the last good keys go on serving"
                } else {
                    "requests get 503 until it works"
                };
                self.host.log(
                    Level::Error,
                    &format!(
                        "provider {} (cluster {}): {problem}; {serving}",
                        self.issuer.url, self.issuer.cluster
                    ),
                );
            }
        }
    }

    async fn fetch(&self) -> Result<Shared, String> {
        let mut well_known = self.issuer.parsed.clone();
        let path = format!("{}/.well-known/openid-configuration", well_known.path().trim_end_matches('/'));
        well_known.set_path(&path);
        let document = self.get_json(&well_known, "discovery").await?;
        let metadata =
            Metadata::parse(document.as_bytes(), &self.issuer).map_err(|error| error.to_string())?;
        let jwks = self.get_json(&metadata.jwks_uri, "JWKS").await?;
        let keys = JwkSet::parse(jwks.as_bytes()).map_err(|error| format!("JWKS: {error}"))?;
        for skipped in keys.skipped() {
            self.host
                .log(Level::Debug, &format!("JWKS: key {} is not used: {}", skipped.index, skipped.reason));
        }
        if keys.is_empty() {
            return Err("JWKS: no key in it can verify signatures".to_owned());
        }
        Ok(Shared { fetched: self.host.now(), metadata: document, jwks })
    }

    async fn get_json(&self, url: &Url, what: &str) -> Result<String, String> {
        let callout = callout(&self.issuer, "GET", url, Vec::new());
        let reply = self.host.call(callout).await.map_err(|error| format!("{what}: {error}"))?;
        match reply.status {
            // A redirect is not followed: it could lead anywhere (JW06).
            200 => String::from_utf8(reply.body).map_err(|_| format!("{what}: not UTF-8")),
            status => Err(format!("{what}: status {status} for {}", url.path())),
        }
    }

    fn publish(&self, provider: Provider) {
        *self.current.borrow_mut() = Some(Rc::new(provider));
        self.changed.notify();
    }
}

/// A request to the provider, through its cluster. The authority is the URL's: providers choose their issuer by it.
pub fn callout(issuer: &Issuer, method: &str, url: &Url, body: Vec<u8>) -> Callout {
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    Callout {
        cluster: issuer.cluster.clone(),
        headers: [
            (":method", method),
            (":path", target),
            (":authority", authority),
            (":scheme", url.scheme()),
            ("accept", "application/json"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        body,
        timeout: issuer.timeout,
    }
}

/// Whether a reply says that it is JSON.
pub fn is_json(reply: &CalloutReply) -> bool {
    reply.header("content-type").is_some_and(|value| {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json")
    })
}
