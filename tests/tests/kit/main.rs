//! The parts of the test kit that need real programs: they do what the end-to-end tests rely on.

mod cluster;
mod netns;
mod pair;
mod proxy;
mod server;
