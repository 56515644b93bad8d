//! The environment of the provider's model: the randomness of the seed, and the ledger, which learns what is issued.

use std::rc::Rc;

use oidc_gate_core::encoding::base64url;
use oidc_gate_provider_model::{Environment, Kind};
use serde_json::Value;

use super::{CLIENT, Key};
use crate::executor::Moment;
use crate::ledger::Ledger;
use crate::rng::Rng;

/// The claims of ID and access tokens here. Others are left out, so that a seed keeps its course.
const MAPPED: [&str; 14] = [
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "exp",
    "groups",
    "iat",
    "iss",
    "jti",
    "nonce",
    "preferred_username",
    "sid",
    "sub",
    "typ",
];

/// The model's environment. Its codes and tokens have readable numbers, for the trace.
pub struct Simulated {
    /// Randomness.
    pub rng: Rng,
    /// The time.
    pub now: Moment,
    ledger: Rc<Ledger>,
    serial: u64,
}

impl Simulated {
    /// An environment before the first event.
    pub fn new(rng: Rng, ledger: Rc<Ledger>) -> Self {
        Self { rng, now: Moment::ZERO, ledger, serial: 0 }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

impl Environment for Simulated {
    type Key = Key;

    fn random_text(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length * 3 / 4];
        self.rng.fill(&mut bytes);
        base64url(bytes)
    }

    fn sign(&mut self, kind: Kind, key: &Key, mut claims: Value) -> String {
        if !matches!(kind, Kind::Access | Kind::Id) {
            return key.sign(kind.typ(), &claims);
        }
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|name, _| MAPPED.contains(&name.as_str()));
        }
        let token = key.sign(kind.typ(), &claims);
        self.ledger.issued(&token, kind, &claims, self.now);
        token
    }

    fn refresh_token(&mut self, claims: Value, spent: Option<&str>) -> Option<String> {
        let (chain, number) = self.ledger.next_in_chain(spent?)?;
        let token = format!("refresh.{chain}.{number}.{}", self.random_text(24));
        self.ledger.refresh_token(&token, chain, number, claims["sid"].as_str().unwrap_or_default());
        Some(token)
    }

    /// Numbered in order. The tokens of one response have the same number.
    fn jti(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Access => format!("jti-{}", self.next_serial()),
            Kind::Id => format!("jti-{}", self.serial),
            Kind::Logout => format!("logout-{}", self.next_serial()),
            Kind::Callback => format!("admin-{}", self.next_serial()),
        }
    }

    fn code(&mut self, sid: &str) -> String {
        let chain = self.next_serial();
        let code = format!("{}.{sid}.{CLIENT}", self.random_text(24));
        self.ledger.code_issued(&code, sid, chain);
        code
    }

    fn session_opened(&mut self, sid: &str, subject: &str) {
        self.ledger.session_opened(sid, subject, self.now);
    }

    fn session_ended(&mut self, sid: &str) {
        self.ledger.session_ended(sid, self.now);
    }

    fn client_detached(&mut self, sid: &str) {
        self.ledger.session_weakened(sid, self.now);
    }
}
