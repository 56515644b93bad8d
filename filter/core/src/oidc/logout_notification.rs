//! Processes a logout notification even if the provider does not wait for the answer, and even if it is signed with a
//! key that the gate does not know yet.
//!
//! Fetches for an unknown `kid` are limited to one per 10 s, and an attacker can use up that allowance. Keycloak waits
//! a few seconds for an answer and does not send a notification again. So a notification with an unknown key is
//! refused, like any other that can't be verified, and is checked once more when newer keys are there.

use std::rc::Rc;

use crate::error::{Dependency, Rejection};
use crate::host::{Level, LocalFuture};
use crate::http::reply::Reply;
use crate::jose::error::TokenError;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::provider::Provider;
use crate::secret::SecretText;
use crate::sync::finish;

/// The outcome of processing a message.
type Answer = Result<Reply, Rejection>;

/// Processes a message with `read`. If its key is unknown, processes it once more after the next key fetch.
///
/// # Errors
/// As the first call of `read`.
pub async fn receive<R>(login: &Rc<BrowserLogin>, message: SecretText, read: R) -> Answer
where
    R: Fn(Rc<BrowserLogin>, SecretText) -> LocalFuture<'static, Answer> + 'static,
{
    let provider = login.client.provider.now();
    // Runs on the root context: the sender may disconnect, and the logout still takes effect.
    let outcome = finish(&*login.host, read(login.clone(), message.clone()))
        .await
        .unwrap_or(Err(Rejection::Unavailable(Dependency::Host)));
    let has_newer = || {
        let fetched = |provider: &Option<Rc<Provider>>| provider.as_ref().map(|provider| provider.fetched);
        fetched(&login.client.provider.now()) > fetched(&provider)
    };
    let is_unread = match &outcome {
        // If the keys are newer already, the message's key is not among them.
        Err(Rejection::InvalidLogoutToken(TokenError::UnknownKey)) => !has_newer(),
        Err(Rejection::Unavailable(Dependency::ProviderMetadata(_))) => true,
        _ => false,
    };
    if is_unread && let Some(place) = login.deferred_logouts.take() {
        login.host.log(
            Level::Warn,
            "logout message could not be verified with the known keys: retrying after the next key fetch",
        );
        let job = login.clone();
        login.host.spawn(Box::pin(async move {
            let _place = place;
            let newer = match provider {
                Some(provider) => job.client.provider.newer_in_time(&provider).await.is_some(),
                None => job.client.provider.current().await.is_ok(),
            };
            let what = match newer {
                false => "there are no newer keys, message dropped".to_owned(),
                true => match read(job.clone(), message).await {
                    Ok(_) => "processed".to_owned(),
                    Err(rejection) => {
                        format!(
                            "refused: {} {:?}",
                            rejection.reason().label(),
                            rejection.detail().unwrap_or_default()
                        )
                    }
                },
            };
            job.host.log(Level::Warn, &format!("logout message retried: {what}"));
        }));
    }
    outcome
}
