//! The adapter over a host in memory, with the real core.

mod executor;
mod host;
mod instance;
mod provider;
mod stream;
