//! `identity`: which identity headers the application gets.

use super::session::is_token_char;
use super::text;
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::{EmailVerified, Identity};
use crate::config::raw;
use crate::reserved::{Trust, trust};

/// The values if nothing is configured.
pub(super) fn default() -> Identity {
    Identity { email_verified: EmailVerified::Optional, trusted_headers: Vec::new() }
}

pub(super) fn identity(raw: raw::Identity, place: &Place<'_>) -> Result<Identity, Reported> {
    let email_verified = raw.email_verified.or_else(|| Ok(EmailVerified::Optional));
    let trusted_headers = text::list(field!(raw.trusted_headers, place), trusted_header);
    Ok(Identity { email_verified: email_verified?, trusted_headers: trusted_headers? })
}

/// RFC 9110 5.1: a token, case-insensitive.
fn trusted_header(name: String, place: &Place<'_>) -> Result<String, Reported> {
    let name = text::without_wildcard(name, place)?.to_ascii_lowercase();
    if !name.bytes().all(is_token_char) {
        return Err(place.refuse("is not a header name (RFC 9110 5.1)"));
    }
    match trust(&name) {
        Trust::Never(why) => Err(place.refuse(why)),
        Trust::Needless => {
            place.warn("has no effect: this header is passed on anyway");
            Ok(name)
        }
        Trust::Possible => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::testing::test;

    fn read(name: &str) -> Result<String, String> {
        checked(|place| trusted_header(name.to_owned(), place))
    }

    #[test]
    fn a_trusted_header_is_a_name_that_neither_controls_envoy_nor_is_the_gates() {
        assert_eq!(read("X-Forwarded-Client-Cert").as_deref(), Ok("x-forwarded-client-cert"));
        assert_eq!(read("x-envoy-peer-metadata").as_deref(), Ok("x-envoy-peer-metadata"));
        assert_eq!(read("accept").as_deref(), Ok("accept"), "a warning, no mistake");
        for wrong in ["", "x-*", "x y", "x:y", "X-Forwarded-User", "authorization", "x-envoy-retry-on"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
