//! The manifests for Istio and Envoy Gateway, as far as a real Envoy can test them: the resulting configuration is
//! loaded and used for a login.
//!
//! Run with `cargo xtask test e2e`. `cargo xtask test mesh` also runs the meshes' own validators.

mod comparison;
mod envoy_gateway;
mod istio;
mod journey;
mod manifests;
