//! An OpenID provider that looks like Keycloak 26 on the wire, counts who asks what, and misbehaves on request.
//!
//! It has the users `mlflow_user`, `mlflow_admin` and `outsider` (password `password123`), one client, RS256 and ES256
//! keys. People get a sign-in form; tests say [`Provider::sign_in_as`] and are redirected at once.

mod endpoints;
mod keys;
mod misbehaviour;
mod pages;
mod realm;
mod recorded;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::Value;

pub use keys::{KeyRing, OldKeys, SigningKey};
pub use misbehaviour::{Behaviour, Endpoint, Forgery, Times, TokenKind};
pub use realm::User;
pub use recorded::Recorded;

use crate::process::{Trouble, free_port};
use crate::server::{Answer, Body, BrokenOff, Server, full};
use endpoints::Reply;
use realm::{Grant, Realm};

/// The realm's path.
const REALM: &str = "/realms/mlflow";

/// What a provider is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`.
    pub client_secret: String,
    /// Where browsers may be sent back to, after login and logout; `*` at the end stands for anything.
    pub redirect_uris: Vec<String>,
}

impl Setup {
    /// The client `mlflow` on a free port, for a gate at `public_url`.
    pub fn for_gate(public_url: &str) -> Self {
        Self {
            port: free_port(),
            client_id: "mlflow".to_owned(),
            // "+", "%", "/" and "=" show whether a Basic header is form-encoded (RFC 6749 2.3.1).
            client_secret: format!("s+/%={}", random_text(32)),
            redirect_uris: vec![format!("{public_url}/*")],
        }
    }
}

/// A running provider; dropping it closes its port and every connection.
pub struct Provider {
    setup: Setup,
    realm: Arc<Mutex<Realm>>,
    server: Option<Server>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.issuer()).finish_non_exhaustive()
    }
}

