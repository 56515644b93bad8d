//! Verifies a token with the provider's keys, whatever kind it is.
//!
//! If the token's `kid` is unknown, the keys are fetched again and the request waits, for three seconds at most. If the
//! provider has not answered by then, the reply is 503 and not 401. There is at most one such fetch in 10 s, however
//! many requests ask in however many workers.

use crate::error::{Dependency, Rejection};
use crate::jose::algorithm::Algorithm;
use crate::jose::error::TokenError;
use crate::jose::kind::TokenKind;
use crate::jose::token::{UntrustedToken, VerifiedToken};
use crate::oidc::provider::Newer;
use crate::oidc::provider_client::ProviderClient;

/// A token that did not verify, or somebody we needed for it was away.
#[derive(Debug)]
pub enum VerifyError {
    /// The token is not good.
    Token(TokenError),
    /// We can't tell.
    Unavailable(Rejection),
}

/// Verifies `text` as a token of this kind. A key that is not known is asked for once: the provider may just have
/// rotated (JW09).
///
/// # Errors
/// See [`VerifyError`].
pub async fn verify<K: TokenKind>(
    client: &ProviderClient,
    text: &str,
    kind: &K,
    algorithms: &[Algorithm],
) -> Result<VerifiedToken<K>, VerifyError> {
    // Form before keys: garbage does not make anybody wait or fetch.
    let token = UntrustedToken::parse(text).map_err(VerifyError::Token)?;
    let (host, keeper) = (&*client.host, &client.provider);
    let provider = keeper.current().await.map_err(VerifyError::Unavailable)?;
    let mut result = token.verify(kind, &provider.keys, algorithms, host);
    if matches!(result, Err(TokenError::UnknownKey)) {
        match keeper.newer(&provider).await {
            Newer::Keys(newer) => result = token.verify(kind, &newer.keys, algorithms, host),
            Newer::None => {}
            Newer::Unanswered => {
                return Err(VerifyError::Unavailable(keeper.missing().into()));
            }
        }
    }
    result.map_err(|error| match error {
        // Not the token's fault, so not the client's either.
        TokenError::CryptoUnavailable => VerifyError::Unavailable(Dependency::Host.into()),
        error => VerifyError::Token(error),
    })
}
