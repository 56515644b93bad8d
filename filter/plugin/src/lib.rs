//! The proxy-wasm adapter: what Envoy loads. It has no opinions; all decisions are in `oidc_gate_core`.
//!
//! [`plugin::Plugin`] is the root context of one configuration, [`stream::Stream`] one request. [`executor::Executor`]
//! polls the core's futures, [`host::EnvoyHost`] gives them the outside world. [`abi`] is what the host calls,
//! [`hostcalls`] what we ask of it: the only unsafe code.

#![allow(rustdoc::private_intra_doc_links, reason = "a cdylib has no public items to link to")]

mod abi;
mod crypto;
mod executor;
mod host;
mod hostcalls;
mod plugin;
mod stream;
