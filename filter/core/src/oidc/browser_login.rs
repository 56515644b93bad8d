//! Browser login: everything that its flows share in one worker. A bearer-only gate has none of it.

use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::{self, Config};
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

/// Logout messages that one worker keeps for later; anybody can send some.
const MAX_DEFERRED_LOGOUTS: usize = 64;

/// Browser login in one worker.
pub struct BrowserLogin {
    /// The outside.
    pub host: Rc<dyn Host>,
    /// What the operator said.
    pub config: Rc<Config>,
    /// How people sign in.
    pub settings: config::Login,
    /// How long they stay signed in.
    pub session: config::Session,
    /// Ourselves as the provider's client.
    pub client: Rc<ProviderClient>,
    /// Our cookies.
    pub cookies: GateCookies,
    /// Ends redirect loops.
    pub login_loop: LoginLoop,
    /// Seals login cookies and session records.
    pub keys: KeyRing,
    /// Where sessions are.
    pub sessions: Rc<Store>,
    /// Turns of callbacks at the provider.
    pub exchanges: Rc<Exchanges>,
    /// Removes sessions that Redis did not remove.
    pub removals: Removals,
    /// Renews sessions.
    pub refreshes: Refreshes,
    /// Logout messages whose key is not known yet.
    pub deferred_logouts: Room,
}

impl BrowserLogin {
    /// For this client, as `settings` say.
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

    /// The ticket in this browser's session cookie. There is no other way to one, so that nothing is asked for what we
    /// never gave out.
    ///
    /// # Errors
    /// There is none, more than one, or one that we never issued.
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

/// How long a revocation matters: until every session, and every access token that was issued before it, has ended by
/// itself. Tokens that may live for longer than we know are taken for a day's.
fn endings_matter(session: &config::Session, bearer: Option<&config::Bearer>) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let tokens = bearer.map_or(Duration::ZERO, |bearer| bearer.max_lifetime.unwrap_or(DAY));
    session.absolute_timeout.max(tokens)
}

/// Everything that sets this gate apart from another one with the same keys, so that neither opens what the other
/// sealed.
fn tenant(config: &Config, session: &config::Session) -> Vec<u8> {
    let mut hash = Sha256::new();
    let parts = [
        &config.public_url.origin,
        &config.issuer.url,
        &config.client.id,
        &session.redis.prefix,
        &session.cookie_name,
    ];
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().to_vec()
}
