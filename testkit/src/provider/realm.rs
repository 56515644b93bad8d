//! The provider's state (users, sessions, codes, tokens), and when each part becomes invalid.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::back_channel::{Delivery, Outgoing};
use super::keys::{KeyRing, SigningKey};
use super::misbehaviour::Misbehaviour;
use super::settings::RealmSettings;
use super::traffic::Traffic;
use super::user::User;
use super::{Setup, random_text};

/// In seconds, as in the realm file.
const CODE_LIFETIME: i64 = 60;

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub username: String,
    pub subject: String,
    pub started: i64,
    pub auth_time: i64,
    pub last_refresh: i64,
    /// Whether the client still belongs to the session. Reuse of a code or refresh token detaches it.
    pub attached: bool,
    /// How often the client was detached. Older tokens stay invalid when it returns.
    pub epoch: u32,
    /// Whether it was started with `offline_access`.
    pub offline: bool,
}

#[derive(Debug)]
pub(super) struct Code {
    pub sid: String,
    pub redirect_uri: String,
    pub scope: String,
    pub nonce: Option<String>,
    pub challenge: Option<String>,
    pub expires: i64,
    pub used: bool,
}

#[derive(Clone, Debug)]
pub(super) struct RefreshToken {
    pub sid: String,
    pub scope: String,
    pub issued: i64,
    pub expires: i64,
    pub epoch: u32,
    pub offline: bool,
    pub uses: u32,
}

#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub username: String,
    pub scope: String,
    /// Absent for client_credentials.
    pub sid: Option<String>,
    pub epoch: u32,
    pub issued: i64,
    pub expires: i64,
    pub claims: Value,
}

/// The whole state of a provider.
pub(super) struct Realm {
    pub issuer: String,
    pub setup: Setup,
    pub settings: RealmSettings,
    pub users: Vec<User>,
    pub service_account: User,
    pub keys: KeyRing,
    pub algorithm: &'static str,
    /// Seconds since 1970.
    instant: i64,
    pub clock_offset: i64,
    /// Tokens issued earlier are invalid.
    pub not_before: i64,
    pub sign_in_as: Option<String>,
    pub sessions: HashMap<String, Session>,
    /// Browser cookie → `sid`.
    pub browsers: HashMap<String, String>,
    pub codes: HashMap<String, Code>,
    pub refresh_tokens: HashMap<String, RefreshToken>,
    pub access_tokens: HashMap<String, AccessToken>,
    /// Issued ID tokens → `sid`.
    pub id_tokens: HashMap<String, Option<String>>,
    pub traffic: Traffic,
    /// How often a spent code or refresh token was used again.
    pub spent_twice: usize,
    pub deliveries: Vec<Delivery>,
    pub misbehaviour: Misbehaviour,
    pub refresh_key: SigningKey,
}

impl Realm {
    pub fn new(issuer: String, setup: Setup) -> Self {
        Self {
            service_account: User::new(&format!("service-account-{}", setup.client_id), &[]),
            issuer,
            setup,
            settings: RealmSettings::default(),
            users: vec![
                User::new("mlflow_user", &["/mlflow_users"]),
                User::new("mlflow_admin", &["/mlflow_admins"]),
                User::new("outsider", &[]),
            ],
            keys: KeyRing::new(),
            algorithm: "RS256",
            instant: 0,
            clock_offset: 0,
            not_before: 0,
            sign_in_as: None,
            sessions: HashMap::new(),
            browsers: HashMap::new(),
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            access_tokens: HashMap::new(),
            id_tokens: HashMap::new(),
            traffic: Traffic::default(),
            spent_twice: 0,
            deliveries: Vec::new(),
            misbehaviour: Misbehaviour::default(),
            refresh_key: SigningKey::Hs512(super::random_bytes::<64>().to_vec()),
        }
    }

    /// Seconds since 1970 on the provider's clock, read when the realm was locked. All tokens of one response have the
    /// same time.
    pub fn now(&self) -> i64 {
        self.instant.saturating_add(self.clock_offset)
    }

    /// Called when the realm is locked.
    pub fn read_clock(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.instant = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    }

    pub fn user(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }

