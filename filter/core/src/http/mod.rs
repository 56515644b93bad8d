//! HTTP types of the gate: request, canonical path, cookies, reply, pages.

pub(crate) mod account_page;
pub mod body;
pub(crate) mod cookies;
pub(crate) mod csrf;
pub(crate) mod endpoint;
pub(crate) mod fragment_page;
pub(crate) mod pages;
pub(crate) mod path;
pub(crate) mod public_address;
pub mod reply;
pub(crate) mod request;
pub(crate) mod return_path;

pub use request::id as request_id;
