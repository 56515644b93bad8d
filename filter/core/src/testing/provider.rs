//! An OpenID provider in memory: metadata, keys and a token endpoint that can be told to answer wrongly.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::host::{Callout, CalloutError, CalloutReply};
use crate::jose::algorithm::Algorithm;
use crate::jose::testing::{TestKey, jwks, sign};

pub const ISSUER: &str = "https://idp.example/realms/mlflow";

type Override = Box<dyn Fn() -> Result<CalloutReply, CalloutError>>;

pub struct MemoryProvider {
    pub keys: RefCell<Value>,
    pub metadata: RefCell<Value>,
    /// Claims of the next ID token; `nonce` is filled in by the test from the redirect.
    pub id_token: RefCell<Value>,
    /// The raw ID token instead.
    pub raw_id_token: RefCell<Option<String>>,
    /// The whole answer of the token endpoint instead.
    pub token_override: RefCell<Option<Override>>,
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
                "authorization_response_iss_parameter_supported": true,
                "code_challenge_methods_supported": ["plain", "S256"],
            })),
            id_token: RefCell::new(json!({
                "iss": ISSUER, "sub": "s-1", "aud": "mlflow", "azp": "mlflow", "typ": "ID", "iat": now,
                "exp": now + 300, "sid": "sid-1", "preferred_username": "mona", "groups": ["/mlflow_users"],
            })),
            raw_id_token: RefCell::default(),
            token_override: RefCell::default(),
            token_requests: RefCell::default(),
            discovery_requests: Cell::default(),
            jwks_requests: Cell::default(),
            down: Cell::default(),
        })
    }

    pub fn answer(&self, callout: &Callout) -> Result<CalloutReply, CalloutError> {
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
        assert!(path.ends_with("/token"), "{path}");
        self.token_requests.borrow_mut().push(form_urlencoded::parse(&callout.body).into_owned().collect());
        if let Some(answer) = &*self.token_override.borrow() {
            return answer();
        }
        let id_token = self.raw_id_token.borrow().clone().unwrap_or_else(|| {
            sign(
                Algorithm::Rs256,
                Some(TestKey::Rsa.key_id()),
                json!({"typ": "JWT"}),
                self.id_token.borrow().clone(),
            )
        });
        let body = json!({"token_type": "Bearer", "access_token": "at-secret", "id_token": id_token, "expires_in": 300});
        Ok(reply(200, &body))
    }

    /// A bearer token with these changes to good claims.
    pub fn access_token(&self, now: u64, changes: Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "sub": "s-1", "aud": "mlflow", "typ": "Bearer", "iat": now, "exp": now + 300,
            "preferred_username": "mona", "groups": ["/mlflow_users"],
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), json!({"typ": "at+jwt"}), claims)
    }
}

pub fn reply(status: u16, body: &Value) -> CalloutReply {
    CalloutReply {
        status,
        headers: vec![("content-type".into(), b"application/json".to_vec())],
        body: body.to_string().into_bytes(),
    }
}
