//! The relying party: everything that the OpenID Connect flows of one tenant share in one worker.

use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::{self, Config};
use crate::error::{Rejection, SessionEnd};
use crate::host::Host;
use crate::http::cookies::CookieJar;
use crate::http::request::Request;
use crate::oidc::announcement::Unread;
use crate::oidc::attempts::Attempts;
use crate::oidc::exchanges::Exchanges;
use crate::oidc::metadata::Needs;
use crate::oidc::provider::Keeper;
use crate::oidc::refresh::{self, Refreshes};
use crate::oidc::removals::Removals;
use crate::seal::KeyRing;
use crate::session::door::Door;
use crate::session::entry::Entry;
use crate::session::store::Store;
use crate::session::ticket::Ticket;

/// One client of one provider.
pub struct RelyingParty {
    /// The outside.
    pub host: Rc<dyn Host>,
    /// What the operator said.
    pub config: Rc<Config>,
    /// The provider, as far as it is known.
    pub provider: Rc<Keeper>,
    /// Our cookies.
    pub cookies: CookieJar,
    /// Ends redirect loops.
    pub attempts: Attempts,
    browser: Option<Browser>,
}

/// What browser login needs; a bearer-only gate has none of it.
pub struct Browser {
    /// How people sign in.
    pub login: config::Login,
    /// How long they stay in.
    pub config: config::Session,
    /// Seals login cookies and session records.
    pub keys: KeyRing,
    /// Where sessions are.
    pub sessions: Rc<Store>,
    /// Turns of callbacks at the provider.
    pub exchanges: Rc<Exchanges>,
    /// Removes those that Redis did not remove.
    pub removals: Removals,
    /// Renews them.
    pub refreshes: Refreshes,
    /// Announced endings whose key is not known yet.
    pub unread: Unread,
}

impl RelyingParty {
    /// One that knows nothing of the provider until [`Keeper::run`] runs.
    pub fn new(config: Config, host: Rc<dyn Host>) -> Self {
        let config = Rc::new(config);
        let name =
            config.browser.as_ref().map_or("oidc-gate", |browser| browser.session.cookie_name.as_str());
        let cookies = CookieJar::new(name, &config.public_url);
        let browser = config.browser.clone().map(|config::BrowserLogin { login, session }| {
            let keys = KeyRing::new(session.keys.clone(), &tenant(&config, &session));
            let keep = endings_matter(&session, config.bearer.as_ref());
            let door = Door::new(
                host.clone(),
                keys.clone(),
                session.absolute_timeout,
                config.limits.unknown_tickets,
            );
            let sessions = Rc::new(Store::new(
                host.clone(),
                session.clone(),
                keys.clone(),
                door,
                &config.issuer.url,
                keep,
            ));
            Browser {
                login,
                config: session,
                keys,
                sessions,
                exchanges: Exchanges::new(config.limits.callbacks),
                removals: Removals::default(),
                refreshes: Refreshes::default(),
                unread: Unread::default(),
            }
        });
        Self {
            provider: Rc::new(Keeper::new(
                host.clone(),
                config.issuer.clone(),
                config.algorithms().collect(),
                Needs::of(&config),
            )),
            attempts: Attempts::new(cookies.clone()),
            browser,
            cookies,
            config,
            host,
        }
    }

    /// What browser login needs.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] in a bearer-only gate.
    pub fn browser(&self) -> Result<&Browser, Rejection> {
        self.browser.as_ref().ok_or(Rejection::NotFound(None))
    }

    /// The ticket in this browser's session cookie. There is no other way to one, so that nothing is asked for what we
    /// never gave out.
    ///
    /// # Errors
    /// There is none, more than one, or one that we never issued.
    pub fn ticket(&self, request: &Request) -> Result<Ticket, Rejection> {
        // Without browser login that cookie means nothing.
        let Ok(browser) = self.browser() else { return Err(Rejection::NoCredential) };
        let mut values = self
            .cookies
            .ours(request)
            .filter(|(name, _)| *name == self.cookies.session())
            .map(|(_, value)| value);
        let first = values.next().ok_or(Rejection::NoCredential)?;
        if values.any(|other| other != first) {
            return Err(Rejection::SessionEnded(SessionEnd::Ambiguous));
        }
        browser.sessions.door.ticket(first, request.caller()).map_err(Rejection::SessionEnded)
    }

    /// The session that this browser's cookie opens.
    ///
    /// # Errors
    /// As [`RelyingParty::ticket`], and as [`refresh::current`].
    pub async fn session(self: &Rc<Self>, request: &Request) -> Result<Rc<Entry>, Rejection> {
        let ticket = self.ticket(request)?;
        refresh::current(self, &ticket).await
    }

    /// The provider's origin, which the sign-out form leads on to.
    pub fn form_origin(&self) -> Option<String> {
        let provider = self.provider.now()?;
        provider.metadata.end_session_endpoint().map(|url| url.origin().ascii_serialization())
    }
}

/// How long an ending matters: until every session, and every access token that was issued before it, has ended by
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
