//! What was revoked: sessions, sessions at the provider, all that was issued to a user or to everybody before a moment.
//! Each worker has it in memory, the workers of one Envoy tell each other through shared data, and Envoys through a
//! stream in Redis.

pub(crate) mod log;
pub(crate) mod memory;
pub mod stream;
