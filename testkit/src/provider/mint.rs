//! Creates the provider's tokens and documents.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::misbehaviour::Forgery;
use super::random_text;
use super::realm::{AccessToken, Realm, RefreshToken};
use super::user::User;

/// The scopes of the client.
pub(super) const SCOPES: [&str; 5] = ["openid", "profile", "email", "basic", "offline_access"];

/// How long an offline session may stay unused, in seconds.
const OFFLINE_IDLE: i64 = 2_592_000;
/// Lifetime of logout tokens and callbacks, in seconds.
const LOGOUT_TOKEN_LIFETIME: i64 = 120;
const CALLBACK_LIFETIME: i64 = 30;

/// The event of OpenID Connect Back-Channel Logout 1.0 2.4.
pub(super) const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Whom a token is for.
pub(super) struct Holder<'a> {
    pub user: &'a User,
    /// Absent for client_credentials.
    pub sid: Option<&'a str>,
    pub auth_time: Option<i64>,
    pub nonce: Option<&'a str>,
    pub scope: &'a str,
}

impl Realm {
    /// A token response in Keycloak's form.
    pub fn token_response(&mut self, holder: &Holder<'_>) -> Value {
        let key = self.keys.active(self.algorithm);
        let access_claims = self.access_claims(holder);
        let access_token = self.misbehaviour.access_token.mint(&key, "at+jwt", access_claims.clone());
        self.remember_access_token(&access_token, holder, access_claims);
        let mut response = json!({
            "access_token": access_token, "expires_in": self.lifespan(holder.sid), "refresh_expires_in": 0,
            "token_type": "Bearer", "not-before-policy": self.not_before.max(holder.user.not_before),
            "scope": holder.scope,
        });
        if holder.scope.split(' ').any(|scope| scope == "openid") {
            let id_claims = self.id_claims(holder, &access_token);
            let id_token = self.misbehaviour.id_token.mint(&key, "JWT", id_claims);
            self.id_tokens.insert(id_token.clone(), holder.sid.map(ToOwned::to_owned));
            response["id_token"] = json!(id_token);
        }
        if let Some(sid) = holder.sid {
            if self.settings.use_refresh_tokens {
                let (token, expires_in) = self.issue_refresh_token(sid, holder);
                response["refresh_expires_in"] = json!(expires_in);
                response["refresh_token"] = json!(token);
            }
            response["session_state"] = json!(sid);
        }
        response
    }

    pub fn remember_access_token(&mut self, token: &str, holder: &Holder<'_>, claims: Value) {
        let session = holder.sid.and_then(|sid| self.sessions.get(sid));
        let record = AccessToken {
            username: holder.user.username.clone(),
            scope: holder.scope.to_owned(),
            sid: holder.sid.map(ToOwned::to_owned),
            epoch: session.map_or(0, |session| session.epoch),
            issued: self.now(),
            expires: self.now() + self.lifespan(holder.sid),
            claims,
        };
        self.access_tokens.insert(token.to_owned(), record);
    }

    /// Lifetime of ID and access tokens in seconds. It never exceeds the rest of the session.
    fn lifespan(&self, sid: Option<&str>) -> i64 {
        let session = sid.and_then(|sid| self.sessions.get(sid)).filter(|session| !session.offline);
        let left = session.map_or(i64::MAX, |session| {
            session.started.saturating_add(self.settings.sso_session_max_lifespan) - self.now()
        });
        self.settings.access_token_lifespan.min(left)
    }

    /// The token, and its remaining lifetime in seconds.
    fn issue_refresh_token(&mut self, sid: &str, holder: &Holder<'_>) -> (String, i64) {
        let now = self.now();
        let session = self.sessions.get(sid);
        let offline = session.is_some_and(|session| session.offline);
        let expires = match session {
            Some(session) if !offline => self.session_ends(session),
            _ => now + OFFLINE_IDLE,
        };
        let epoch = session.map_or(0, |session| session.epoch);
        let claims = json!({
            "exp": expires, "iat": now, "jti": random_text(36), "iss": self.issuer, "aud": self.issuer,
            "sub": holder.user.subject, "typ": if offline { "Offline" } else { "Refresh" },
            "azp": self.setup.client_id, "sid": sid, "scope": holder.scope,
        });
        let token = self.refresh_key.token(&self.refresh_key.header("JWT").to_string(), &claims.to_string());
        let record = RefreshToken {
            sid: sid.to_owned(),
            scope: holder.scope.to_owned(),
            issued: now,
            expires,
            epoch,
            offline,
            uses: 0,
        };
        self.refresh_tokens.insert(token.clone(), record);
        (token, expires - now)
    }

