//! The way of a request, end to end in memory. Natively only: Redis runs the gate's scripts here, and its Lua is C.
#![cfg(not(target_arch = "wasm32"))]

mod account;
mod announced;
mod assertion;
mod back_channel;
mod bearer;
mod by_hand;
mod callback;
mod claims;
mod fragment;
mod lease;
mod login;
mod many_groups;
mod providers;
mod reasons;
mod refresh;
mod revocation_log;
mod sessions;
mod strangers;
mod unwritten;

use serde_json::{Value, json};

use super::Decision;
use crate::config::{Config, Preset};
use crate::http::reply::Reply;
use crate::policy::{HeaderChange, Permit};
use crate::testing::world::{OWN_FORM, World, callback, config, replied};

/// The headers of a script's request.
const API: &[(&str, &str)] = &[("accept", "*/*")];
/// The headers of a browser whose user typed the address.
const TYPED: &[(&str, &str)] = &[
    ("accept", "text/html"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-user", "?1"),
];

fn forwarded(decision: Decision) -> Permit {
    match decision {
        Decision::Forward { permit, .. } => permit,
        Decision::Reply { reply, reason } => panic!("{reason}: {reply:?}"),
    }
}

/// Logs in with these members in the ID token, null included. Returns the reply to the callback.
fn log_in(world: &World, members: &Value) -> Reply {
    let request = world.begin_login("/");
    let nonce = json!({"nonce": request["nonce"]});
    let mut claims = world.provider.id_token.borrow().clone();
    for more in [&nonce, members] {
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    *world.provider.raw_id_token.borrow_mut() = Some(world.provider.signed(claims));
    let reply = replied(world.navigate(&callback(&request["state"], "code-1")));
    *world.provider.raw_id_token.borrow_mut() = None;
    reply
}

/// A configuration with the preset for MLflow.
fn mlflow() -> Config {
    let mut config = config();
    config.policy.preset = Some(Preset::Mlflow);
    config
}

/// The value of this header in a forwarded request.
fn upstream(decision: Decision, name: &str) -> Option<String> {
    let permit = forwarded(decision);
    permit.changes().iter().find_map(|change| match change {
        HeaderChange::Set(set, value) if *set == name => Some(String::from_utf8(value.clone()).unwrap()),
        _ => None,
    })
}

/// Whether a log line contains this text.
fn said(world: &World, what: &str) -> bool {
    world.said(what) > 0
}
