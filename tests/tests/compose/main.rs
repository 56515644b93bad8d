//! docker-compose.yml as its users meet it: the commands of docs/compose.md as they are printed, in a real Docker
//! engine.
//!
//! Run with `cargo xtask test compose`, which copies the repository for them. They share one stack and some of them
//! take it down, so each has it for itself, and brings up what it needs; those that need only the copy run beside them.

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