    pub fn user_mut(&mut self, username: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.username == username)
    }

    /// The user or service account of a token, if it is enabled.
    fn enabled_owner(&self, username: &str) -> Option<&User> {
        let service = (self.service_account.username == username).then_some(&self.service_account);
        self.user(username).or(service).filter(|user| user.enabled)
    }

    /// A session of this user: the browser's, if it belongs to the same user, otherwise a new one. Several logins of
    /// one browser share a `sid`.
    pub fn begin_session(&mut self, user: &User, browser: Option<&str>) -> String {
        let now = self.now();
        let known = browser.and_then(|cookie| self.browsers.get(cookie)).cloned();
        let existing = known.filter(|sid| {
            self.live_session(sid).is_some_and(|session| session.subject == user.subject && !session.offline)
        });
        if let Some(sid) = existing {
            if let Some(session) = self.sessions.get_mut(&sid) {
                session.attached = true;
            }
            return sid;
        }
        // 24 base64url characters, not a UUID.
        let sid = random_text(24);
        let session = Session {
            username: user.username.clone(),
            subject: user.subject.clone(),
            started: now,
            auth_time: now,
            last_refresh: now,
            attached: true,
            epoch: 0,
            offline: false,
        };
        self.sessions.insert(sid.clone(), session);
        sid
    }

    /// A session that has neither ended nor timed out.
    pub fn live_session(&self, sid: &str) -> Option<&Session> {
        self.sessions.get(sid).filter(|session| self.session_ends(session) > self.now())
    }

    /// When the session ends unless it is refreshed.
    pub fn session_ends(&self, session: &Session) -> i64 {
        let idle = session.last_refresh.saturating_add(self.settings.sso_session_idle_timeout);
        idle.min(session.started.saturating_add(self.settings.sso_session_max_lifespan))
    }

    /// Keycloak treats a second use of a code or refresh token as theft and detaches the client from the session. All
    /// tokens of all its logins become invalid, and a later logout does not notify the client.
    pub fn detach(&mut self, sid: &str) {
        self.spent_twice += 1;
        if let Some(session) = self.sessions.get_mut(sid) {
            session.attached = false;
            session.epoch += 1;
        }
    }

    /// Ends a session. Returns the call that notifies the client, if any.
    pub fn end_session(&mut self, sid: &str) -> Option<Outgoing> {
        let live = self.live_session(sid).is_some();
        self.browsers.retain(|_, other| other != sid);
        let session = self.sessions.remove(sid)?;
        if !live || !session.attached || session.offline {
            return None;
        }
        let url = self.setup.backchannel_logout_url.clone()?;
        let named = self.settings.backchannel_logout_session_required.then_some(sid);
        let token = self.logout_token(Some(&session.subject), named, &self.misbehaviour.logout_token);
        Some(Outgoing::LogoutToken { url, token })
    }

    /// The sessions of a user, oldest first.
    pub fn sids_of(&self, username: &str) -> Vec<String> {
        let mut sessions: Vec<_> =
            self.sessions.iter().filter(|(_, session)| session.username == username).collect();
        sessions.sort_by_key(|(_, session)| session.started);
        sessions.into_iter().map(|(sid, _)| sid.clone()).collect()
    }

    /// Whether the token of a user, issued at this time, is older than "not before". In whole seconds: a token from the
    /// same second stays valid.
    pub fn is_stale(&self, user: &User, issued: i64) -> bool {
        issued < self.not_before.max(user.not_before)
    }

    /// A valid access token, with the current state of its owner.
    pub fn active_access_token(&self, token: &str) -> Option<(&AccessToken, &User)> {
        let token = self.access_tokens.get(token).filter(|token| token.expires > self.now())?;
        let user = self.enabled_owner(&token.username)?;
        let in_session = match &token.sid {
            Some(sid) => {
                self.live_session(sid).is_some_and(|session| session.attached && session.epoch == token.epoch)
            }
            None => true,
        };
        (in_session && !self.is_stale(user, token.issued)).then_some((token, user))
    }

    pub fn issue_code(&mut self, code: Code) -> String {
        let text = format!("{}.{}.{}", random_text(36), code.sid, random_text(36));
        self.codes.insert(text.clone(), code);
        text
    }

    pub fn new_code(&self, sid: String, redirect_uri: &str, scope: &str) -> Code {
        Code {
            sid,
            redirect_uri: redirect_uri.to_owned(),
            scope: scope.to_owned(),
            nonce: None,
            challenge: None,
            expires: self.now() + CODE_LIFETIME,
            used: false,
        }
    }
}
