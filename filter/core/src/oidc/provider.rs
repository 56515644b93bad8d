//! The provider as this worker knows it: metadata and keys as one value. One worker of an Envoy fetches it, by a lease
//! in shared data. The others look for it once a second, and every 20 ms while a request waits. The last good value
//! serves until `issuer.max_stale`. A request without one waits for `issuer.startup_wait` at most. Retries: `pace`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Issuer;
use crate::encoding::base64url;
use crate::error::{Dependency, Outlook, Rejection, Trouble};
use crate::host::{Host, Level};
use crate::jose::algorithm::Algorithm;
use crate::jose::jwk_set::JwkSet;
use crate::lease::Lease;
use crate::oidc::fetch::{self, FetchError};
use crate::oidc::metadata::{Metadata, Needs};
use crate::oidc::pace::{AWAITED_PAUSE, Failure, Pace, Urgency};
use crate::quote::quote;
use crate::sync::{Event, Room, within};
use crate::time::Timestamp;

/// Refetches for an unknown `kid` are at least this far apart.
const MIN_REFETCH: Duration = Duration::from_secs(10);
/// For how long the last failed refresh explains the failure of another session's refresh.
const RECENT: Duration = Duration::from_secs(30);
/// Longest reason in a log line, in characters.
const MAX_LOGGED: usize = 1000;
/// How often a worker looks for data that another worker fetched.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks while a request waits.
const LOOK_AWAITED: Duration = Duration::from_millis(20);
/// How long a request with an unknown `kid` waits for newer keys.
const NEWER_WAIT: Duration = Duration::from_secs(3);
/// Most requests in one worker that wait for metadata or keys. Unauthenticated clients can cause such waits, and other
/// requests need memory too.
const MAX_AWAITING: usize = 1024;

/// Metadata and keys that were fetched together.
#[derive(Debug)]
pub struct Provider {
    /// The metadata.
    pub metadata: Metadata,
    /// The keys that verify the provider's signatures.
    pub keys: JwkSet,
    /// When the fetch began. It also identifies this set of keys.
    pub fetched: Timestamp,
}

/// The result of asking for newer keys.
#[derive(Debug)]
pub enum Newer {
    /// Newer keys.
    Keys(Rc<Provider>),
    /// There are no newer keys: the provider was asked a moment ago.
    None,
    /// The provider did not answer usefully, so it is unknown whether newer keys exist.
    Unanswered,
}

/// The form in which workers share what was fetched.
#[derive(Serialize, Deserialize)]
struct Shared {
    fetched: Timestamp,
    metadata: String,
    jwks: String,
}

/// Keeps one [`Provider`] up to date.
pub struct ProviderCache {
    host: Rc<dyn Host>,
    issuer: Issuer,
    /// Every signature algorithm that this configuration accepts for any kind of token.
    algorithms: Vec<Algorithm>,
    needs: Needs,
    current: RefCell<Option<Rc<Provider>>>,
    changed: Event,
    wanted: Event,
    /// The versions of the shared data and of the shared failure that this worker has seen.
    seen: Cell<Option<u32>>,
    seen_failure: Cell<Option<u32>>,
    /// Requests that wait for the provider.
    awaiting: Room,
    started: Timestamp,
    pace: Pace,
    lease: Lease,
    shared_key: String,
}

/// A problem during a session refresh, shared with the workers that did not see it themselves.
#[derive(Serialize, Deserialize)]
struct Remembered {
    at: Timestamp,
    lasting: bool,
    detail: String,
}

