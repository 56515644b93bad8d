//! The whole stack as people meet it: real Keycloak, real MLflow, a real browser and MLflow's own Python client.
//!
//! Run with `cargo xtask test stack`, which starts a stack for them. They share it and some of them take parts of it
//! away, so they run one after the other.

mod api;
mod browser;
mod client;
mod groups;
mod keycloak;
mod login;
mod outages;
mod python;
mod second_envoy;
mod sessions;
mod sign_out;
mod stack;
