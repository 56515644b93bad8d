//! The state of a realm (users, sessions, codes, tokens), and when each part becomes invalid.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::request::{Endpoint, Request};
use crate::{Environment, KeyRing, Kind, RealmSettings, Reply, Time, User};

/// In seconds, as in the realm file.
const CODE_LIFETIME: i64 = 60;

/// The client of a realm.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: String,
    /// Addresses to which browsers may be redirected after login and logout. A `*` at the end matches anything.
    pub redirect_uris: Vec<String>,
}

/// A session at the provider.
#[derive(Clone, Debug)]
pub struct Session {
    /// `sid`
    pub sid: String,
    /// The user's name.
    pub username: String,
    /// The user's `sub`.
    pub subject: String,
    /// When the user signed in.
    pub started: Time,
    /// When it was last refreshed, or last used for a login.
    pub last_refresh: Time,
    /// Whether the client still belongs to the session. Reuse of a code or refresh token detaches it.
    pub attached: bool,
    /// How often the client was detached. Older tokens stay invalid when it returns.
    pub epoch: u32,
    /// Whether it was started with `offline_access`.
    pub offline: bool,
}

#[derive(Debug)]
pub(crate) struct Code {
    pub sid: String,
    /// The authorization request.
    pub request: Request,
    pub expires: Time,
    pub used: bool,
}

/// An access token or a refresh token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub username: String,
    pub scope: String,
    /// Absent for client_credentials.
    pub sid: Option<String>,
    /// That of the session when the token was issued.
    pub epoch: u32,
    /// Whether the session was started with `offline_access`.
    pub offline: bool,
    pub issued: Time,
    pub expires: Time,
    pub claims: Value,
    /// How often a refresh token was used.
    pub uses: u32,
}

/// The whole state of a provider.
pub struct Realm<E: Environment> {
    /// The issuer identifier.
    pub issuer: String,
    /// The only client.
    pub client: Client,
    /// Settings of realm and client.
    pub settings: RealmSettings,
    /// The users.
    pub users: Vec<User>,
    /// The client's service account (grant `client_credentials`).
    pub service_account: User,
    /// The keys.
    pub keys: KeyRing<E::Key>,
    /// The algorithm of ID, access and logout tokens.
    pub algorithm: &'static str,
    /// The time. The caller of the realm sets it first, so all tokens of one response have the same time.
    pub now: Time,
    /// Tokens issued earlier (seconds since 1970) are invalid.
    pub not_before: i64,
    /// Signs every browser in as this user, without a form.
    pub sign_in_as: Option<String>,
    /// The sessions that were not ended. Some may have timed out.
    pub sessions: BTreeMap<String, Session>,
    /// Accepts the code of a disabled user, and reports access tokens from before "not before" as active. Keycloak does
    /// neither. The simulator sets it, so that seeds keep their hashes.
    pub lenient: bool,
    /// How often a spent code or refresh token was used again. Each time the client lost a session.
    pub spent_twice: usize,
    /// The environment.
    pub environment: E,
    pub(crate) codes: BTreeMap<String, Code>,
    pub(crate) refresh_tokens: BTreeMap<String, Token>,
    pub(crate) access_tokens: BTreeMap<String, Token>,
    /// Issued ID tokens → `sid`.
    pub(crate) id_tokens: BTreeMap<String, Option<String>>,
}

impl<E: Environment> Realm<E> {
    /// A realm with these users and keys.
    pub fn new(
        issuer: &str,
        client: Client,
        users: Vec<User>,
        keys: KeyRing<E::Key>,
        environment: E,
    ) -> Self {
        Self {
            issuer: issuer.to_owned(),
            service_account: User::new(&format!("service-account-{}", client.id), &[]),
            client,
            settings: RealmSettings::default(),
            users,
            keys,
            algorithm: "RS256",
            now: Time::default(),
            not_before: 0,
            sign_in_as: None,
            sessions: BTreeMap::new(),
            lenient: false,
            spent_twice: 0,
            environment,
            codes: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: BTreeMap::new(),
            id_tokens: BTreeMap::new(),
        }
    }

    /// The correct response.
    pub fn respond(&mut self, request: &Request) -> Reply {
        match request.endpoint {
            Endpoint::Discovery => Reply::json(200, self.discovery()),
            Endpoint::Jwks => Reply::json(200, self.keys.jwks()),
            Endpoint::Authorization => self.authorize(request),
            Endpoint::SignIn => self.sign_in(request),
            Endpoint::Token => self.token(request),
            Endpoint::UserInfo => self.userinfo(request),
            Endpoint::EndSession => self.log_out(request),
            Endpoint::Revocation => self.revoke(request),
            Endpoint::Introspection => self.introspect(request),
        }
    }

    /// The key that signs tokens of this kind.
    pub fn key(&self, kind: Kind) -> &E::Key {
        self.keys.active(kind.algorithm(self.algorithm))
    }

    /// A signed token with these claims.
    pub fn sign(&mut self, kind: Kind, claims: Value) -> String {
        self.environment.sign(kind, self.keys.active(kind.algorithm(self.algorithm)), claims)
    }

    /// The user with this name.
    pub fn user(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }

