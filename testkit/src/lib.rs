//! # The servers around the gate
//!
//! What an end-to-end test needs to see the gate as its users do, and what `cargo xtask up --light` starts for work on
//! the filter. Every server listens on its own loopback port and stops when the value that started it is dropped.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`process`] | child processes with a log, free ports, waiting for a condition |
//! | [`envoy_config`] | the shipped `envoy.yaml`, with edits; [`envoy_redis`] has those for TLS and for Redis Cluster |
//! | [`envoy`] | a running Envoy: readiness, counters, configuration pushed at run time |
//! | [`netns`] | a network namespace for one test: other addresses, kernel settings |
//! | [`balancer`] | one address for several Envoys |
//! | [`redis`] | a real Redis, a proxy that corrupts its replies, a fake with scripted replies; a cluster, a pair |
//! | [`provider`] | an OpenID provider that looks like Keycloak on the wire and misbehaves on request |
//! | [`echo`] | the application behind the gate, which returns what it received |
//! | [`browser`] | an HTTP client with a browser's cookie jar and Fetch Metadata, and raw bytes over TCP |
//! | [`server`] | serves connections from another thread: HTTP for provider and echo, TCP for the others |

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
