//! Envoy Gateway.
