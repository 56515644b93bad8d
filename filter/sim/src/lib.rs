//! # A deterministic world around adapter and core
//!
//! The core decides, and the adapter carries the decisions out, as in Envoy. This crate simulates everything else, in
//! one thread and in virtual time: Envoys with their workers, shared data and clocks, a network, a Redis with real
//! semantics ([`oidc_gate_redis_model`]), a Keycloak ([`oidc_gate_provider_model`]), browsers, API clients, an
//! administrator, an attacker, and all faults between them.
//!
//! One number, the seed, decides everything: which task runs next, how long a call takes, what is lost, where users
//! click. A run is checked against the true state, which the world knows and the gate does not: see [`ledger::Rule`]. A
//! seed that breaks a rule replays exactly.
//!
//! ## The map
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`plan`] | what a seed decides in advance |
//! | [`world`] | builds a world and runs it to its end |
//! | [`executor`] | virtual time and tasks |
//! | [`envoy`] | an Envoy: its clock and its shared data |
//! | [`worker`] | a worker: the adapter with the core, and the callbacks that drive it |
//! | [`contexts`] | the root context and the streams of a worker |
//! | [`turns`] | the adapter's scheduler: a random task runs next |
//! | [`net`] | callouts, their latencies and faults |
//! | [`faults`] | the faults, and when they occur |
//! | [`poison`] | foreign entries in the revocation stream |
//! | [`provider`] | the model of Keycloak in this world |
//! | [`client`] | browsers, API clients, the administrator, the attackers, the flood |
//! | [`ledger`] | the true state, and the rules |
//! | [`sabotage`] | planted bugs |
//! | [`trace`] | the events of a run |
//! | [`runner`] | many seeds, on all cores |
//!
//! ## What is not real
//!
//! Signatures: see [`provider::verify`]. Bytes of HTTP and TLS: a request is what Envoy would pass to the filter.
//! Memory and CPU have no cost.

pub mod client;
pub mod contexts;
pub mod envoy;
pub mod executor;
pub mod faults;
pub mod ledger;
pub mod net;
pub mod plan;
pub mod poison;
pub mod provider;
pub mod rng;
pub mod runner;
pub mod sabotage;
pub mod sync;
pub mod trace;
pub mod turns;
pub mod worker;
pub mod world;
