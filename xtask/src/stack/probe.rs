//! Requests to a server of the stack, over loopback.

use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether `GET path` returns 200.
pub fn is_ok(port: u16, path: &str) -> bool {
    agent()
        .get(format!("http://127.0.0.1:{port}{path}"))
        .call()
        .is_ok_and(|response| response.status() == 200)
}

/// A client for the stack's own servers. It uses no proxy.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .build()
        .new_agent()
}
