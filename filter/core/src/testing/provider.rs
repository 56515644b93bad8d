//! An OpenID provider in memory: metadata, keys and a token endpoint that can be told to answer wrongly.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Value, json};

pub use super::config::ISSUER;
use crate::host::{Callout, CalloutError, CalloutReply};
use crate::jose::algorithm::Algorithm;
use crate::jose::testing::{TestKey, jwks, sign};

type Override = Box<dyn Fn() -> Result<CalloutReply, CalloutError>>;

pub struct MemoryProvider {
    pub keys: RefCell<Value>,
    pub metadata: RefCell<Value>,
    /// Claims of the next ID token. The test sets `nonce` from the redirect.
    pub id_token: RefCell<Value>,
    /// Replaces the encoded ID token.
    pub raw_id_token: RefCell<Option<String>>,
    /// Replaces the whole reply of the token endpoint.
    pub token_override: RefCell<Option<Override>>,
    /// Additional claims of the ID token of a refresh; `null` removes a claim.
    pub refreshed: RefCell<Value>,
    /// The UserInfo response.
    pub userinfo: RefCell<Value>,
    /// Members that are added to token responses, or replace existing ones.
    pub token_members: RefCell<Value>,
    /// The only valid refresh token.
    pub refresh_token: RefCell<String>,
    /// Whether introspection reports tokens as active.
    pub active: Cell<bool>,
    pub introspections: Cell<u32>,
    /// Replaces the whole reply of the introspection endpoint.
    pub introspection_override: RefCell<Option<CalloutReply>>,
    pub revoked: RefCell<Vec<String>>,
    pub token_requests: RefCell<Vec<HashMap<String, String>>>,
    pub discovery_requests: Cell<u32>,
    pub jwks_requests: Cell<u32>,
    pub down: Cell<bool>,
}

impl MemoryProvider {
    pub fn new(now: u64) -> Rc<Self> {
        let at = |path: &str| format!("{ISSUER}/protocol/openid-connect/{path}");
        Rc::new(Self {
            keys: RefCell::new(jwks()),
            metadata: RefCell::new(json!({
                "issuer": ISSUER,
                "authorization_endpoint": at("auth"),
                "token_endpoint": at("token"),
                "jwks_uri": at("certs"),
                "userinfo_endpoint": at("userinfo"),
                "end_session_endpoint": at("logout"),
                "revocation_endpoint": at("revoke"),
                "introspection_endpoint": at("token/introspect"),
                "authorization_response_iss_parameter_supported": true,
                "code_challenge_methods_supported": ["plain", "S256"],
            })),
            id_token: RefCell::new(json!({
                "iss": ISSUER, "sub": "s-1", "aud": "mlflow", "azp": "mlflow", "typ": "ID", "iat": now,
                "exp": now + 300, "sid": "sid-1", "preferred_username": "mona", "groups": ["/mlflow_users"],
            })),
            raw_id_token: RefCell::default(),
            token_override: RefCell::default(),
            refreshed: RefCell::new(json!({})),
            userinfo: RefCell::new(json!({"sub": "s-1"})),
            token_members: RefCell::new(json!({})),
            refresh_token: RefCell::new("refresh-secret-0".into()),
            active: Cell::new(true),
            introspections: Cell::default(),
            introspection_override: RefCell::default(),
            revoked: RefCell::default(),
            token_requests: RefCell::default(),
            discovery_requests: Cell::default(),
            jwks_requests: Cell::default(),
            down: Cell::default(),
        })
    }

