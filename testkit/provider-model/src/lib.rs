//! # A Keycloak for tests
//!
//! One model of Keycloak 26 for all tests without a real one: the simulator calls it, and the test kit serves it over
//! HTTP. It imports nothing of the gate, so it cannot share a mistake with it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`realm`] | users, sessions, codes, tokens, and when each becomes invalid |
//! | [`request`], [`reply`] | what goes in and what comes out |
//! | `authorize`, `token`, `sessions` | the endpoints: sign-in, grants, existing tokens and sessions |
//! | [`mint`] | the content of tokens and documents |
//! | [`user`], [`settings`], [`keys`], [`time`] | parts of a realm |
//! | `pages` | HTML |
//!
//! There is no clock and no I/O: a request and the time go in, a response comes out. What differs between the two users
//! is in [`Environment`]: randomness, signatures, and the form of texts that clients must not interpret.

mod authorize;
pub mod keys;
pub mod mint;
mod pages;
pub mod realm;
pub mod reply;
pub mod request;
mod sessions;
pub mod settings;
pub mod time;
mod token;
pub mod user;

pub use authorize::COOKIE;
pub use keys::{Key, KeyRing, OldKeys};
pub use mint::{Holder, Kind};
pub use realm::{Client, Realm, Session};
pub use reply::{Content, Reply};
pub use request::{Endpoint, Grant, Request};
pub use settings::RealmSettings;
pub use time::Time;
pub use user::User;

use serde_json::Value;

/// The path of the realm, and of its issuer.
pub const REALM: &str = "/realms/mlflow";

/// What a realm needs from outside. It is also told what happens to sessions.
pub trait Environment {
    /// A key that signs tokens.
    type Key: Key;

    /// Random base64url text of this length.
    fn random_text(&mut self, length: usize) -> String;

    /// Signs a token of this kind.
    fn sign(&mut self, kind: Kind, key: &Self::Key, claims: Value) -> String;

    /// A refresh token with these claims, in exchange for the code or refresh token `spent`. `None` if the client gets
    /// none.
    fn refresh_token(&mut self, claims: Value, spent: Option<&str>) -> Option<String>;

    /// The `jti` of a token. In Keycloak's access tokens it begins with the kind of grant.
    fn jti(&mut self, kind: Kind) -> String {
        let random = self.random_text(36);
        if kind == Kind::Access { format!("onrtac:{random}") } else { random }
    }

    /// A code for a session.
    fn code(&mut self, sid: &str) -> String {
        format!("{}.{sid}.{}", self.random_text(36), self.random_text(36))
    }

    /// A session began.
    fn session_opened(&mut self, _sid: &str, _subject: &str) {}

    /// A session was ended.
    fn session_ended(&mut self, _sid: &str) {}

    /// The client lost a session that goes on without it.
    fn client_detached(&mut self, _sid: &str) {}
}