    /// The user with this name, to be changed. The client is not notified.
    pub fn user_mut(&mut self, username: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.username == username)
    }

    /// Deletes a user with all sessions. The client is not notified.
    pub fn delete_user(&mut self, username: &str) {
        self.users.retain(|user| user.username != username);
        self.sessions.retain(|_, session| session.username != username);
    }

    /// The user or service account of a token, if it is enabled.
    fn enabled_owner(&self, username: &str) -> Option<&User> {
        let service = (self.service_account.username == username).then_some(&self.service_account);
        self.user(username).or(service).filter(|user| user.enabled)
    }

    /// A session of this user: the browser's, if it belongs to the same user, otherwise a new one. Several logins of
    /// one browser share a `sid`.
    pub fn begin_session(&mut self, user: &User, browser: Option<&str>) -> String {
        let now = self.now;
        if let Some(sid) = browser
            && self.browser_session(sid).is_some_and(|session| session.subject == user.subject)
            && let Some(session) = self.sessions.get_mut(sid)
        {
            session.attached = true;
            session.last_refresh = now;
            return sid.to_owned();
        }
        // 24 base64url characters, not a UUID.
        let sid = self.environment.random_text(24);
        let session = Session {
            sid: sid.clone(),
            username: user.username.clone(),
            subject: user.subject.clone(),
            started: now,
            last_refresh: now,
            attached: true,
            epoch: 0,
            offline: false,
        };
        self.sessions.insert(sid.clone(), session);
        self.environment.session_opened(&sid, &user.subject);
        sid
    }

    /// A session that has neither ended nor timed out.
    pub fn live_session(&self, sid: &str) -> Option<&Session> {
        self.sessions.get(sid).filter(|session| self.session_ends(session) > self.now)
    }

    /// The session of a browser. One with `offline_access` has no online counterpart: its browser is not signed in.
    pub fn browser_session(&self, sid: &str) -> Option<&Session> {
        self.live_session(sid).filter(|session| !session.offline)
    }

    /// When the session ends unless it is refreshed.
    pub(crate) fn session_ends(&self, session: &Session) -> Time {
        let idle = session.last_refresh.plus_secs(self.settings.sso_session_idle_timeout);
        idle.min(session.started.plus_secs(self.settings.sso_session_max_lifespan))
    }

    /// Detaches the client from a session. All tokens of all its logins become invalid, and a later logout does not
    /// notify the client.
    pub(crate) fn detach(&mut self, sid: &str) {
        if let Some(session) = self.sessions.get_mut(sid) {
            session.attached = false;
            session.epoch += 1;
        }
        self.environment.client_detached(sid);
    }

    /// Keycloak treats a second use of a code or refresh token as theft.
    pub(crate) fn detach_thief(&mut self, sid: &str) {
        self.spent_twice += 1;
        self.detach(sid);
    }

    /// Ends a session.
    pub fn end_session(&mut self, sid: &str) -> Option<Session> {
        let session = self.sessions.remove(sid)?;
        self.environment.session_ended(sid);
        Some(session)
    }

    /// Whether Keycloak sends a logout token when it ends this session.
    pub fn is_announced(&self, session: &Session) -> bool {
        session.attached && !session.offline && self.session_ends(session) > self.now
    }

    /// "Log out" of a user in the console. Offline sessions continue, but their tokens become stale.
    pub fn log_out_user(&mut self, username: &str) -> Vec<Session> {
        let now = self.now.secs();
        if let Some(user) = self.user_mut(username) {
            user.not_before = now;
        }
        let online = self.sessions_of(username).into_iter().filter(|session| !session.offline);
        online.filter_map(|session| self.end_session(&session.sid)).collect()
    }

    /// "Logout all" of the realm. There are no logout tokens.
    pub fn log_out_all(&mut self) {
        self.not_before = self.now.secs();
        let all: Vec<Session> = self.sessions.values().cloned().collect();
        for session in all.iter().filter(|session| !session.offline) {
            self.end_session(&session.sid);
        }
    }

    /// The sessions of a user, oldest first.
    pub fn sessions_of(&self, username: &str) -> Vec<Session> {
        let sessions = self.sessions.values().filter(|session| session.username == username);
        let mut sessions: Vec<Session> = sessions.cloned().collect();
        sessions.sort_by_key(|session| session.started);
        sessions
    }

    /// Whether the token of a user, issued at this time, is older than "not before". In whole seconds: a token from the
    /// same second stays valid.
    pub(crate) fn is_stale(&self, user: &User, issued: Time) -> bool {
        issued.secs() < self.not_before.max(user.not_before)
    }

    /// A valid access token, with the current state of its owner.
    pub(crate) fn active_access_token(&self, token: &str) -> Option<(&Token, &User)> {
        let token = self.access_tokens.get(token).filter(|token| token.expires > self.now)?;
        let user = self.enabled_owner(&token.username)?;
        let in_session = match &token.sid {
            Some(sid) => {
                self.live_session(sid).is_some_and(|session| session.attached && session.epoch == token.epoch)
            }
            None => true,
        };
        (in_session && (self.lenient || !self.is_stale(user, token.issued))).then_some((token, user))
    }

    /// Issues a code for a session, to the client that sent this authorization request.
    pub(crate) fn issue_code(&mut self, sid: &str, request: &Request) -> String {
        let expires = self.now.plus_secs(CODE_LIFETIME);
        let code = Code { sid: sid.to_owned(), request: request.clone(), expires, used: false };
        let text = self.environment.code(sid);
        self.codes.insert(text.clone(), code);
        text
    }

    /// All secrets that were issued. None of them may appear in a log or page of a client.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let tokens = self.access_tokens.keys().chain(self.refresh_tokens.keys()).chain(self.id_tokens.keys());
        self.codes.keys().chain(tokens)
    }

    /// A registered address that ends in `*` matches all addresses with this prefix.
    pub(crate) fn is_registered(&self, uri: &str) -> bool {
        self.client.redirect_uris.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => uri.starts_with(prefix) && !uri.contains(".."),
            None => known == uri,
        })
    }
}
