//! Who makes a browser send a request: a cookie comes along by itself, so it has to be asked.

use crate::error::Rejection;
use crate::http::request::Request;

/// Refuses an unsafe method from another site's page (RFC 10017). Clients that are no browsers send neither header.
///
/// # Errors
/// [`Rejection::CrossSite`].
pub fn check(request: &Request, origin: &str) -> Result<(), Rejection> {
    if request.is_safe() || is_same(request, origin) { Ok(()) } else { Err(Rejection::CrossSite) }
}

fn is_same(request: &Request, origin: &str) -> bool {
    match request.header("sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "none"),
        None if request.has_header("sec-fetch-site") => false,
        None => !request.has_header("origin") || request.header("origin") == Some(origin),
    }
}
