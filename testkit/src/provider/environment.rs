//! The environment of the provider's model: the system's randomness, real keys, and the forgeries of the test.

use oidc_gate_provider_model::{Environment, Kind};
use serde_json::{Value, json};

use super::misbehaviour::Forgery;
use super::random_text;
use super::{SigningKey, TokenKind, random_bytes};

/// The environment.
pub(super) struct Kit {
    id_token: Forgery,
    access_token: Forgery,
    logout_token: Forgery,
    refresh_key: SigningKey,
}

impl Kit {
    pub fn new() -> Self {
        Self {
            id_token: Forgery::new(),
            access_token: Forgery::new(),
            logout_token: Forgery::new(),
            refresh_key: SigningKey::Hs512(random_bytes::<64>().to_vec()),
        }
    }

    /// Forges the tokens of this kind.
    pub fn forge(&mut self, kind: TokenKind, forgery: Forgery) {
        match kind {
            TokenKind::Id => self.id_token = forgery,
            TokenKind::Access => self.access_token = forgery,
            TokenKind::Logout => self.logout_token = forgery,
        }
    }

    /// Ends all forgeries.
    pub fn behave(&mut self) {
        for kind in [TokenKind::Id, TokenKind::Access, TokenKind::Logout] {
            self.forge(kind, Forgery::new());
        }
    }
}

impl Environment for Kit {
    type Key = SigningKey;

    fn random_text(&mut self, length: usize) -> String {
        random_text(length)
    }

    fn sign(&mut self, kind: Kind, key: &SigningKey, claims: Value) -> String {
        let forgery = match kind {
            Kind::Id => &self.id_token,
            Kind::Access => &self.access_token,
            Kind::Logout | Kind::Callback => &self.logout_token,
        };
        forgery.mint(key, kind.typ(), claims)
    }

    fn refresh_token(&mut self, mut claims: Value, _: Option<&str>) -> Option<String> {
        claims["jti"] = json!(random_text(36));
        Some(self.refresh_key.token(&self.refresh_key.header("JWT").to_string(), &claims.to_string()))
    }
}
