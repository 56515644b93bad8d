//! Browser sessions: the ticket in the cookie, the sealed record in Redis, the store between them with a short-lived
//! cache in front; how a session is renewed, and how its end reaches every worker of every Envoy.

pub(crate) mod cache;
pub(crate) mod door;
pub(crate) mod ended;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod record;
pub(crate) mod renewal;
pub(crate) mod replay;
pub mod script;
pub(crate) mod store;
pub mod ticket;
pub(crate) mod unwritten;
pub(crate) mod usage;
