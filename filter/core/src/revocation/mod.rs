//! Revocations: which sessions and bearer tokens are no longer valid although they have not expired.
//!
//! A `Revocation` is about one session, one session at the provider (`sid`), a user up to a moment, or everyone up to a
//! moment. It holds hashes only. Sessions and bearer tokens have the same hashes as `RevocationKeys`.
//! `Revocations::is_revoked` compares them: four look-ups in memory for each request.
//!
//! A revocation reaches the other workers of its Envoy through shared data (`memory`), and the other Envoys through a
//! stream in Redis (`log`, `stream`). If Redis does not accept it, it takes effect on this Envoy at once and is written
//! later.
//!
//! A logout token without `sid` is about a user up to its `iat`, which counts whole seconds. A session of that second
//! may be a new login, so it stays valid, and the older sessions are also revoked by name. A bearer token of that
//! second is revoked, because nothing else would revoke it.

pub(crate) mod log;
pub(crate) mod memory;
pub mod stream;
