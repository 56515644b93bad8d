//! What the provider announces is carried out whether or not it waits for the answer, and also when it is signed by a
//! key that is newer than ours.
//!
//! Keys are fetched out of turn at most every 10 seconds, and whoever sends unknown key ids can see to it that the turn
//! is not ours. Keycloak waits a few seconds for an answer, and announces nothing twice. So such a message is refused,
//! as one that does not verify has to be, and is looked at once more when newer keys are there.

use std::rc::Rc;

use crate::error::{Dependency, Rejection};
use crate::host::{Level, LocalFuture};
use crate::http::reply::Reply;
use crate::jose::error::TokenError;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::provider::Provider;
use crate::sync::finish;

/// The outcome of processing a message.
type Answer = Result<Reply, Rejection>;

/// Processes a message with `read`. If its key is unknown, processes it once more after the next key fetch.
///
/// # Errors
/// As the first call of `read`.
pub async fn receive<R>(login: &Rc<BrowserLogin>, message: String, read: R) -> Answer
where
    R: Fn(Rc<BrowserLogin>, String) -> LocalFuture<'static, Answer> + 'static,
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
                        format!("refused: {} {:?}", rejection.label(), rejection.detail().unwrap_or_default())
                    }
                },
            };
            job.host.log(Level::Warn, &format!("logout message retried: {what}"));
        }));
    }
    outcome
}
