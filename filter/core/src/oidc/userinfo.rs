//! UserInfo (OIDC Core 5.3): more claims about the person whom the ID token names, and about nobody else.

use serde_json::Value;

use crate::error::{Dependency, LoginError, Outlook, Rejection};
use crate::jose::claims::Claims;
use crate::oidc::answer::{self, ProviderEndpoint};
use crate::oidc::fetch;
use crate::oidc::provider_client::ProviderClient;
use crate::oidc::token_endpoint::Tokens;

/// Longest UserInfo response, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;
/// Claims that only a signed token may set.
const PROTOCOL_CLAIMS: [&str; 10] =
    ["iss", "sub", "aud", "azp", "client_id", "exp", "iat", "nbf", "sid", "nonce"];

/// Calls UserInfo and adds its claims to those of the ID token.
///
/// # Errors
/// The provider has no usable UserInfo endpoint, does not answer, sends something other than JSON, or describes another
/// subject.
pub async fn merge(client: &ProviderClient, tokens: &Tokens, claims: Claims) -> Result<Claims, Rejection> {
    let known = client.provider.current().await?;
    let endpoint = known.metadata.userinfo_endpoint.as_ref().map_err(Dependency::from)?;
    let mut callout = fetch::callout(&client.config.issuer, "GET", endpoint, Vec::new());
    callout.headers.push(("authorization".to_owned(), format!("Bearer {}", tokens.access_token.expose())));
    let reply =
        answer::ask(&*client.host, ProviderEndpoint::UserInfo, callout).await.map_err(
            |refusal| match refusal.trouble.outlook {
                Outlook::Passing => Rejection::from(Dependency::Provider(refusal.trouble)),
                Outlook::Lasting => LoginError::UserInfo(refusal.trouble.detail).into(),
            },
        )?;
    let userinfo = answer::object(&reply, MAX_RESPONSE_LEN)
        .map_err(|error| LoginError::UserInfo(ProviderEndpoint::UserInfo.says(error)))?;
    // 5.3.2: sub must be present and equal to the ID token's.
    if userinfo.get("sub").is_none() || userinfo.get("sub") != claims.members().get("sub") {
        return Err(LoginError::UserInfoOfAnother.into());
    }
    // A null claim counts as absent, so it does not replace that of the ID token.
    let says =
        |(name, value): &(String, Value)| !value.is_null() && !PROTOCOL_CLAIMS.contains(&name.as_str());
    Ok(claims.extended(userinfo.into_iter().filter(says)))
}
