//! The whole stack from its users' point of view: real Keycloak, real MLflow, a real browser and MLflow's Python
//! client.
//!
//! Run with `cargo xtask test stack`, which starts a stack for these tests. They share it, and some stop parts of it,
//! so they run one after another.

mod api;
mod browser;
mod client;
mod command_line;
mod groups;
mod home;
mod jobs;
mod keycloak;
mod large;
mod login;
mod model_provider;
mod outages;
mod page;
mod python;
mod second_envoy;
mod sessions;
mod sign_out;
mod stack;
mod surface;
mod users;
