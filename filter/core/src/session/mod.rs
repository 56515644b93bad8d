//! Browser sessions: the ticket in the cookie, the sealed record in Redis, the store between them with a short-lived
//! cache in front; how a session is renewed, and how its end reaches every worker of every Envoy.

pub mod cache;
pub mod door;
pub mod ended;
pub mod endings;
pub mod index;
pub mod log;
pub mod once;
pub mod record;
pub mod renewal;
pub mod script;
pub mod store;
pub mod ticket;
pub mod unwritten;
pub mod usage;
