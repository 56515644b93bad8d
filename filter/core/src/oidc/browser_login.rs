//! Browser login: everything that its flows share in one worker. A bearer-only gate has none of it.

use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::{self, Config};
use crate::encoding::length_prefixed;
use crate::error::{Rejection, SessionEnd};
use crate::host::Host;
use crate::http::cookies::GateCookies;
use crate::http::request::Request;
use crate::oidc::exchanges::Exchanges;
use crate::oidc::login_loop::LoginLoop;
use crate::oidc::provider_client::ProviderClient;
use crate::oidc::refresh::flights::Refreshes;
use crate::oidc::removals::Removals;
use crate::seal::KeyRing;
use crate::session::door::Door;
use crate::session::store::Store;
use crate::session::ticket::Ticket;
use crate::sync::Room;

/// Most logout tokens that one worker keeps for later. Anybody can send some.
const MAX_DEFERRED_LOGOUTS: usize = 64;

/// Browser login in one worker.
pub struct BrowserLogin {
    /// The host environment.
    pub host: Rc<dyn Host>,
    /// The whole configuration.
    pub config: Rc<Config>,
    /// The login settings.
    pub settings: config::Login,
    /// The session settings.
    pub session: config::Session,
    /// This gate as a client of the provider.
    pub client: Rc<ProviderClient>,
    /// The gate's cookies.
    pub cookies: GateCookies,
    /// Detects redirect loops.
    pub login_loop: LoginLoop,
    /// Seals login cookies and session records.
    pub keys: KeyRing,
    /// The session store.
    pub sessions: Rc<Store>,
    /// Limits concurrent code exchanges.
    pub exchanges: Rc<Exchanges>,
    /// Retries deletions that Redis did not confirm.
    pub removals: Removals,
    /// The session refreshes of this worker.
    pub refreshes: Refreshes,
    /// Room for logout tokens whose key is not known yet.
    pub deferred_logouts: Room,
}

impl BrowserLogin {
    /// Browser login for this client with these settings.
    pub fn new(settings: config::BrowserLogin, client: Rc<ProviderClient>, cookies: GateCookies) -> Self {
        let config::BrowserLogin { login: settings, session } = settings;
        let (host, config) = (client.host.clone(), client.config.clone());
        let keys = KeyRing::new(session.keys.clone(), &tenant(&config, &session));
        let keep = endings_matter(&session, config.bearer.as_ref());
        let door =
            Door::new(host.clone(), keys.clone(), session.absolute_timeout, config.limits.unknown_tickets);
        let sessions =
            Rc::new(Store::new(host.clone(), session.clone(), keys.clone(), door, &config.issuer.url, keep));
        Self {
            login_loop: LoginLoop::new(cookies.clone()),
            cookies,
            keys,
            sessions,
            exchanges: Exchanges::new(config.limits.callbacks),
            removals: Removals::default(),
            refreshes: Refreshes::default(),
            deferred_logouts: Room::new(MAX_DEFERRED_LOGOUTS),
            settings,
            session,
            client,
            config,
            host,
        }
    }

    /// The ticket in the browser's session cookie. Every ticket passes the door's checks, so a forged ticket costs no
    /// request to Redis.
    ///
    /// # Errors
    /// There is no cookie, there are several different ones, or the ticket was not issued by us.
    pub fn ticket(&self, request: &Request) -> Result<Ticket, Rejection> {
        let mut values = self
            .cookies
            .ours(request)
            .filter(|(name, _)| *name == self.cookies.session())
            .map(|(_, value)| value);
        let first = values.next().ok_or(Rejection::NoCredential)?;
        if values.any(|other| other != first) {
            return Err(Rejection::SessionEnded(SessionEnd::Ambiguous));
        }
        self.sessions.door.ticket(first, request.caller()).map_err(Rejection::SessionEnded)
    }
}

/// How long a revocation must be kept: until every session and access token issued before it has expired. If the
/// longest life of access tokens is not configured, one day is assumed.
fn endings_matter(session: &config::Session, bearer: Option<&config::Bearer>) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let tokens = bearer.map_or(Duration::ZERO, |bearer| bearer.max_lifetime.unwrap_or(DAY));
    session.absolute_timeout.max(tokens)
}

/// Everything that distinguishes this gate from another one with the same keys, so that neither opens what the other
/// sealed.
fn tenant(config: &Config, session: &config::Session) -> Vec<u8> {
    let parts = [
        &config.public_url.origin,
        &config.issuer.url,
        &config.client.id,
        &session.redis.prefix,
        &session.cookie_name,
    ];
    Sha256::digest(length_prefixed(&parts.map(|part| part.as_bytes()))).to_vec()
}
