//! Redis in all forms that a gate can meet.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`Redis`] | one real server: killed, frozen, restarted with and without its data; TLS and ACL users |
//! | [`Monitor`] | records every command that it executes |
//! | [`Proxy`] | in front of a real server; injects faults into single commands |
//! | [`FakeRedis`] | sends scripted replies, whatever it receives |
//! | [`Cluster`] | three real nodes; slots move |
//! | [`Pair`] | a primary and its replica, which takes over; [`HaProxy`] follows the primary |

mod cluster;
mod fake;
mod haproxy;
mod monitor;
mod pair;
mod proxy;
mod server;
mod tls;

pub use cluster::{Cluster, NODES};
pub use fake::{FakeRedis, Script};
pub use haproxy::HaProxy;
pub use monitor::{Command, Monitor};
pub use pair::Pair;
pub use proxy::{Fault, On, Proxy};
pub use server::{Account, Data, Redis};
pub use tls::{Authority, Certificate};
