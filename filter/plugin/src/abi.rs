//! What the host calls: the exports of proxy-wasm ABI 0.2.1, and the contexts they are about.
//!
//! These bindings are the gate's own. The SDK's wrappers panic on bytes that are not UTF-8 and on statuses that they do
//! not list, and its `Action` has only "continue" and one way to stop. Two ways to stop are needed:
//!
//! - `StopAllIterationAndWatermark`, while the gate decides: the body stays in the client's connection. If Envoy
//!   collected it, an upload larger than the buffer would be answered with 413.
//! - `StopIteration`, for the few endpoints that read a body, such as the one for logout tokens. Envoy passes the body
//!   on only with `allow_on_headers_stop_iteration: true` in the plugin's configuration. Without that, logout
//!   notifications are answered with 400, the log says why, and everything else works.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use oidc_gate_adapter::stream::{Action, Stream};

use crate::host::callout_answer;
use crate::plugin::Plugin;

/// The host's number for an [`Action`]: `FilterHeadersStatus`, `FilterDataStatus` and `FilterTrailersStatus`.
fn status(action: Action) -> u32 {
    match action {
        Action::Continue => 0,
        Action::Stop => 1,
        Action::StopNoBuffer => 3,
        Action::StopAllAndWatermark => 4,
    }
}

#[derive(Default)]
struct Contexts {
    roots: HashMap<u32, Rc<Plugin>>,
    streams: HashMap<u32, (u32, Rc<Stream>)>,
}

thread_local! {
    /// A Wasm worker has one thread.
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// The context is cloned out of the table before it is called, so that a nested callback can borrow the table.
fn root(id: u32) -> Option<Rc<Plugin>> {
    CONTEXTS.with(|contexts| contexts.try_borrow().ok()?.roots.get(&id).cloned())
}

fn stream(id: u32) -> Option<Rc<Stream>> {
    CONTEXTS.with(|contexts| contexts.try_borrow().ok()?.streams.get(&id).map(|(_, stream)| stream.clone()))
}

fn change<T: Default>(change: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with(|contexts| {
        contexts.try_borrow_mut().map(|mut contexts| change(&mut contexts)).unwrap_or_default()
    })
}

#[cfg(target_os = "wasi")]
unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    #[cfg(target_os = "wasi")]
    // SAFETY: the host calls this once, before anything else, as WASI demands of a reactor.
    unsafe {
        __wasm_call_ctors();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Allocates memory for the host to fill. [`crate::hostcalls`] takes it over as a `Vec` of exactly this length.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0u8; size].into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    if parent == 0 {
        change(|contexts| contexts.roots.insert(id, Rc::new(Plugin::new(id))));
    } else if let Some(plugin) = root(parent) {
        let stream = Rc::new(plugin.stream(id));
        change(|contexts| contexts.streams.insert(id, (parent, stream)));
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_: u32, _: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(id: u32, size: usize) -> u32 {
    root(id).is_some_and(|plugin| plugin.configure(size)).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(id: u32) {
    if let Some(plugin) = root(id) {
        plugin.tick();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _: usize, end_of_stream: u32) -> u32 {
    // No context: fail closed.
    status(
        stream(id).map_or(Action::StopAllAndWatermark, |stream| stream.request_headers(end_of_stream != 0)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(id: u32, size: usize, end_of_stream: u32) -> u32 {
    status(stream(id).map_or(Action::StopNoBuffer, |stream| stream.request_body(size, end_of_stream != 0)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(id: u32, _: usize) -> u32 {
    status(stream(id).map_or(Action::Stop, |stream| stream.request_trailers()))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _: usize, _: u32) -> u32 {
    if let Some(stream) = stream(id) {
        stream.response_headers();
    }
    status(Action::Continue)
}

/// `id` is the context that was effective when the call was sent.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    id: u32,
    token: u32,
    num_headers: usize,
    body_size: usize,
    _: usize,
) {
    let answer = callout_answer(num_headers, body_size);
    if let Some(plugin) = root(id) {
        plugin.answered(token, answer);
    } else if let Some(stream) = stream(id) {
        stream.answered(token, answer);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> u32 {
    root(id).is_none_or(|plugin| plugin.done()).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    // Dropped outside of the borrow, because their tasks are dropped with them.
    let gone = change(|contexts| {
        let root = contexts.roots.remove(&id);
        let orphans: Vec<u32> = match root {
            Some(_) => {
                contexts.streams.iter().filter(|(_, (root, _))| *root == id).map(|(id, _)| *id).collect()
            }
            None => Vec::new(),
        };
        let mut streams: Vec<_> = orphans.iter().filter_map(|id| contexts.streams.remove(id)).collect();
        streams.extend(contexts.streams.remove(&id));
        (root, streams)
    });
    drop(gone);
}
