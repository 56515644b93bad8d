//! proxy-wasm: what Envoy loads. All decisions are in `oidc_gate_core`, and all that another host would need, too, in
//! `oidc_gate_adapter`.
//!
//! [`plugin::Plugin`] is the root context of one configuration. [`host`] is Envoy as the adapter's contexts, [`ticks`]
//! its clock. [`abi`] is what the host calls, [`hostcalls`] what we ask of it: the only unsafe code.

#![allow(rustdoc::private_intra_doc_links, reason = "a cdylib has no public items to link to")]

mod abi;
mod crypto;
mod host;
mod hostcalls;
mod plugin;
mod ticks;
