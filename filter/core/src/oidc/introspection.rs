//! Token introspection (RFC 7662): whether the provider still stands by an access token.

use serde_json::Value;

use crate::error::{Dependency, Rejection, Trouble};
use crate::jose::error::TokenError;
use crate::oidc::answer::{self, NoObject, ProviderEndpoint};
use crate::oidc::provider_client::ProviderClient;

/// Longest answer, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;

/// Why an answer of the introspection endpoint can't be used.
#[derive(Debug, thiserror::Error)]
enum IntrospectionError {
    #[error(transparent)]
    NoObject(#[from] NoObject),
    #[error("the answer does not say whether the token is active")]
    NoVerdict,
}

/// Introspects a token whose signature is valid.
///
/// # Errors
/// [`Rejection::InvalidToken`] if the token is not active. [`Rejection::Unavailable`] if the provider does not say: an
/// unchecked token is not accepted.
pub async fn require_active(client: &ProviderClient, token: &str) -> Result<(), Rejection> {
    let known = client.provider.current().await?;
    let wrong = |error: IntrospectionError| {
        Dependency::Provider(Trouble::lasting(ProviderEndpoint::Introspection.says(error)))
    };
    let endpoint = known.metadata.introspection_endpoint.as_ref().map_err(Dependency::from)?;
    let parameters = [("token", token), ("token_type_hint", "access_token")];
    let callout = client.post(endpoint, &parameters);
    let reply = answer::ask(&*client.host, ProviderEndpoint::Introspection, callout)
        .await
        .map_err(|refusal| Dependency::Provider(refusal.trouble))?;
    let answer = answer::object(&reply, MAX_RESPONSE_LEN).map_err(|error| wrong(error.into()))?;
    match answer.get("active") {
        Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err(Rejection::InvalidToken(TokenError::Inactive)),
        _ => Err(wrong(IntrospectionError::NoVerdict).into()),
    }
}
