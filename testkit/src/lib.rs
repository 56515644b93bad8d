//! # The servers around the gate
//!
//! What an end-to-end test needs to see the gate as its users do, and what `cargo xtask up --light` serves for work on
//! the filter. Everything listens on loopback, on a port of its own, and ends with the value that started it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`process`] | children with a log, free ports, waiting for a condition |
//! | [`envoy_config`] | the shipped `envoy.yaml`, with edits; [`envoy_redis`] has those for TLS and for Redis Cluster |
//! | [`envoy`] | a running Envoy: readiness, counters, configuration pushed at run time |
//! | [`netns`] | a network namespace for one test: private addresses, kernel settings |
//! | [`balancer`] | one address for several Envoys |
//! | [`redis`] | a real Redis, a proxy that spoils its answers, one that says what it is told; a cluster, a pair |
//! | [`provider`] | an OpenID provider that looks like Keycloak on the wire and misbehaves on request |
//! | [`echo`] | the application behind the gate: tells what reached it |
//! | [`browser`] | an HTTP client with a browser's cookie jar and Fetch Metadata, and raw bytes over TCP |
//! | [`server`] | how provider and echo serve HTTP from a thread of their own |

pub mod balancer;
pub mod browser;
pub mod echo;
pub mod envoy;
pub mod envoy_config;
pub mod envoy_redis;
pub mod netns;
pub mod process;
pub mod provider;
pub mod redis;
pub mod server;
