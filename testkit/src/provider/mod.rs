//! An OpenID provider that behaves like Keycloak 26 on the wire. It counts requests and misbehaves on request.
//!
//! It has the users `mlflow_user`, `mlflow_admin` and `outsider` (password `password123`), one client, and RS256 and
//! ES256 keys. Browsers get a sign-in form. After [`Provider::sign_in_as`] they are redirected without it. Actions of
//! an administrator are methods ([`Provider::log_out_user`] …), and so are faults ([`Provider::misbehave`],
//! [`Provider::hold`], [`Provider::forge`]).

mod admin;
mod admin_api;
mod back_channel;
mod environment;
pub mod forgeries;
mod hold;
mod keys;
mod misbehaviour;
mod serving;
mod state;
mod target;
mod tokens;
mod traffic;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use oidc_gate_provider_model::{Endpoint, Grant, Kind as TokenKind, OldKeys, RealmSettings, User};
use oidc_gate_provider_model::{REALM, Request};
use serde_json::Value;

pub use back_channel::Delivery;
pub use hold::Hold;
pub use keys::SigningKey;
pub use misbehaviour::{Behaviour, Forgery, Times};
pub use target::Target;
pub use tokens::Callback;
pub use traffic::Refusal;

use crate::process::{Trouble, free_port};
use crate::server::{Answer, Server};
use state::State;

/// The settings that a provider is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`.
    pub client_secret: String,
    /// Addresses to which browsers may be redirected after login and logout. A `*` at the end matches anything.
    pub redirect_uris: Vec<String>,
    /// The address for logout tokens (`backchannel.logout.url`).
    pub backchannel_logout_url: Option<String>,
    /// The address below which `k_logout` and `k_push_not_before` are posted (`adminUrl`).
    pub admin_url: Option<String>,
}

impl Setup {
    /// The client `mlflow` on a free port, for a gate at `public_url`.
    pub fn for_gate(public_url: &str) -> Self {
        // "+", "%", "/" and "=" reveal whether the Basic header is form-encoded (RFC 6749 2.3.1).
        let secret = format!("s+/%={}", random_text(32));
        Self { port: free_port(), ..Self::new(0, "mlflow", &secret, public_url) }
    }

    /// A client for a gate at `public_url`, with all of its endpoints registered.
    pub fn new(port: u16, client_id: &str, client_secret: &str, public_url: &str) -> Self {
        Self {
            port,
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            redirect_uris: vec![format!("{public_url}/*")],
            backchannel_logout_url: Some(format!("{public_url}/oauth2/backchannel-logout")),
            admin_url: Some(format!("{public_url}/oauth2")),
        }
    }
}

/// A running provider. Dropping it closes its port and all connections.
pub struct Provider {
    setup: Setup,
    state: Arc<Mutex<State>>,
    server: Mutex<Option<Server>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.issuer()).finish_non_exhaustive()
    }
}

impl Provider {
    /// Starts the provider.
    ///
    /// # Errors
    /// The port is in use.
    pub fn start(setup: Setup) -> Result<Self, Trouble> {
        let issuer = format!("http://localhost:{}{REALM}", setup.port);
        let state = Arc::new(Mutex::new(State::new(&issuer, setup.clone())));
        let provider = Self { setup, state, server: Mutex::default() };
        provider.resume()?;
        Ok(provider)
    }

