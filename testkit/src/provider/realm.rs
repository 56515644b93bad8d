//! What the provider knows: users, sessions, codes, tokens; and the tokens it makes of that.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::keys::{KeyRing, SigningKey};
use super::misbehaviour::Misbehaviour;
use super::{Recorded, random_text};

/// Seconds, as Keycloak's realm has them unless configured.
const CODE_LIFETIME: i64 = 60;
const ACCESS_TOKEN_LIFETIME: i64 = 300;
const REFRESH_TOKEN_LIFETIME: i64 = 1800;

/// A person, or a client's service account.
#[derive(Clone, Debug)]
pub struct User {
    /// What is typed into the form.
    pub username: String,
    /// The password.
    pub password: String,
    /// `sub`.
    pub subject: String,
    /// Full paths (`/mlflow_users`), as Keycloak's mapper prints them.
    pub groups: Vec<String>,
    /// Claims besides or instead of the usual ones.
    pub claims: Map<String, Value>,
}

impl User {
    /// A user with the development password.
    pub fn new(username: &str, groups: &[&str]) -> Self {
        let hash = Sha256::digest(username);
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        // The same at every start, so that a developer's cookies and data stay theirs.
        let subject = [
            part(0, 8),
            part(8, 12),
            format!("4{}", part(13, 16)),
            format!("8{}", part(17, 20)),
            part(20, 32),
        ];
        Self {
            username: username.to_owned(),
            password: "password123".to_owned(),
            subject: subject.join("-"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            claims: Map::new(),
        }
    }

    /// The claims about the person, as Keycloak has them in ID token, access token and UserInfo.
    fn profile(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        set("email_verified", json!(true));
        set("name", json!(format!("{} Example", self.username)));
        // No group: the claim is absent, not an empty list.
        if !self.groups.is_empty() {
            set("groups", json!(self.groups));
        }
        set("preferred_username", json!(self.username));
        set("given_name", json!(self.username));
        set("family_name", json!("Example"));
        set("email", json!(format!("{}@example.com", self.username)));
        claims.extend(self.claims.clone());
        claims
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub user: User,
    pub auth_time: i64,
    /// Whether our client still belongs to it: reuse of a code or a refresh token ends that.
    pub attached: bool,
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

#[derive(Debug)]
pub(super) struct RefreshToken {
    pub sid: String,
    pub scope: String,
    pub expires: i64,
    pub used: bool,
}

/// Whom a token is made for.
pub(super) struct Grant<'a> {
    pub user: &'a User,
    /// Absent for client_credentials.
    pub sid: Option<&'a str>,
    pub auth_time: Option<i64>,
    pub nonce: Option<&'a str>,
    pub scope: &'a str,
}

/// All state of one provider.
pub(super) struct Realm {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
    pub redirect_uris: Vec<String>,
    pub users: Vec<User>,
    pub service_account: User,
    pub keys: KeyRing,
    pub algorithm: &'static str,
    pub clock_offset: i64,
    pub sign_in_as: Option<String>,
    pub sessions: HashMap<String, Session>,
    /// Browser cookie → sid.
    pub browsers: HashMap<String, String>,
    pub codes: HashMap<String, Code>,
    pub refresh_tokens: HashMap<String, RefreshToken>,
    /// Access tokens that were handed out → (user, scope, sid).
    pub access_tokens: HashMap<String, (User, String, Option<String>)>,
    /// ID tokens that were handed out → sid.
    pub id_tokens: HashMap<String, Option<String>>,
    pub recorded: Vec<Recorded>,
    pub misbehaviour: Misbehaviour,
    refresh_key: SigningKey,
}

impl Realm {
    pub fn new(issuer: String, client_id: String, client_secret: String, redirect_uris: Vec<String>) -> Self {
        Self {
            service_account: User::new(&format!("service-account-{client_id}"), &[]),
            issuer,
            client_id,
            client_secret,
            redirect_uris,
            users: vec![
                User::new("mlflow_user", &["/mlflow_users"]),
                User::new("mlflow_admin", &["/mlflow_admins"]),
                User::new("outsider", &[]),
            ],
            keys: KeyRing::new(),
            algorithm: "RS256",
            clock_offset: 0,
            sign_in_as: None,
            sessions: HashMap::new(),
            browsers: HashMap::new(),
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            access_tokens: HashMap::new(),
            id_tokens: HashMap::new(),
            recorded: Vec::new(),
            misbehaviour: Misbehaviour::default(),
            refresh_key: SigningKey::Hs512(super::random_bytes::<64>().to_vec()),
        }
    }

    /// Seconds since 1970 on the provider's clock.
    pub fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(self.clock_offset)
    }

    pub fn user(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }

    /// A session of that user; the one this browser has, if it is the same user's.
    pub fn begin_session(&mut self, user: &User, browser: Option<&str>) -> String {
        let existing = browser.and_then(|cookie| self.browsers.get(cookie)).and_then(|sid| {
            let session =
                self.sessions.get_mut(sid).filter(|session| session.user.subject == user.subject)?;
            session.attached = true;
            session.user = user.clone();
            Some(sid.clone())
        });
        existing.unwrap_or_else(|| {
            // 24 base64url characters, no UUID.
            let sid = random_text(24);
            let auth_time = self.now();
            self.sessions.insert(sid.clone(), Session { user: user.clone(), auth_time, attached: true });
            sid
        })
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

    /// A token response as Keycloak's.
    pub fn token_response(&mut self, grant: &Grant<'_>) -> Value {
        let key = self.keys.active(self.algorithm);
        let access_claims = self.access_claims(grant);
        let access_token = self.misbehaviour.access_token.mint(&key, "at+jwt", access_claims);
        self.access_tokens.insert(
            access_token.clone(),
            (grant.user.clone(), grant.scope.to_owned(), grant.sid.map(ToOwned::to_owned)),
        );
        let mut response = json!({
            "access_token": access_token, "expires_in": ACCESS_TOKEN_LIFETIME, "refresh_expires_in": 0,
            "token_type": "Bearer", "not-before-policy": 0, "scope": grant.scope,
        });
        if grant.scope.split(' ').any(|scope| scope == "openid") {
            let id_claims = self.id_claims(grant, &access_token);
            let id_token = self.misbehaviour.id_token.mint(&key, "JWT", id_claims);
            self.id_tokens.insert(id_token.clone(), grant.sid.map(ToOwned::to_owned));
            response["id_token"] = json!(id_token);
        }
        if let Some(sid) = grant.sid {
            response["refresh_expires_in"] = json!(REFRESH_TOKEN_LIFETIME);
            response["refresh_token"] = json!(self.issue_refresh_token(sid, grant));
            response["session_state"] = json!(sid);
        }
        response
    }

    fn issue_refresh_token(&mut self, sid: &str, grant: &Grant<'_>) -> String {
        let expires = self.now() + REFRESH_TOKEN_LIFETIME;
        let claims = json!({
            "exp": expires, "iat": self.now(), "jti": random_text(36), "iss": self.issuer, "aud": self.issuer,
            "sub": grant.user.subject, "typ": "Refresh", "azp": self.client_id, "sid": sid, "scope": grant.scope,
        });
        let token = self.refresh_key.token(&self.refresh_key.header("JWT").to_string(), &claims.to_string());
        let record =
            RefreshToken { sid: sid.to_owned(), scope: grant.scope.to_owned(), expires, used: false };
        self.refresh_tokens.insert(token.clone(), record);
        token
    }

    /// The claims of an access token, before any forgery.
    pub fn access_claims(&self, grant: &Grant<'_>) -> Value {
        let mut claims = self.common_claims(grant, "Bearer");
        claims.insert("jti".into(), json!(format!("onrtac:{}", random_text(36))));
        claims.insert("scope".into(), json!(grant.scope));
        claims.extend(grant.user.profile());
        if grant.sid.is_none() {
            claims.insert("client_id".into(), json!(self.client_id));
        }
        Value::Object(claims)
    }

    /// The claims of an ID token, before any forgery.
    pub fn id_claims(&self, grant: &Grant<'_>, access_token: &str) -> Value {
        let mut claims = self.common_claims(grant, "ID");
        claims.insert("jti".into(), json!(random_text(36)));
        // OIDC Core 3.1.3.6: the left half of the hash, of the algorithm that signs.
        let hash = Sha256::digest(access_token);
        let half: Vec<u8> = hash.iter().take(16).copied().collect();
        claims.insert("at_hash".into(), json!(URL_SAFE_NO_PAD.encode(half)));
        if let Some(nonce) = grant.nonce {
            claims.insert("nonce".into(), json!(nonce));
        }
        claims.extend(grant.user.profile());
        Value::Object(claims)
    }

    fn common_claims(&self, grant: &Grant<'_>, typ: &str) -> Map<String, Value> {
        let now = self.now();
        let claims = json!({
            "exp": now + ACCESS_TOKEN_LIFETIME, "iat": now, "iss": self.issuer, "aud": self.client_id,
            "sub": grant.user.subject, "typ": typ, "azp": self.client_id, "acr": "1",
        });
        let mut claims = match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        };
        if let Some(sid) = grant.sid {
            claims.insert("sid".into(), json!(sid));
        }
        if let Some(auth_time) = grant.auth_time {
            claims.insert("auth_time".into(), json!(auth_time));
        }
        claims
    }

    /// What UserInfo says of an access token's owner.
    pub fn userinfo(&self, user: &User) -> Value {
        let mut claims = Map::new();
        claims.insert("sub".into(), json!(user.subject));
        claims.extend(user.profile());
        Value::Object(claims)
    }

    /// Ends a session everywhere.
    pub fn end_session(&mut self, sid: &str) {
        self.sessions.remove(sid);
        self.browsers.retain(|_, other| other != sid);
        self.refresh_tokens.retain(|_, token| token.sid != sid);
        self.access_tokens.retain(|_, (_, _, other)| other.as_deref() != Some(sid));
    }

    pub fn discovery(&self) -> Value {
        let issuer = &self.issuer;
        let base = format!("{issuer}/protocol/openid-connect");
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/auth"),
            "token_endpoint": format!("{base}/token"),
            "userinfo_endpoint": format!("{base}/userinfo"),
            "end_session_endpoint": format!("{base}/logout"),
            "jwks_uri": format!("{base}/certs"),
            "revocation_endpoint": format!("{base}/revoke"),
            "grant_types_supported": ["authorization_code", "client_credentials", "password", "refresh_token"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "userinfo_signing_alg_values_supported": ["none"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": SCOPES,
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "name", "preferred_username", "email"],
            "claim_types_supported": ["normal"],
            "claims_parameter_supported": false,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "backchannel_logout_supported": false,
        })
    }
}

/// Scopes that the client has.
pub(super) const SCOPES: [&str; 5] = ["openid", "profile", "email", "basic", "offline_access"];