impl ProviderCache {
    /// Empty until [`ProviderCache::run`] runs.
    pub fn new(host: Rc<dyn Host>, issuer: Issuer, algorithms: Vec<Algorithm>, needs: Needs) -> Self {
        // The key covers the clusters: a different route to the provider may lead to different keys.
        let mut digest = Sha256::new()
            .chain_update(issuer.url.as_bytes())
            .chain_update([0])
            .chain_update(issuer.cluster.as_bytes());
        for served in &issuer.origins {
            for part in [&served.origin, &served.cluster] {
                digest.update([0]);
                digest.update(part.as_bytes());
            }
        }
        let shared_key = format!("oidc-gate.provider.{}", base64url(digest.finalize()));
        Self {
            lease: Lease::new(host.clone(), format!("{shared_key}.lease")),
            pace: Pace::new(host.clone(), format!("{shared_key}.failure")),
            started: host.now(),
            host,
            issuer,
            algorithms,
            needs,
            current: RefCell::default(),
            changed: Event::default(),
            wanted: Event::default(),
            seen: Cell::default(),
            seen_failure: Cell::default(),
            awaiting: Room::new(MAX_AWAITING),
            shared_key,
        }
    }

    /// The task that fetches and refreshes. It never returns.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.look();
            // Only the worker with the lease fetches.
            let longest = self.issuer.timeout.saturating_mul(2).saturating_add(Duration::from_secs(1));
            if self.is_due() && self.lease.take(longest) {
                // Another worker may have tried in the meantime.
                self.look();
                if self.is_due() {
                    self.fetch_and_share().await;
                }
                self.lease.release_after(Duration::ZERO);
            }
            let wanted = self.wanted.next();
            let pause = if self.changed.is_awaited() { LOOK_AWAITED } else { LOOK };
            select(std::pin::pin!(wanted), self.host.sleep(pause)).await;
        }
    }

    /// The provider; waits until it is known.
    ///
    /// # Errors
    /// Not known after `issuer.startup_wait`, or older than `issuer.max_stale`. Fails at once if the last fetch failed
    /// a moment ago with an error that lasts until an administrator acts.
    pub async fn current(&self) -> Result<Rc<Provider>, Rejection> {
        if let Some(provider) = self.fresh_enough() {
            return Ok(provider);
        }
        let asked = self.host.now();
        let is_known_to_last = || {
            self.last_failure().is_some_and(|failure| {
                failure.trouble().outlook == Outlook::Lasting
                    && failure.failed.saturating_add(AWAITED_PAUSE) > asked
            })
        };
        let arrival = async {
            loop {
                let changed = self.changed.next();
                self.wanted.notify();
                if let Some(provider) = self.fresh_enough() {
                    return Some(provider);
                }
                if is_known_to_last() {
                    return None;
                }
                changed.await;
            }
        };
        let Some(_place) = self.awaiting.take() else { return Err(self.missing().into()) };
        let arrived = within(&*self.host, self.issuer.startup_wait, arrival).await.flatten();
        arrived.ok_or_else(|| self.missing().into())
    }

    /// Why the provider, or newer data about it, is not available.
    pub fn missing(&self) -> Dependency {
        let trouble = self.last_failure().map(|failure| failure.trouble());
        Dependency::ProviderMetadata(
            trouble.unwrap_or_else(|| Trouble::passing("metadata and keys have not been fetched yet")),
        )
    }

    /// Records a problem that a session refresh met.
    pub fn remember(&self, trouble: &Trouble) {
        let remembered = Remembered {
            at: self.host.now(),
            lasting: trouble.outlook == Outlook::Lasting,
            detail: trouble.detail.to_string(),
        };
        if let Ok(bytes) = serde_json::to_vec(&remembered) {
            let _ = self.host.shared_set(&self.trouble_key(), &bytes, None);
        }
    }

    /// Why a refresh by another worker gave no result: the problem of the last refresh in this Envoy, if it is recent.
    pub fn refresh_brought_nothing(&self) -> Dependency {
        let known = self.recent_trouble();
        Dependency::Provider(
            known
                .unwrap_or_else(|| Trouble::passing("a refresh of this session has given no new tokens yet")),
        )
    }

    fn recent_trouble(&self) -> Option<Trouble> {
        let (bytes, _) = self.host.shared_get(&self.trouble_key())?;
        let Remembered { at, lasting, detail } = serde_json::from_slice(&bytes).ok()?;
        let now = self.host.now();
        let trouble = if lasting { Trouble::lasting(detail) } else { Trouble::passing(detail) };
        (at <= now && now.duration_since(at) <= RECENT).then_some(trouble)
    }

    fn trouble_key(&self) -> String {
        format!("{}.renewals", self.shared_key)
    }

    /// The provider, if it is known now. Does not wait.
    pub fn now(&self) -> Option<Rc<Provider>> {
        self.fresh_enough()
    }

    /// A newer provider than `than`, for a token with an unknown key. All refetches are at least 10 s apart.
    pub async fn newer(&self, than: &Provider) -> Newer {
        let newer = || self.fresh_enough().filter(|provider| provider.fetched > than.fetched);
        if let Some(provider) = newer() {
            return Newer::Keys(provider);
        }
        // Another worker may have fetched it already.
        self.look();
        if let Some(provider) = newer() {
            return Newer::Keys(provider);
        }
        let failure = self.last_failure();
        let may_ask = self.may_refetch()
            && failure.as_ref().is_none_or(|last| last.allows(self.host.now(), Urgency::Background));
        // The last fetch failed, and the next one is not allowed yet, so waiting is pointless.
        if failure.is_some() && !may_ask {
            return Newer::Unanswered;
        }
        // A fetch that began after `than` is under way, so wait for its keys.
        let under_way = self.read_millis("refetched").is_some_and(|at| at > than.fetched);
        if !may_ask && !under_way {
            return Newer::None;
        }
        let key = format!("{}.wanted", self.shared_key);
        let asked = self.host.now();
        let _ = self.host.shared_set(&key, asked.as_millis().to_string().as_bytes(), None);
        let arrival = async {
            loop {
                let changed = self.changed.next();
                self.wanted.notify();
                if let Some(provider) = newer() {
                    return Some(provider);
                }
                changed.await;
                // The fetch failed: there are no newer keys for now.
                if self.last_failure().is_some_and(|last| last.failed >= asked) && newer().is_none() {
                    return None;
                }
            }
        };
        let Some(_place) = self.awaiting.take() else { return Newer::Unanswered };
        within(&*self.host, NEWER_WAIT, arrival).await.flatten().map_or(Newer::Unanswered, Newer::Keys)
    }

    /// A newer provider than `than`. Waits until a refetch is allowed again.
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
        self.current
            .borrow()
            .clone()
            .filter(|provider| now.duration_since(provider.fetched) <= self.issuer.max_stale)
    }

    fn last_failure(&self) -> Option<Failure> {
        self.pace.last().map(|(failure, _)| failure)
    }

    /// Adopts what another worker fetched, or notes that its fetch failed.
    fn look(&self) {
        let failure = self.pace.last().map(|(_, version)| version);
        if self.seen_failure.replace(failure) != failure {
            self.changed.notify();
        }
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
        let now = self.host.now();
        if let Some(failure) = self.last_failure() {
            // A worker that has just started may have a corrected configuration, so its first try is urgent.
            let is_urgent =
                self.fresh_enough().is_none() && (self.changed.is_awaited() || failure.failed < self.started);
            let urgency = if is_urgent { Urgency::Awaited } else { Urgency::Background };
            if !failure.allows(now, urgency) {
                return false;
            }
        }
        match &*self.current.borrow() {
            None => true,
            Some(provider) => {
                let age = now.duration_since(provider.fetched);
                // If the clock was set back, old keys must not stay for ever.
                let from_the_future = provider.fetched.duration_since(now) > Duration::from_secs(60);
                from_the_future
                    || age >= self.issuer.refresh_interval
                    || (self.may_refetch()
                        && self.read_millis("wanted").is_some_and(|at| at > provider.fetched))
            }
        }
    }

    /// Whether the last extra fetch, by any worker, is at least [`MIN_REFETCH`] ago.
    fn may_refetch(&self) -> bool {
        let now = self.host.now();
        self.read_millis("refetched")
            .is_none_or(|at| now.duration_since(at) >= MIN_REFETCH || at.duration_since(now) >= MIN_REFETCH)
    }

    fn read_millis(&self, part: &str) -> Option<Timestamp> {
        let (bytes, _) = self.host.shared_get(&format!("{}.{part}", self.shared_key))?;
        Some(Timestamp::from_millis(std::str::from_utf8(&bytes).ok()?.parse().ok()?))
    }

    async fn fetch_and_share(&self) {
        let age =
            self.current.borrow().as_ref().map(|provider| self.host.now().duration_since(provider.fetched));
        if age.is_some_and(|age| age < self.issuer.refresh_interval) {
            let now = self.host.now().as_millis().to_string();
            let _ = self.host.shared_set(&format!("{}.refetched", self.shared_key), now.as_bytes(), None);
        }
        match self.fetch().await.map_err(Trouble::from) {
            Ok(shared) => {
                if let Ok(bytes) = serde_json::to_vec(&shared) {
                    let _ = self.host.shared_set(&self.shared_key, &bytes, None);
                }
                self.pace.succeeded();
                self.look();
                self.host.log(
                    Level::Info,
                    &format!("provider metadata and keys fetched from {}", self.issuer.url),
                );
            }
            Err(trouble) => {
                let is_news = self.pace.failed(&trouble);
                self.look();
                let serving = match (self.current.borrow().is_some(), trouble.outlook) {
                    (true, _) => "the last valid keys stay in use",
                    (false, Outlook::Passing) => "requests get 503 until a fetch succeeds",
                    (false, Outlook::Lasting) => "requests get 503 until an administrator corrects it",
                };
                let level = if is_news { Level::Error } else { Level::Debug };
                self.host.log(
                    level,
                    &format!(
                        "provider {} (cluster {}): {}; {serving}",
                        self.issuer.url,
                        self.issuer.cluster,
                        quote(&trouble.detail, MAX_LOGGED)
                    ),
                );
            }
        }
    }

    async fn fetch(&self) -> Result<Shared, FetchError> {
        // Use the start of the fetch: a change at the provider after this moment may be missing.
        let began = self.host.now();
        let (document, metadata) = fetch::metadata(&*self.host, &self.issuer).await?;
        self.tell(&metadata);
        let (jwks, keys) = fetch::keys(&*self.host, &self.issuer, &metadata).await?;
        if !keys.serves_any(&self.algorithms) {
            let names: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            self.host.log(
                Level::Error,
                &format!(
                    "JWKS: no key for an algorithm that this gate accepts ({}): tokens can't be verified",
                    names.join(", ")
                ),
            );
        }
        for skipped in keys.skipped() {
            self.host.log(Level::Debug, &format!("JWKS: ignored {skipped}"));
        }
        Ok(Shared { fetched: began, metadata: document, jwks })
    }

    /// Logs unusable metadata: what is needed is logged after each fetch, the rest once for all workers.
    fn tell(&self, metadata: &Metadata) {
        for missing in metadata.missing(self.needs) {
            self.host.log(Level::Error, &format!("provider {}: {missing}", self.issuer.url));
        }
        let ignored = metadata.ignored(self.needs).join("\n");
        let key = format!("{}.ignored.{:?}", self.shared_key, self.needs);
        let said = self.host.shared_get(&key).map(|(said, _)| said).unwrap_or_default();
        if said != ignored.as_bytes() {
            let _ = self.host.shared_set(&key, ignored.as_bytes(), None);
            for line in ignored.lines() {
                self.host.log(Level::Warn, &format!("provider {}: {line}", self.issuer.url));
            }
        }
    }

    fn publish(&self, provider: Provider) {
        *self.current.borrow_mut() = Some(Rc::new(provider));
        self.changed.notify();
    }
}
