//! The gate as a client of the provider: requests that carry its secret.

use crate::config::ClientAuthentication;
use crate::encoding::base64;
use crate::host::Callout;
use crate::oidc::metadata::Called;
use crate::oidc::provider;
use crate::oidc::relying_party::RelyingParty;

/// A form for one of the provider's endpoints, with client authentication (RFC 6749 2.3.1).
pub fn post(rp: &RelyingParty, endpoint: &Called, parameters: &[(&str, &str)]) -> Callout {
    let client = &rp.config.client;
    let secret = client.secret.as_ref().and_then(|secret| secret.expose_str()).unwrap_or_default();
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters);
    if client.authentication == ClientAuthentication::Post {
        form.append_pair("client_id", &client.id).append_pair("client_secret", secret);
    }
    let mut callout = provider::callout(&rp.config.issuer, "POST", endpoint, form.finish().into_bytes());
    callout.headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    if client.authentication == ClientAuthentication::Basic {
        // RFC 6749 2.3.1: id and secret are form-encoded before they are joined.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let credentials = base64(format!("{}:{}", encoded(&client.id), encoded(secret)).as_bytes());
        callout.headers.push(("authorization".to_owned(), format!("Basic {credentials}")));
    }
    callout
}
