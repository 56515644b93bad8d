//! The environment of the provider's model: the system's randomness, real keys, and the forgeries of the test.

use std::collections::HashMap;

use oidc_gate_provider_model::{Environment, Kind};
use serde_json::{Value, json};

use super::misbehaviour::Forgery;
use super::{SigningKey, random_bytes, random_text};

/// The environment.
pub(super) struct Kit {
    /// Applied to the tokens of a kind. Callbacks to the `adminUrl` are forged like logout tokens.
    pub forgeries: HashMap<Kind, Forgery>,
    refresh_key: SigningKey,
}

impl Kit {
    pub fn new() -> Self {
        Self { forgeries: HashMap::new(), refresh_key: SigningKey::Hs512(random_bytes::<64>().to_vec()) }
    }
}

impl Environment for Kit {
    type Key = SigningKey;

    fn random_text(&mut self, length: usize) -> String {
        random_text(length)
    }

    fn sign(&mut self, kind: Kind, key: &SigningKey, claims: Value) -> String {
        // A forgery of logout tokens is one of the Admin URL's messages, too.
        let others = (kind == Kind::Callback).then_some(Kind::Logout);
        let forgery = self.forgeries.get(&kind).or_else(|| self.forgeries.get(&others?));
        let forgery = forgery.cloned().unwrap_or_default();
        forgery.mint(key, kind.typ(), claims)
    }

    fn refresh_token(&mut self, mut claims: Value, _: Option<&str>) -> Option<String> {
        claims["jti"] = json!(random_text(36));
        Some(self.refresh_key.token(&self.refresh_key.header("JWT").to_string(), &claims.to_string()))
    }
}
