//! The provider follows the rules that the gate's tests rely on: what it grants, what it refuses, whom it notifies, and
//! how it misbehaves.

mod control;
mod endings;
mod forgeries;
mod login;
mod refresh;
mod support;