    /// Closes the port and all connections. Sessions and keys are kept.
    pub fn stop(&self) {
        drop(self.server().take());
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// The port is in use.
    pub fn resume(&self) -> Result<(), Trouble> {
        let mut server = self.server();
        drop(server.take());
        let state = Arc::clone(&self.state);
        let handler = move |request| -> Answer { Box::pin(serving::serve(Arc::clone(&state), request)) };
        *server = Some(Server::start(self.setup.port, Arc::new(handler))?);
        Ok(())
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.setup.port
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> String {
        self.lock().realm.issuer.clone()
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.setup.client_id
    }

    /// The client's secret.
    pub fn client_secret(&self) -> &str {
        &self.setup.client_secret
    }

    /// From now on the authorization endpoint signs every browser in as this user, without a form.
    ///
    /// # Panics
    /// If there is no such user.
    pub fn sign_in_as(&self, username: &str) {
        let realm = &mut self.lock().realm;
        assert!(realm.user(username).is_some(), "the provider has no user {username}");
        realm.sign_in_as = Some(username.to_owned());
    }

    /// Shows the form again, unless the browser has a session at the provider.
    pub fn ask_for_password(&self) {
        self.lock().realm.sign_in_as = None;
    }

    /// Signs tokens with this algorithm from now on: `RS256` (the default) or `ES256`.
    pub fn sign_with(&self, algorithm: &'static str) {
        self.lock().realm.algorithm = algorithm;
    }

    /// The current signing key for `algorithm`.
    ///
    /// # Panics
    /// If there is none.
    pub fn key(&self, algorithm: &str) -> SigningKey {
        self.lock().realm.keys.active(algorithm).clone()
    }

    /// An RSA key that does not belong to this provider.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn strangers_key(&self) -> SigningKey {
        SigningKey::rsa(self.lock().rotations + 1)
    }

    /// Replaces the signing keys.
    pub fn rotate_keys(&self, old: OldKeys) {
        let mut state = self.lock();
        state.rotations += 1;
        let new = keys::pair(state.rotations);
        state.realm.keys.rotate(new, old);
    }

    /// Sets the provider's clock ahead by this many seconds (or back, if negative).
    pub fn set_clock_offset(&self, seconds: i64) {
        self.lock().clock_offset = seconds;
    }

    /// Seconds since 1970 on the provider's clock.
    pub fn now(&self) -> i64 {
        self.lock().realm.now.secs()
    }

    /// Replaces the correct response of an endpoint (or to one grant) by this behaviour, this many times.
    pub fn misbehave(&self, target: impl Into<Target>, times: Times, behaviour: Behaviour) {
        self.lock().misbehaviour.behaviours.push((target.into(), times, behaviour));
    }

    /// Holds requests to an endpoint (or for one grant) back until the hold is released. [`Provider::behave`] does not
    /// release it, but later requests pass.
    pub fn hold(&self, target: impl Into<Target>, hold: &Hold) {
        self.misbehave(target, Times::Always, Behaviour::Hold(hold.clone()));
    }

    /// Changes the JSON responses of an endpoint (or to one grant) until [`Provider::behave`].
    pub fn edit_document(
        &self,
        target: impl Into<Target>,
        edit: impl Fn(&mut Value) + Send + Sync + 'static,
    ) {
        self.lock().misbehaviour.documents.push((target.into(), Arc::new(edit)));
    }

    /// Changes the parameters of redirects to the client until [`Provider::behave`].
    pub fn edit_authorization_response(
        &self,
        edit: impl Fn(&mut Vec<(String, String)>) + Send + Sync + 'static,
    ) {
        self.lock().misbehaviour.authorization_response = Some(Arc::new(edit));
    }

    /// Forges the tokens that the provider issues until [`Provider::behave`].
    pub fn forge(&self, kind: TokenKind, forgery: Forgery) {
        self.lock().realm.environment.forgeries.insert(kind, forgery);
    }

    /// Ends all misbehaviour, edits and forgeries.
    pub fn behave(&self) {
        let mut state = self.lock();
        state.misbehaviour = misbehaviour::Misbehaviour::default();
        state.realm.environment.forgeries.clear();
    }

    /// All requests so far to an endpoint (or for one grant), oldest first. Requests that got a wrong response are
    /// included.
    pub fn requests(&self, target: impl Into<Target>) -> Vec<Request> {
        let target = target.into();
        self.lock().traffic.recorded.iter().filter(|request| target.covers(request)).cloned().collect()
    }

    /// How many requests an endpoint (or grant) has received.
    pub fn count(&self, target: impl Into<Target>) -> usize {
        let target = target.into();
        self.lock().traffic.recorded.iter().filter(|request| target.covers(request)).count()
    }

    /// The largest number of concurrent requests so far.
    pub fn most_at_once(&self, target: impl Into<Target>) -> usize {
        self.lock().traffic.most_at_once(target.into())
    }

    /// The current number of requests in progress.
    pub fn under_way(&self, target: impl Into<Target>) -> usize {
        self.lock().traffic.now(target.into())
    }

    /// How often the token endpoint granted this, whether or not the response arrived.
    pub fn granted(&self, grant: Grant) -> usize {
        self.lock().traffic.granted.iter().filter(|granted| **granted == grant).count()
    }

    /// The refusals of this grant by the token endpoint, oldest first.
    pub fn refused(&self, grant: Grant) -> Vec<Refusal> {
        self.lock().traffic.refused.iter().filter(|refusal| refusal.grant == grant).cloned().collect()
    }

    /// How often a spent code or refresh token was used again. Each time the client lost a session.
    pub fn spent_twice(&self) -> usize {
        self.lock().realm.spent_twice
    }

    /// All secrets that this provider issued or received. None of them may appear in a log or page.
    pub fn secrets(&self) -> Vec<String> {
        let state = self.lock();
        let mut secrets = vec![self.setup.client_secret.clone()];
        secrets.extend(state.realm.secrets().cloned());
        let verifiers =
            state.traffic.recorded.iter().filter_map(|recorded| recorded.form_field("code_verifier"));
        secrets.extend(verifiers.map(ToOwned::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        State::lock(&self.state)
    }
}

/// Random bytes.
///
/// # Panics
/// When the system has no randomness.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("no randomness: {error}");
    }
    bytes
}

/// Random base64url text of `length` characters, at most 64.
pub fn random_text(length: usize) -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<48>()).chars().take(length).collect()
}
