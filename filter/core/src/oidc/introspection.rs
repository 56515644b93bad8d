//! Token introspection (RFC 7662): whether the provider still stands by an access token.

use serde_json::Value;

use crate::error::{Dependency, Rejection, Trouble};
use crate::jose::error::TokenError;
use crate::oidc::answer::{self, ProviderEndpoint};
use crate::oidc::provider_client::ProviderClient;

/// Longest answer, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;

/// Asks about a token that verified.
///
/// # Errors
/// [`Rejection::InvalidToken`] when the provider says no; [`Rejection::Unavailable`] when it says nothing: whoever
/// wants tokens to be checked does not want them unchecked.
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
