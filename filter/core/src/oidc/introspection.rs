//! Token introspection (RFC 7662): whether the provider still stands by an access token.

use serde_json::Value;

use crate::error::{Dependency, Rejection, Trouble};
use crate::jose::error::TokenError;
use crate::oidc::answer::{self, ProviderEndpoint};
use crate::oidc::provider_client::ProviderClient;

/// Longest answer, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;

/// Introspects a token whose signature is valid.
///
/// # Errors
/// [`Rejection::InvalidToken`] if the token is not active. [`Rejection::Unavailable`] if the provider does not say: an
/// unchecked token is not accepted.
pub async fn require_active(client: &ProviderClient, token: &str) -> Result<(), Rejection> {
    let known = client.provider.current().await?;
    let wrong =
        |what: &str| Dependency::Provider(Trouble::lasting(ProviderEndpoint::Introspection.says(what)));
    let endpoint = known.metadata.introspection_endpoint().map_err(Dependency::from)?;
    let parameters = [("token", token), ("token_type_hint", "access_token")];
    let callout = client.post(endpoint, &parameters);
    let reply = answer::ask(&*client.host, ProviderEndpoint::Introspection, callout)
        .await
        .map_err(|refusal| Dependency::Provider(refusal.trouble))?;
    let answer = answer::object(&reply, MAX_RESPONSE_LEN).map_err(|what| wrong(&what))?;
    match answer.get("active") {
        Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err(Rejection::InvalidToken(TokenError::Inactive)),
        _ => Err(wrong("the answer does not say whether the token is active").into()),
    }
}
