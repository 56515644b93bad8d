//! # A Redis for tests
//!
//! One model of Redis for all tests without a real server: the simulator, the gate's unit tests, and the servers of the
//! test kit. It imports nothing of the gate, so it cannot share a mistake with it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`resp`] | commands and replies as bytes |
//! | [`server`] | a server in memory: types, expiry, transactions, streams, and Lua scripts that run unchanged |
//!
//! There is no clock and no I/O: bytes and the time go in, bytes come out.

pub mod resp;
#[cfg(feature = "server")]
pub mod server;
