//! The content of the provider's tokens and documents.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::realm::{Session, Token};
use crate::{Environment, Realm, Time, User};

/// The scopes of the client.
pub(crate) const SCOPES: [&str; 5] = ["openid", "profile", "email", "basic", "offline_access"];

/// How long an offline session may stay unused, in seconds.
const OFFLINE_IDLE: i64 = 2_592_000;
/// Lifetime of logout tokens and callbacks, in seconds.
const LOGOUT_TOKEN_LIFETIME: i64 = 120;
const CALLBACK_LIFETIME: i64 = 30;

/// The event of OpenID Connect Back-Channel Logout 1.0 2.4.
pub const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An ID token.
    Id,
    /// An access token.
    Access,
    /// A logout token.
    Logout,
    /// A message to the client's `adminUrl`.
    Callback,
}

impl Kind {
    /// `typ` in the header.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Logout => "logout+jwt",
            Self::Id | Self::Callback => "JWT",
        }
    }

    /// The algorithm in a realm whose ID tokens have this one.
    pub(crate) const fn algorithm(self, of_realm: &'static str) -> &'static str {
        if matches!(self, Self::Callback) { "RS256" } else { of_realm }
    }
}

/// Whom a token is for.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
    /// The user.
    pub user: &'a User,
    /// Absent for client_credentials.
    pub sid: Option<&'a str>,
    /// When the user signed in.
    pub auth_time: Option<Time>,
    /// The `nonce` of the authorization request.
    pub nonce: Option<&'a str>,
    /// The scope.
    pub scope: &'a str,
    /// The code or refresh token that was exchanged.
    pub spent: Option<&'a str>,
}

impl<'a> Holder<'a> {
    /// As for a grant without a browser.
    pub const fn new(user: &'a User, sid: Option<&'a str>, scope: &'a str) -> Self {
        Self { user, sid, auth_time: None, nonce: None, scope, spent: None }
    }
}

impl<E: Environment> Realm<E> {
    /// A token response.
    pub fn token_response(&mut self, holder: &Holder<'_>) -> Value {
        let claims = self.access_claims(holder);
        let access_token = self.sign(Kind::Access, claims.clone());
        self.remember_access_token(&access_token, holder, claims);
        let mut response = json!({
            "access_token": access_token, "expires_in": self.lifespan(holder.sid), "refresh_expires_in": 0,
            "token_type": "Bearer", "not-before-policy": self.not_before.max(holder.user.not_before),
            "scope": holder.scope,
        });
        if holder.scope.split(' ').any(|scope| scope == "openid") {
            let claims = self.id_claims(holder, &access_token);
            let id_token = self.sign(Kind::Id, claims);
            self.id_tokens.insert(id_token.clone(), holder.sid.map(ToOwned::to_owned));
            response["id_token"] = json!(id_token);
        }
        if let Some(sid) = holder.sid {
            if self.settings.use_refresh_tokens
                && let Some((token, expires_in)) = self.issue_refresh_token(sid, holder)
            {
                response["refresh_expires_in"] = json!(expires_in);
                response["refresh_token"] = json!(token);
            }
            response["session_state"] = json!(sid);
        }
        response
    }

    /// Makes an access token valid.
    pub fn remember_access_token(&mut self, token: &str, holder: &Holder<'_>, claims: Value) {
        let record = self.record(holder, self.lifespan(holder.sid), claims);
        self.access_tokens.insert(token.to_owned(), record);
    }

    fn record(&self, holder: &Holder<'_>, lifetime: i64, claims: Value) -> Token {
        let session = holder.sid.and_then(|sid| self.sessions.get(sid));
        Token {
            username: holder.user.username.clone(),
            scope: holder.scope.to_owned(),
            sid: holder.sid.map(ToOwned::to_owned),
            epoch: session.map_or(0, |session| session.epoch),
            offline: session.is_some_and(|session| session.offline),
            issued: self.now,
            expires: self.now.plus_secs(lifetime),
            claims,
            uses: 0,
        }
    }

    /// Lifetime of ID and access tokens in seconds. It never exceeds the rest of the session.
    fn lifespan(&self, sid: Option<&str>) -> i64 {
        let session = sid.and_then(|sid| self.sessions.get(sid)).filter(|session| !session.offline);
        self.settings.access_token_lifespan.min(session.map_or(i64::MAX, |session| self.left(session)))
    }

    /// The seconds until a session ends although it is used.
    fn left(&self, session: &Session) -> i64 {
        self.now.secs_until(session.started.plus_secs(self.settings.sso_session_max_lifespan))
    }

