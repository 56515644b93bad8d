//! What the plugin asks of its host (proxy-wasm ABI 0.2.1). Nothing here panics, whatever status or byte comes back.
//! The only `unsafe` of the project is in this file and in [`crate::abi`], its other direction.
#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::time::Duration;

use oidc_gate_adapter::pairs;

#[derive(Clone, Copy)]
pub enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    CalloutResponseHeaders = 6,
}

/// `proxy_buffer_type_t`
#[derive(Clone, Copy)]
pub enum Buffer {
    RequestBody = 0,
    CalloutResponseBody = 4,
    PluginConfiguration = 7,
}

/// The host refused; holds proxy-wasm's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u32);

impl Refused {
    /// `proxy_status_t`: not found.
    pub const NOT_FOUND: Self = Self(1);
    /// An invalid argument; for a callout, the cluster's name.
    pub const BAD_ARGUMENT: Self = Self(2);
}

const OK: u32 = 0;
const HTTP_REQUEST_STREAM: u32 = 0;
const COUNTER: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, len: usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        len: usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        len: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_len: usize) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_len: usize, data: *const u8, len: usize, cas: u32) -> u32;
    fn proxy_get_property(path: *const u8, path_len: usize, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, len: usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        headers: *const u8,
        headers_len: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_len: usize,
        headers: *const u8,
        headers_len: usize,
        body: *const u8,
        body_len: usize,
        trailers: *const u8,
        trailers_len: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_len: usize,
        arguments: *const u8,
        arguments_len: usize,
        results: *mut *mut u8,
        results_len: *mut usize,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, len: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
}

pub fn log(level: u32, message: &str) {
    // SAFETY: pointer and length belong to one live slice.
    unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

pub fn headers(map: Map) -> Vec<(String, Vec<u8>)> {
    let mut data = null_mut();
    let mut len = 0;
    // SAFETY: the host writes to the two out-pointers only.
    let status = unsafe { proxy_get_header_map_pairs(map as u32, &mut data, &mut len) };
    // SAFETY: as above.
    if status == OK { pairs::parse(&unsafe { take(data, len) }) } else { Vec::new() }
}

pub fn add_header(map: Map, name: &str, value: &[u8]) {
    // SAFETY: pointers and lengths belong to live slices.
    unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

pub fn replace_header(map: Map, name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: pointers and lengths belong to live slices.
    check(unsafe {
        proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub fn remove_header(map: Map, name: &str) -> Result<(), Refused> {
    // SAFETY: pointer and length belong to one live slice.
    check(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// At most `len` bytes of a buffer, in the callback that announces it.
pub fn bytes(buffer: Buffer, len: usize) -> Vec<u8> {
    let mut data = null_mut();
    let mut got = 0;
    // SAFETY: the host writes to the two out-pointers only.
    let status = unsafe { proxy_get_buffer_bytes(buffer as u32, 0, len, &mut data, &mut got) };
    // SAFETY: as above.
    if status == OK { unsafe { take(data, got) } } else { Vec::new() }
}

/// Sends a request through a cluster. The reply arrives with the token, in the context that is effective now.
pub fn http_call(
    cluster: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
    timeout: Duration,
) -> Result<u32, Refused> {
    let headers = pairs::serialize(headers);
    let trailers = pairs::serialize(&[]);
    let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let mut token = 0;
    // SAFETY: pointers and lengths belong to live slices; the host writes to the out-pointer only.
    check(unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout,
            &mut token,
        )
    })?;
    Ok(token)
}

/// Calls a foreign function of the host.
pub fn foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut data = null_mut();
    let mut len = 0;
    // SAFETY: pointers and lengths belong to live slices; the host writes to the two out-pointers only.
    check(unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &mut data,
            &mut len,
        )
    })?;
    // SAFETY: as above.
    Ok(unsafe { take(data, len) })
}

pub fn shared_data(key: &str) -> Option<(Vec<u8>, u32)> {
    let mut data = null_mut();
    let mut len = 0;
    let mut cas = 0;
    // SAFETY: the host writes to the three out-pointers only.
    let status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut len, &mut cas) };
    // SAFETY: as above.
    (status == OK).then(|| (unsafe { take(data, len) }, cas))
}

pub fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Refused> {
    // SAFETY: pointers and lengths belong to live slices.
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// An attribute of the stream, such as `source.address`. Empty if there is none.
pub fn property(path: &[&str]) -> Vec<u8> {
    let path = path.join("\0");
    let mut data = null_mut();
    let mut len = 0;
    // SAFETY: pointer and length belong to one live slice; the host writes to the two out-pointers only.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut len) };
    // SAFETY: as above.
    if status == OK { unsafe { take(data, len) } } else { Vec::new() }
}

/// Sets `wasm.<name>` in the stream's filter state.
pub fn set_filter_state(name: &str, value: &str) {
    // SAFETY: pointers and lengths belong to live slices.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

pub fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
    grpc_status: Option<u32>,
) -> Result<(), Refused> {
    let headers = pairs::serialize(headers);
    let grpc_status = grpc_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
    // SAFETY: pointers and lengths belong to live slices.
    check(unsafe {
        proxy_send_local_response(
            status.into(),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

pub fn continue_request() {
    // SAFETY: no memory is involved.
    unsafe { proxy_continue_stream(HTTP_REQUEST_STREAM) };
}

pub fn set_effective_context(context: u32) -> Result<(), Refused> {
    // SAFETY: no memory is involved.
    check(unsafe { proxy_set_effective_context(context) })
}

/// Lets the host destroy the root context whose end was delayed.
pub fn done() {
    // SAFETY: no memory is involved.
    unsafe { proxy_done() };
}

pub fn set_tick_period(millis: u32) {
    // SAFETY: no memory is involved.
    unsafe { proxy_set_tick_period_milliseconds(millis) };
}

pub fn define_counter(name: &str) -> Result<u32, Refused> {
    let mut id = 0;
    // SAFETY: the name is one live slice; the host writes to the out-pointer only.
    check(unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

pub fn increment(counter: u32) {
    // SAFETY: no memory is involved.
    unsafe { proxy_increment_metric(counter, 1) };
}

fn check(status: u32) -> Result<(), Refused> {
    if status == OK { Ok(()) } else { Err(Refused(status)) }
}

/// Takes over memory that the host filled.
///
/// # Safety
/// `data` is null, or was allocated for the host by [`crate::abi`]'s `proxy_on_memory_allocate` with exactly `len`
/// bytes.
unsafe fn take(data: *mut u8, len: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { Vec::from_raw_parts(data, len, len) }
}