impl Provider {
    /// Starts it.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(setup: Setup) -> Result<Self, Trouble> {
        let issuer = format!("http://localhost:{}{REALM}", setup.port);
        let realm = Realm::new(
            issuer,
            setup.client_id.clone(),
            setup.client_secret.clone(),
            setup.redirect_uris.clone(),
        );
        let mut provider = Self { setup, realm: Arc::new(Mutex::new(realm)), server: None };
        provider.resume()?;
        Ok(provider)
    }

    /// Closes the port and every connection; sessions and keys are kept.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// Somebody took the port.
    pub fn resume(&mut self) -> Result<(), Trouble> {
        self.server = None;
        let realm = Arc::clone(&self.realm);
        let handler = move |request| -> Answer { Box::pin(serve(Arc::clone(&realm), request)) };
        self.server = Some(Server::start(self.setup.port, Arc::new(handler))?);
        Ok(())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.setup.port
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> String {
        self.lock().issuer.clone()
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.setup.client_id
    }

    /// The client's secret.
    pub fn client_secret(&self) -> &str {
        &self.setup.client_secret
    }

    /// From now on whoever comes to the authorization endpoint is this user, without a form.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn sign_in_as(&self, username: &str) {
        let mut realm = self.lock();
        assert!(realm.user(username).is_some(), "the provider has no user {username}");
        realm.sign_in_as = Some(username.to_owned());
    }

    /// People see the form again, unless their browser has a session at the provider.
    pub fn ask_for_password(&self) {
        self.lock().sign_in_as = None;
    }

    /// Adds a user, or replaces the one of that name.
    pub fn add_user(&self, user: User) {
        let mut realm = self.lock();
        realm.users.retain(|other| other.username != user.username);
        realm.users.push(user);
    }

    /// A user as they are now.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn user(&self, username: &str) -> User {
        match self.lock().user(username) {
            Some(user) => user.clone(),
            None => panic!("the provider has no user {username}"),
        }
    }

    /// Changes the client's service account (grant `client_credentials`).
    pub fn edit_service_account(&self, edit: impl FnOnce(&mut User)) {
        edit(&mut self.lock().service_account);
    }

    /// Ends all sessions of a user, as an administrator does. Nobody is told.
    pub fn end_sessions_of(&self, username: &str) {
        let mut realm = self.lock();
        let sids: Vec<String> = realm
            .sessions
            .iter()
            .filter(|(_, session)| session.user.username == username)
            .map(|(sid, _)| sid.clone())
            .collect();
        for sid in sids {
            realm.end_session(&sid);
        }
    }

    /// How many sessions live.
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Tokens are signed with this algorithm from now on: `RS256` (as at the start) or `ES256`.
    pub fn sign_with(&self, algorithm: &'static str) {
        self.lock().algorithm = algorithm;
    }

    /// The key that signs with `algorithm` now.
    ///
    /// # Panics
    /// When there is none.
    pub fn key(&self, algorithm: &str) -> SigningKey {
        self.lock().keys.active(algorithm)
    }

    /// New keys sign from now on.
    pub fn rotate_keys(&self, old: OldKeys) {
        self.lock().keys.rotate(old);
    }

    /// Sets the provider's clock so many seconds ahead (or back).
    pub fn set_clock_offset(&self, seconds: i64) {
        self.lock().clock_offset = seconds;
    }

    /// Seconds since 1970 on the provider's clock.
    pub fn now(&self) -> i64 {
        self.lock().now()
    }

    /// A good access token of that user, as the password grant gives it.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn access_token(&self, username: &str) -> String {
        self.forged_access_token(username, &Forgery::new())
    }

    /// An access token of that user, good but for `forgery`.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn forged_access_token(&self, username: &str, forgery: &Forgery) -> String {
        let (user, mut realm) = (self.user(username), self.lock());
        let sid = realm.begin_session(&user, None);
        let scope = "profile email";
        let grant = Grant { user: &user, sid: Some(&sid), auth_time: None, nonce: None, scope };
        let key = realm.keys.active(realm.algorithm);
        forgery.mint(&key, "at+jwt", realm.access_claims(&grant))
    }

    /// An ID token of that user, as a login that sent `nonce` gives it.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn id_token(&self, username: &str, nonce: &str) -> String {
        let (user, mut realm) = (self.user(username), self.lock());
        let sid = realm.begin_session(&user, None);
        let auth_time = Some(realm.now());
        let grant = Grant { user: &user, sid: Some(&sid), auth_time, nonce: Some(nonce), scope: "openid" };
        let key = realm.keys.active(realm.algorithm);
        let claims = realm.id_claims(&grant, "");
        key.token(&key.header("JWT").to_string(), &claims.to_string())
    }

    /// A token of any header and claims under any key.
    pub fn sign(&self, header: &Value, claims: &Value, key: &SigningKey) -> String {
        key.token(&header.to_string(), &claims.to_string())
    }

    /// Instead of the right answer of `endpoint`, does this, so many times.
    pub fn misbehave(&self, endpoint: Endpoint, times: Times, behaviour: Behaviour) {
        self.lock().misbehaviour.add(endpoint, times, behaviour);
    }

    /// Edits the JSON that an endpoint answers with, until told to behave.
    pub fn edit_document(&self, endpoint: Endpoint, edit: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.lock().misbehaviour.edit_document(endpoint, Arc::new(edit));
    }

    /// Edits the parameters with which browsers are sent back, until told to behave.
    pub fn edit_authorization_response(
        &self,
        edit: impl Fn(&mut Vec<(String, String)>) + Send + Sync + 'static,
    ) {
        self.lock().misbehaviour.edit_authorization_response(Arc::new(edit));
    }

    /// Forges the tokens that it hands out, until told to behave.
    pub fn forge(&self, kind: TokenKind, forgery: Forgery) {
        let mut realm = self.lock();
        match kind {
            TokenKind::Id => realm.misbehaviour.id_token = forgery,
            TokenKind::Access => realm.misbehaviour.access_token = forgery,
        }
    }

    /// Takes back every misbehaviour, edit and forgery.
    pub fn behave(&self) {
        self.lock().misbehaviour = misbehaviour::Misbehaviour::default();
    }

    /// Every request so far to one endpoint, oldest first, those that were misbehaved to included.
    pub fn requests(&self, endpoint: Endpoint) -> Vec<Recorded> {
        self.lock().recorded.iter().filter(|recorded| recorded.endpoint == endpoint).cloned().collect()
    }

    /// How many requests one endpoint has had.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.lock().recorded.iter().filter(|recorded| recorded.endpoint == endpoint).count()
    }

    /// Every secret that this provider handed out or was given: nothing of it may appear in a log or a page.
    pub fn secrets(&self) -> Vec<String> {
        let realm = self.lock();
        let mut secrets = vec![realm.client_secret.clone()];
        secrets.extend(realm.codes.keys().cloned());
        secrets.extend(realm.access_tokens.keys().cloned());
        secrets.extend(realm.refresh_tokens.keys().cloned());
        secrets.extend(realm.id_tokens.keys().cloned());
        let verifiers = realm.recorded.iter().filter_map(|recorded| recorded.form_field("code_verifier"));
        secrets.extend(verifiers.map(ToOwned::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    fn lock(&self) -> MutexGuard<'_, Realm> {
        lock(&self.realm)
    }
}

fn lock(realm: &Mutex<Realm>) -> MutexGuard<'_, Realm> {
    realm.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(realm: Arc<Mutex<Realm>>, request: Request<Incoming>) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().strip_prefix(REALM).unwrap_or_default().to_owned();
    let Some(endpoint) = endpoints::endpoint(&path) else {
        return Some(crate::server::response(
            404,
            &[("content-type", "application/json")],
            "{\"error\":\"not found\"}",
        ));
    };
    let body = body.collect().await.ok()?.to_bytes();
    let request = Recorded::new(endpoint, &head, &body);
    let behaviour = {
        let mut realm = lock(&realm);
        realm.recorded.push(request.clone());
        realm.misbehaviour.take(endpoint)
    };
    let right = || on_the_wire(&endpoints::answer(&mut lock(&realm), endpoint, &request));
    match behaviour {
        None => Some(right()),
        Some(Behaviour::Answer { status, headers, body }) => {
            Some(on_the_wire(&Reply { status, headers, body }))
        }
        Some(Behaviour::Delay(duration)) => {
            tokio::time::sleep(duration).await;
            Some(right())
        }
        Some(Behaviour::Hang) => std::future::pending().await,
        Some(Behaviour::DropAnswer) => {
            let _ = right();
            None
        }
        Some(Behaviour::CloseMidBody) => {
            let reply = endpoints::answer(&mut lock(&realm), endpoint, &request);
            Some(broken_off(&reply))
        }
    }
}

fn on_the_wire(reply: &Reply) -> Response<Body> {
    let headers: Vec<(&str, &str)> = reply.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    crate::server::response(reply.status, &headers, reply.body.clone())
}

/// Promises the whole body, sends half of it, and closes.
fn broken_off(reply: &Reply) -> Response<Body> {
    let length = reply.body.len().to_string();
    let half: Bytes = reply.body.iter().take(reply.body.len() / 2).copied().collect();
    let frames = stream::iter([Ok(Frame::data(half)), Err(BrokenOff)]);
    let mut response = on_the_wire(reply).map(|_| full(Bytes::new()));
    if let Ok(length) = length.parse() {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    }
    response.map(|_| StreamBody::new(frames).boxed_unsync())
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

/// Random base64url text of `length` characters, 64 at most.
pub fn random_text(length: usize) -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<48>()).chars().take(length).collect()
}
