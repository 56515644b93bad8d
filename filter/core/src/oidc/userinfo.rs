//! UserInfo (OIDC Core 5.3): more claims about the person whom the ID token names, and about nobody else.

use serde_json::Value;

use crate::error::{Dependency, LoginError, Outlook, Rejection};
use crate::jose::claims::Claims;
use crate::oidc::answer::{self, ProviderEndpoint};
use crate::oidc::provider;
use crate::oidc::provider_client::ProviderClient;
use crate::oidc::token_endpoint::Tokens;

/// Longest UserInfo response, in bytes.
const MAX_RESPONSE_LEN: usize = 256 * 1024;
/// Claims that only a signed token can make.
const PROTOCOL_CLAIMS: [&str; 10] =
    ["iss", "sub", "aud", "azp", "client_id", "exp", "iat", "nbf", "sid", "nonce"];

/// Asks UserInfo and adds what it says to the ID token's claims.
///
/// # Errors
/// It has no UserInfo endpoint that can be used, does not answer, answers with something else than JSON, or about
/// somebody else.
pub async fn merge(client: &ProviderClient, tokens: &Tokens, claims: Claims) -> Result<Claims, Rejection> {
    let known = client.provider.current().await?;
    let wrong = |what: &str| LoginError::UserInfo(ProviderEndpoint::UserInfo.says(what));
    let endpoint = known.metadata.userinfo_endpoint().map_err(Dependency::from)?;
    let mut callout = provider::callout(&client.config.issuer, "GET", endpoint, Vec::new());
    callout.headers.push(("authorization".to_owned(), format!("Bearer {}", tokens.access_token.expose())));
    let reply =
        answer::ask(&*client.host, ProviderEndpoint::UserInfo, callout).await.map_err(
            |refusal| match refusal.trouble.outlook {
                Outlook::Passing => Rejection::from(Dependency::Provider(refusal.trouble)),
                Outlook::Lasting => LoginError::UserInfo(refusal.trouble.detail).into(),
            },
        )?;
    let userinfo = answer::object(&reply, MAX_RESPONSE_LEN).map_err(|what| wrong(&what))?;
    // 5.3.2: sub must be there and be the ID token's.
    if userinfo.get("sub").is_none() || userinfo.get("sub") != claims.members().get("sub") {
        return Err(LoginError::UserInfoOfAnother.into());
    }
    // What is null is not there, so it does not take the place of what the ID token says.
    let says =
        |(name, value): &(String, Value)| !value.is_null() && !PROTOCOL_CLAIMS.contains(&name.as_str());
    Ok(claims.extended(userinfo.into_iter().filter(says)))
}
