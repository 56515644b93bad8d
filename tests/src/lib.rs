//! End-to-end tests and their fixture: each test starts a complete [`Gate`]. The oracle [`assert_refused`] checks more
//! than the status.
//!
//! Run them with `cargo xtask test e2e`, which builds the filter and sets the paths of Envoy and Redis.

mod builder;
mod chromium;
mod everywhere;
mod fixture;
pub mod forge;
mod oracle;
mod secrets;
mod signed;
mod store;

pub use builder::Builder;
pub use chromium::Chromium;
pub use everywhere::{BOUND, assert_everywhere, assert_soon_everywhere, statuses, wait_for_age};
pub use fixture::Gate;
pub use oracle::{
    RefusedBy, assert_allowed, assert_refused, assert_refused_by, assert_stopped, assert_workers_alive,
};
pub use signed::{Signed, assert_accepted, assert_all_accepted};
