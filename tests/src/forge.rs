//! Forged tokens with one difference from a good one.

use oidc_gate_testkit::provider::Forgery;
use serde_json::Value;

/// A claim has this value.
pub fn claim(name: &'static str, value: impl Into<Value>) -> Forgery {
    let value = value.into();
    Forgery::new().claims(move |claims| claims[name] = value.clone())
}

/// A claim is absent.
pub fn without_claim(name: &'static str) -> Forgery {
    Forgery::new().claims(move |claims| remove(claims, name))
}

/// A member of the header has this value.
pub fn header(name: &'static str, value: impl Into<Value>) -> Forgery {
    let value = value.into();
    Forgery::new().header(move |header| header[name] = value.clone())
}

/// A member of the header is absent.
pub fn without_header(name: &'static str) -> Forgery {
    Forgery::new().header(move |header| remove(header, name))
}

/// Removes a member of an object.
pub fn remove(object: &mut Value, name: &str) {
    if let Some(members) = object.as_object_mut() {
        members.remove(name);
    }
}

/// The token with another character in its signature. The last character may have unused bits; this one has none.
///
/// # Panics
/// If it is no token.
pub fn spoiled(token: &str) -> String {
    let at = token.rfind('.').expect("a token has a signature") + 20;
    let (before, after) = token.split_at(at);
    let other = if after.starts_with('A') { "B" } else { "A" };
    format!("{before}{other}{}", &after[1..])
}
