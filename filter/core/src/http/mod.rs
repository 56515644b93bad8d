//! HTTP as the gate sees it: request, canonical path, cookies, reply, pages.

pub mod account_page;
pub mod body;
pub mod cookies;
pub mod pages;
pub mod path;
pub mod reply;
pub mod request;
pub mod return_path;
pub mod same_site;