    pub fn answer(&self, callout: &Callout, now: u64) -> Result<CalloutReply, CalloutError> {
        if self.down.get() {
            return Ok(CalloutReply { status: 503, ..CalloutReply::default() });
        }
        let path = &callout.headers.iter().find(|(name, _)| name == ":path").unwrap().1;
        if path.ends_with("/.well-known/openid-configuration") {
            self.discovery_requests.set(self.discovery_requests.get() + 1);
            return Ok(reply(200, &self.metadata.borrow()));
        }
        if path.ends_with("/certs") {
            self.jwks_requests.set(self.jwks_requests.get() + 1);
            return Ok(reply(200, &self.keys.borrow()));
        }
        let form: HashMap<String, String> = form_urlencoded::parse(&callout.body).into_owned().collect();
        if path.ends_with("/introspect") {
            self.introspections.set(self.introspections.get() + 1);
            if let Some(answer) = &*self.introspection_override.borrow() {
                return Ok(answer.clone());
            }
            return Ok(reply(200, &json!({"active": self.active.get()})));
        }
        if path.ends_with("/userinfo") {
            return Ok(reply(200, &self.userinfo.borrow()));
        }
        if path.ends_with("/revoke") {
            self.revoked.borrow_mut().push(form["token"].clone());
            return Ok(CalloutReply { status: 200, ..CalloutReply::default() });
        }
        assert!(path.ends_with("/token"), "{path}");
        self.token_requests.borrow_mut().push(form.clone());
        if let Some(answer) = &*self.token_override.borrow() {
            return answer();
        }
        let mut claims = self.id_token.borrow().clone();
        if form["grant_type"] == "refresh_token" {
            if form["refresh_token"] != *self.refresh_token.borrow() {
                return Ok(reply(400, &json!({"error": "invalid_grant"})));
            }
            claims.as_object_mut().unwrap().remove("nonce");
            claims["iat"] = now.into();
            claims["exp"] = (now + 300).into();
            change(&mut claims, self.refreshed.borrow().clone());
        }
        let id_token = self.raw_id_token.borrow().clone().unwrap_or_else(|| self.signed(claims));
        // Each refresh token works once.
        let refresh_token = format!("refresh-secret-{}", self.token_requests.borrow().len());
        self.refresh_token.replace(refresh_token.clone());
        let mut body = json!({
            "token_type": "Bearer", "access_token": "at-secret", "id_token": id_token, "expires_in": 300,
            "refresh_token": refresh_token,
        });
        body.as_object_mut().unwrap().extend(self.token_members.borrow().as_object().unwrap().clone());
        Ok(reply(200, &body))
    }

    /// The token response to a refresh when the provider's clock shows `now`; `members` are added.
    pub fn refreshed_at(&self, now: u64, members: Value) -> CalloutReply {
        let mut claims = self.id_token.borrow().clone();
        claims["iat"] = now.into();
        claims["exp"] = (now + 300).into();
        let id_token = self.signed(claims);
        let mut body =
            json!({"token_type": "Bearer", "access_token": "a", "expires_in": 300, "id_token": id_token});
        change(&mut body, members);
        reply(200, &body)
    }

    /// An ID token with these claims.
    pub fn signed(&self, claims: Value) -> String {
        sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), json!({"typ": "JWT"}), claims)
    }

    /// The number of refresh requests.
    pub fn refreshes(&self) -> usize {
        let requests = self.token_requests.borrow();
        requests.iter().filter(|form| form["grant_type"] == "refresh_token").count()
    }

    /// A valid logout token with these changes; `null` removes a claim.
    pub fn logout_token(&self, now: u64, changes: Value) -> String {
        self.logout_token_signed_by(TestKey::Rsa.key_id(), now, changes)
    }

    /// The same with this key id.
    pub fn logout_token_signed_by(&self, key_id: &str, now: u64, changes: Value) -> String {
        self.logout_token_with(key_id, json!({"typ": "logout+jwt"}), now, changes)
    }

    /// The same with this header.
    pub fn logout_token_with(&self, key_id: &str, header: Value, now: u64, changes: Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": "mlflow", "sub": "s-1", "sid": "sid-1", "jti": format!("jti-{now}"), "iat": now,
            "exp": now + 120, "typ": "Logout",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}, "revoke_offline_access": true},
        });
        change(&mut claims, changes);
        sign(Algorithm::Rs256, Some(key_id), header, claims)
    }

    /// Keycloak's administrative message with these changes.
    pub fn admin_action(&self, now: u64, action: &str, changes: Value) -> String {
        let mut claims = json!({
            "id": format!("id-{now}-{action}"), "expiration": now + 30, "resource": "mlflow", "action": action,
            "notBefore": now,
        });
        change(&mut claims, changes);
        sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), json!({"typ": "JWT"}), claims)
    }

    /// A valid bearer token with these changes.
    pub fn access_token(&self, now: u64, changes: Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "sub": "s-1", "aud": "mlflow", "typ": "Bearer", "iat": now, "exp": now + 300,
            "preferred_username": "mona", "groups": ["/mlflow_users"],
        });
        change(&mut claims, changes);
        sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), json!({"typ": "at+jwt"}), claims)
    }
}

fn change(claims: &mut Value, changes: Value) {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
}

pub fn reply(status: u16, body: &Value) -> CalloutReply {
    CalloutReply {
        status,
        headers: vec![("content-type".into(), b"application/json".to_vec())],
        body: body.to_string().into_bytes(),
    }
}
