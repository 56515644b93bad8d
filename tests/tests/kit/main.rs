//! The parts of the test kit that need real programs. The end-to-end tests rely on this behaviour.

mod cluster;
mod netns;
mod pair;
mod proxy;
mod server;
