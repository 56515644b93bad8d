//! The manifests for Istio and Envoy Gateway, as far as a real Envoy can tell: the configuration that comes of them,
//! loaded, and logged in through.
//!
//! Run with `cargo xtask test e2e`. `cargo xtask test mesh` also asks the meshes' own validators.

mod comparison;
mod envoy_gateway;
mod istio;
mod journey;
mod manifests;