    /// The token, and its remaining lifetime in seconds.
    fn issue_refresh_token(&mut self, sid: &str, holder: &Holder<'_>) -> Option<(String, i64)> {
        let session = self.sessions.get(sid);
        let offline = session.is_some_and(|session| session.offline);
        let lifetime = match session {
            Some(session) if !offline => self.settings.sso_session_idle_timeout.min(self.left(session)),
            _ => OFFLINE_IDLE,
        };
        let claims = json!({
            "exp": self.now.plus_secs(lifetime).secs(), "iat": self.now.secs(), "iss": self.issuer, "aud": self.issuer,
            "sub": holder.user.subject, "typ": if offline { "Offline" } else { "Refresh" }, "azp": self.client.id,
            "sid": sid, "scope": holder.scope,
        });
        let token = self.environment.refresh_token(claims.clone(), holder.spent)?;
        let record = self.record(holder, lifetime, claims);
        self.refresh_tokens.insert(token.clone(), record);
        Some((token, lifetime))
    }

    /// The claims of an access token.
    pub fn access_claims(&mut self, holder: &Holder<'_>) -> Value {
        let mut claims = self.common_claims(holder, Kind::Access, "Bearer");
        claims.insert("scope".into(), json!(holder.scope));
        claims.extend(holder.user.profile());
        if holder.sid.is_none() {
            claims.insert("client_id".into(), json!(self.client.id));
        }
        Value::Object(claims)
    }

    /// The claims of an ID token.
    pub fn id_claims(&mut self, holder: &Holder<'_>, access_token: &str) -> Value {
        let mut claims = self.common_claims(holder, Kind::Id, "ID");
        // OIDC Core 3.1.3.6: the left half of the hash that belongs to the signature algorithm.
        let hash = Sha256::digest(access_token);
        claims.insert("at_hash".into(), json!(URL_SAFE_NO_PAD.encode(&hash[..16])));
        if let Some(nonce) = holder.nonce {
            claims.insert("nonce".into(), json!(nonce));
        }
        claims.extend(holder.user.profile());
        Value::Object(claims)
    }

    fn common_claims(&mut self, holder: &Holder<'_>, kind: Kind, typ: &str) -> Map<String, Value> {
        let now = self.now.secs();
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        set("exp", json!(now.saturating_add(self.lifespan(holder.sid))));
        set("iat", json!(now));
        set("jti", json!(self.environment.jti(kind)));
        set("iss", json!(self.issuer));
        set("aud", json!(self.client.id));
        set("sub", json!(holder.user.subject));
        set("typ", json!(typ));
        set("azp", json!(self.client.id));
        set("acr", json!("1"));
        if let Some(sid) = holder.sid {
            set("sid", json!(sid));
        }
        if let Some(auth_time) = holder.auth_time {
            set("auth_time", json!(auth_time.secs()));
        }
        claims
    }

    /// The claims of a logout token in Keycloak's form.
    pub fn logout_claims(&mut self, subject: Option<&str>, sid: Option<&str>) -> Value {
        let now = self.now.secs();
        let mut claims = json!({
            "exp": now + LOGOUT_TOKEN_LIFETIME, "iat": now, "jti": self.environment.jti(Kind::Logout),
            "iss": self.issuer, "aud": self.client.id, "typ": "Logout",
            // Keycloak adds this boolean as a second member.
            "events": {LOGOUT_EVENT: {}, "revoke_offline_access": true},
        });
        if let Some(subject) = subject {
            claims["sub"] = json!(subject);
        }
        if let Some(sid) = sid {
            claims["sid"] = json!(sid);
        }
        claims
    }

    /// The logout token for a session of this user. It names the session only if the settings say so.
    pub fn logout_token(&mut self, subject: &str, sid: &str) -> String {
        let named = self.settings.backchannel_logout_session_required.then_some(sid);
        let claims = self.logout_claims(Some(subject), named);
        self.sign(Kind::Logout, claims)
    }

    /// The claims of the token that is posted to `<adminUrl>/k_…`. It has no `iss` or `aud`, and always uses RS256.
    pub fn callback_claims(&mut self, action: &str, not_before: i64) -> Value {
        json!({
            "id": self.environment.jti(Kind::Callback), "expiration": self.now.secs() + CALLBACK_LIFETIME,
            "resource": self.client.id, "action": action, "notBefore": not_before,
        })
    }

    pub(crate) fn discovery(&self) -> Value {
        let issuer = &self.issuer;
        let base = format!("{issuer}/protocol/openid-connect");
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/auth"),
            "token_endpoint": format!("{base}/token"),
            "introspection_endpoint": format!("{base}/token/introspect"),
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
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": SCOPES,
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "name", "preferred_username", "email"],
            "claim_types_supported": ["normal"],
            "claims_parameter_supported": false,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
        })
    }
}