    /// The claims of an access token, before a forgery is applied.
    pub fn access_claims(&self, holder: &Holder<'_>) -> Value {
        let mut claims = self.common_claims(holder, "Bearer");
        claims.insert("jti".into(), json!(format!("onrtac:{}", random_text(36))));
        claims.insert("scope".into(), json!(holder.scope));
        claims.extend(holder.user.profile());
        if holder.sid.is_none() {
            claims.insert("client_id".into(), json!(self.setup.client_id));
        }
        Value::Object(claims)
    }

    /// The claims of an ID token, before a forgery is applied.
    pub fn id_claims(&self, holder: &Holder<'_>, access_token: &str) -> Value {
        let mut claims = self.common_claims(holder, "ID");
        claims.insert("jti".into(), json!(random_text(36)));
        // OIDC Core 3.1.3.6: the left half of the hash that belongs to the signature algorithm.
        let hash = Sha256::digest(access_token);
        let half: Vec<u8> = hash.iter().take(16).copied().collect();
        claims.insert("at_hash".into(), json!(URL_SAFE_NO_PAD.encode(half)));
        if let Some(nonce) = holder.nonce {
            claims.insert("nonce".into(), json!(nonce));
        }
        claims.extend(holder.user.profile());
        Value::Object(claims)
    }

    fn common_claims(&self, holder: &Holder<'_>, typ: &str) -> Map<String, Value> {
        let now = self.now();
        let claims = json!({
            "exp": now + self.lifespan(holder.sid), "iat": now, "iss": self.issuer, "aud": self.setup.client_id,
            "sub": holder.user.subject, "typ": typ, "azp": self.setup.client_id, "acr": "1",
        });
        let mut claims = match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        };
        if let Some(sid) = holder.sid {
            claims.insert("sid".into(), json!(sid));
        }
        if let Some(auth_time) = holder.auth_time {
            claims.insert("auth_time".into(), json!(auth_time));
        }
        claims
    }

    /// A logout token in Keycloak's form, with `forgery` applied. It uses the ID token's algorithm.
    pub fn logout_token(&self, subject: Option<&str>, sid: Option<&str>, forgery: &Forgery) -> String {
        let now = self.now();
        let mut claims = json!({
            "exp": now + LOGOUT_TOKEN_LIFETIME, "iat": now, "jti": random_text(36), "iss": self.issuer,
            "aud": self.setup.client_id, "typ": "Logout",
            // Keycloak adds this boolean as a second member.
            "events": {LOGOUT_EVENT: {}, "revoke_offline_access": true},
        });
        if let Some(subject) = subject {
            claims["sub"] = json!(subject);
        }
        if let Some(sid) = sid {
            claims["sid"] = json!(sid);
        }
        forgery.mint(&self.keys.active(self.algorithm), "logout+jwt", claims)
    }

    /// The token that is posted to `<adminUrl>/k_…`, with `forgery` applied. It has no `iss` or `aud`, and always uses
    /// RS256.
    pub fn callback(&self, action: &str, not_before: i64, forgery: &Forgery) -> String {
        let claims = json!({
            "id": random_text(36), "expiration": self.now() + CALLBACK_LIFETIME,
            "resource": self.setup.client_id, "action": action, "notBefore": not_before,
        });
        forgery.mint(&self.keys.active("RS256"), "JWT", claims)
    }

    /// The UserInfo response for the owner of an access token.
    pub fn userinfo(&self, user: &User) -> Value {
        let mut claims = Map::new();
        claims.insert("sub".into(), json!(user.subject));
        claims.extend(user.profile());
        Value::Object(claims)
    }

    pub fn discovery(&self) -> Value {
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
