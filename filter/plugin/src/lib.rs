//! The proxy-wasm adapter: what Envoy loads. It has no opinions; all decisions are in `oidc_gate_core`.
//!
//! [`plugin::Plugin`] is the root context of one configuration, [`stream::Stream`] one request. [`executor::Executor`]
//! polls the core's futures, [`host::EnvoyHost`] gives them the outside world, [`hostcalls`] is the only unsafe code.

#![allow(rustdoc::private_intra_doc_links, reason = "a cdylib has no public items to link to")]

mod crypto;
mod executor;
mod host;
mod hostcalls;
mod plugin;
mod stream;

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(plugin::Plugin::new(id)) });
}}
