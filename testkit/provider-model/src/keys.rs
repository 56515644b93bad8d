//! The keys of a realm, and the JWK set with their public parts.

use serde_json::{Value, json};

/// A key that signs tokens.
pub trait Key {
    /// `alg`
    fn algorithm(&self) -> &'static str;

    /// The public key as a JWK.
    fn jwk(&self) -> Value;
}

/// The keys of a realm.
#[derive(Clone, Debug)]
pub struct KeyRing<K> {
    /// The signing keys in the JWK set, the newest first. The first key of each algorithm signs.
    pub listed: Vec<K>,
    /// JWKs that sign nothing.
    others: Vec<Value>,
}

impl<K: Key> KeyRing<K> {
    /// These signing keys, and `others` that are listed too.
    pub const fn new(listed: Vec<K>, others: Vec<Value>) -> Self {
        Self { listed, others }
    }

    /// The current signing key for `algorithm`.
    ///
    /// # Panics
    /// If the realm has none, which is a typing error in the test.
    pub fn active(&self, algorithm: &str) -> &K {
        match self.listed.iter().find(|key| key.algorithm() == algorithm) {
            Some(key) => key,
            None => panic!("this provider has no key for {algorithm}"),
        }
    }

    /// Signs with `new` keys from now on.
    pub fn rotate(&mut self, new: Vec<K>, old: OldKeys) {
        let before = std::mem::replace(&mut self.listed, new);
        if old == OldKeys::StayListed {
            self.listed.extend(before);
        }
    }

    /// The JWK set document.
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.others.iter().cloned().chain(self.listed.iter().map(Key::jwk)).collect();
        json!({"keys": keys})
    }
}

/// What a rotation does to the previous keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    /// Their tokens stay valid (Keycloak: passive).
    StayListed,
    /// Their tokens become invalid immediately (Keycloak: disabled).
    Removed,
}
