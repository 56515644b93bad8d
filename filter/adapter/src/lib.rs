//! # The adapter
//!
//! What stands between Envoy and the core: the phases of a stream, its body, the limits of a worker, carrying out a
//! decision, loading a configuration, and the tasks that wait for calls and sleeps. No proxy-wasm, no `unsafe` and no
//! I/O: Envoy is what implements the traits of [`context`]. `filter/plugin` does so over proxy-wasm, the unit tests in
//! memory, the simulator in its world.
//!
//! ## The map
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`context`] | what a host does for the adapter: on the root context, and on a stream |
//! | [`instance`] | the root context of one configuration: configuration in, gate out, and the jobs |
//! | [`stream`] | one HTTP stream: asks the gate, holds the request, carries out the decision |
//! | [`executor`] | the tasks, and which of them may run in which callback |
//! | [`scheduler`] | when tasks run: in the order in which they became ready, and after sleeps |
//! | [`call`] | callouts under way |
//! | [`pairs`] | proxy-wasm's form of a header map |
//!
//! ## The rules
//!
//! - **Within a stream's callback only that stream's own task runs.** A host may have one effective context, on which
//!   each call acts, and to which the answer of a callout belongs. The task of another stream would act on the wrong
//!   one. In a callback of the root context any task may run: the executor makes the task's stream effective first.
//! - A request that is not decided about does not pass: without a gate, without room, or when the host refuses to
//!   change a header, the answer is 503, and when that can't be sent, the request stays held.
//! - A stream that goes takes its task with it. Work that must finish is a job of the root context.
//!
//! ## Another host
//!
//! A host calls [`Instance`](instance::Instance) and [`Stream`](stream::Stream) in its callbacks, and implements
//! [`RootContext`](context::RootContext), [`StreamContext`](context::StreamContext) and
//! [`Clock`](scheduler::Clock). A host without an effective context keeps one itself:
//! [`RootContext::make_effective`](context::RootContext::make_effective) sets it, a callback of a stream begins with
//! that stream, and [`RootContext::send`](context::RootContext::send) sends for it.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::string_slice, clippy::indexing_slicing))]

pub mod call;
pub mod context;
pub mod executor;
mod host;
pub mod instance;
pub mod pairs;
pub mod scheduler;
pub mod stream;

#[cfg(test)]
mod tests;
