//! All clients of the gate: browsers, API clients, the administrator, and three kinds of attackers.

pub mod administrator;
pub mod api;
pub mod attacker;
pub mod browser;
pub mod credential_replayer;
pub mod exchange;
pub mod flood;
pub mod jar;
