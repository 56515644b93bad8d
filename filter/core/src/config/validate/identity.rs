//! `identity`: which identity headers the application gets.

use super::secret_key::keys;
use super::session::is_token_char;
use super::text;
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::{Assertion, EmailVerified, Identity, Preset};
use crate::config::raw;
use crate::reserved::{Trust, trust};

/// The header of assertions for an application without a preset.
const DEFAULT_ASSERTION_HEADER: &str = "x-oidc-gate-assertion";

/// MLflow forwards all headers of a request to model providers, except this one.
const MLFLOW_ASSERTION_HEADER: &str = "x-mlflow-authorization";

/// `iss` of assertions.
pub(in crate::config) const DEFAULT_ASSERTION_ISSUER: &str = "oidc-gate";

/// The values if nothing is configured.
pub(super) fn default() -> Identity {
    Identity { email_verified: EmailVerified::Optional, trusted_headers: Vec::new(), assertion: None }
}

/// `preset` is the application, if it is a known one.
pub(super) fn identity(
    raw: raw::Identity,
    preset: Option<Preset>,
    place: &Place<'_>,
) -> Result<Identity, Reported> {
    let email_verified = raw.email_verified.or_else(|| Ok(EmailVerified::Optional));
    let trusted_headers = text::list(field!(raw.trusted_headers, place), trusted_header);
    let assertion = field!(raw.assertion, place).optional(|raw, at| {
        let assertion = assertion(raw, preset, at)?;
        if trusted_headers.as_ref().is_ok_and(|trusted| trusted.contains(&assertion.header)) {
            return Err(at
                .field("header")
                .refuse("is also in identity.trusted_headers: a client could set it"));
        }
        Ok(assertion)
    });
    Ok(Identity { email_verified: email_verified?, trusted_headers: trusted_headers?, assertion: assertion? })
}

fn assertion(raw: raw::Assertion, preset: Option<Preset>, place: &Place<'_>) -> Result<Assertion, Reported> {
    let keys = keys(field!(raw.keys, place), "no assertion could be signed");
    let audience = field!(raw.audience, place).text().required(text::name);
    let issuer = field!(raw.issuer, place).text().or(DEFAULT_ASSERTION_ISSUER, text::name);
    let default = match preset {
        Some(Preset::Mlflow) => MLFLOW_ASSERTION_HEADER,
        None => DEFAULT_ASSERTION_HEADER,
    };
    let header = field!(raw.header, place).text().or(default, |name, at| {
        let header = assertion_header(name, at)?;
        if preset == Some(Preset::Mlflow) && header != MLFLOW_ASSERTION_HEADER {
            at.warn("is not X-MLflow-Authorization: model providers get it, and oidc-gate-mlflow does not read it");
        }
        Ok(header)
    });
    Ok(Assertion { keys: keys?, audience: audience?, issuer: issuer?, header: header? })
}

/// A header of the application. None that decides about the request, its way or its body may be replaced.
fn assertion_header(name: String, place: &Place<'_>) -> Result<String, Reported> {
    let name = text::name(name, place)?.to_ascii_lowercase();
    if !name.starts_with("x-") || !name.bytes().all(is_token_char) {
        return Err(place.refuse("must be the name of a header that begins with X- (RFC 9110 5.1)"));
    }
    let ours = [DEFAULT_ASSERTION_HEADER, MLFLOW_ASSERTION_HEADER].contains(&name.as_str());
    if !ours && matches!(trust(&name), Trust::Never(_))
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-envoy-")
        || name == "x-request-id"
    {
        return Err(place.refuse("has another meaning; use a header that only the application reads"));
    }
    Ok(name)
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
