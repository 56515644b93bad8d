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

/// The reason why a token was not verified.
#[derive(Debug)]
pub enum VerifyError {
    /// The token is invalid.
    Token(TokenError),
    /// A dependency is unavailable, so the token cannot be judged.
    Unavailable(Rejection),
}

impl VerifyError {
    /// The refusal. `invalid` makes one for an invalid token.
    pub fn into_rejection(self, invalid: impl FnOnce(TokenError) -> Rejection) -> Rejection {
        match self {
            Self::Token(error) => invalid(error),
            Self::Unavailable(rejection) => rejection,
        }
    }
}

/// Verifies `text` as a token of this kind. For an unknown key, asks for newer keys once: the provider may just have
/// rotated them (JW09).
///
/// # Errors
/// See [`VerifyError`].
pub async fn verify<K: TokenKind>(
    client: &ProviderClient,
    text: &str,
    kind: &K,
    algorithms: &[Algorithm],
) -> Result<VerifiedToken<K>, VerifyError> {
    // Check the form first: garbage must not cause a wait or a fetch.
    let token = UntrustedToken::parse(text).map_err(VerifyError::Token)?;
    let (host, provider_cache) = (&*client.host, &client.provider);
    let provider = provider_cache.current().await.map_err(VerifyError::Unavailable)?;
    let mut result = token.verify(kind, &provider.keys, algorithms, host);
    if matches!(result, Err(TokenError::UnknownKey)) {
        match provider_cache.newer(&provider).await {
            Newer::Keys(newer) => result = token.verify(kind, &newer.keys, algorithms, host),
            Newer::None => {}
            Newer::Unanswered => {
                return Err(VerifyError::Unavailable(provider_cache.missing().into()));
            }
        }
    }
    result.map_err(|error| match error {
        // The host failed, so the client is not to blame.
        TokenError::CryptoUnavailable => VerifyError::Unavailable(Dependency::Host.into()),
        error => VerifyError::Token(error),
    })
}
