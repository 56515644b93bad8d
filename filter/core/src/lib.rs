//! # oidc-gate core
//!
//! Every decision of the gate, and nothing else: no proxy-wasm, no clock, no randomness, no I/O except through
//! [`host::Host`]. The same code runs in Envoy, in unit tests and in the simulator.
//!
//! ## The map
//! Start at [`gate`]: `Gate::decide` is the way of a request from headers to an answer.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`gate`] | the way of a request |
//! | [`http`] | request, reply, cookies, canonical path, pages |
//! | [`oidc`] | discovery, authorization request, callback, token endpoint, ID token, UserInfo, logout |
//! | [`bearer`] | bearer tokens → principal |
//! | [`session`] | ticket, record, store, cache |
//! | [`revocation`] | what was revoked, in memory and in Redis |
//! | [`record_name`] | what the record of a session is called |
//! | [`principal`] | who a request comes from |
//! | [`assertion`] | a signed statement to the application about the principal |
//! | [`policy`] | rules, and [`policy::Permit`], the only thing that forwards a request |
//! | [`jose`] | untrusted → verified token, JWK set, algorithms |
//! | [`labelled`] | enums whose variants have a text |
//! | [`json`] | strict JSON: no duplicate members, bounded depth, typed access |
//! | [`encoding`] | base64url, base64, and fields with their length in front |
//! | [`caller`], [`limit`] | the address that a request comes from; how much strangers can have done |
//! | [`methods`] | the methods that the gate lets through |
//! | [`quote`](mod@quote) | what others sent, as it may stand in the log |
//! | [`lease`], [`sync`] | one worker for all of an Envoy's; waiting within a worker |
//! | [`reserved`] | names of headers that no client may set |
//! | [`redis`] | a RESP pipeline over one callout |
//! | [`seal`] | authenticated encryption with a key ring |
//! | [`config`] | raw → validated configuration, every error at once |
//! | [`error`] | why a request is refused; [`http::reply`] turns that into the one answer |
//! | [`host`] | all that the outside does for us |
//!
//! Imports point one way, in the order that ARCHITECTURE.md lists; `cargo xtask check` compares.
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "few modules are public, and the documentation is for developers"
)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::string_slice, clippy::indexing_slicing))]

mod assertion;
mod bearer;
pub mod caller;
pub mod config;
pub mod encoding;
mod error;
pub mod gate;
pub mod host;
pub mod http;
pub mod jose;
mod json;
mod labelled;
mod lease;
mod limit;
mod methods;
pub mod metrics;
mod oidc;
pub mod policy;
mod principal;
mod quote;
mod record_name;
mod redis;
mod reserved;
pub mod revocation;
mod seal;
mod secret;
pub mod session;
mod sync;
pub mod time;

#[cfg(test)]
pub(crate) mod testing;
