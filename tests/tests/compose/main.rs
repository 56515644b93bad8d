//! docker-compose.yml from its users' point of view: the commands of docs/compose.md, exactly as printed, in a real
//! Docker engine.
//!
//! Run with `cargo xtask test compose`, which copies the repository for these tests. They share one stack. Some of them
//! take it down, so each test locks the stack and brings up what it needs. Tests that need only the copy run in
//! parallel.

#[path = "../stack/browser.rs"]
#[allow(dead_code, reason = "the browser of the stack tests, of which these use a part")]
mod browser;
mod document;
mod files;
mod hygiene;
mod images;
mod management;
mod monitoring;
mod production;
mod quick_start;
mod restarts;
mod scripts;
mod settings;
mod stack;
mod tokens;
mod troubleshooting;
mod users;
