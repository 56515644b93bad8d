//! Browser sessions: the ticket in the cookie, the sealed record in Redis, the store between them, and a short-lived
//! cache in front.

pub mod cache;
pub mod ended;
pub mod record;
pub mod store;
pub mod ticket;
