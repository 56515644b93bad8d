//! Token revocation (RFC 7009) at sign-out: where the provider has no end_session, and for offline access, which
//! end_session leaves alone.

use std::rc::Rc;
use std::time::Duration;

use crate::error::Outlook;
use crate::host::Level;
use crate::oidc::answer::{self, ProviderEndpoint};
use crate::oidc::provider_client::ProviderClient;
use crate::quote::quote;
use crate::secret::SecretText;

/// Tries while the provider does not answer.
const TRIES: u32 = 60;
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Longest reason in the log, in characters.
const MAX_LOGGED: usize = 600;

/// Revokes a refresh token in the background.
pub fn revoke_later(client: &Rc<ProviderClient>, refresh_token: SecretText) {
    let job = client.clone();
    client.host.spawn(Box::pin(async move {
        let mut problem = String::from("the provider's metadata is not available");
        for attempt in 0..TRIES {
            job.host.sleep(Duration::from_millis(500).saturating_mul(attempt).min(MAX_PAUSE)).await;
            let Some(known) = job.provider.now() else { continue };
            let Ok(endpoint) = known.metadata.revocation_endpoint.as_ref() else { return };
            let parameters = [("token", refresh_token.expose()), ("token_type_hint", "refresh_token")];
            let callout = job.post(endpoint, &parameters);
            match answer::ask(&*job.host, ProviderEndpoint::Revocation, callout).await {
                // 2.2: also for a token that the provider no longer knows.
                Ok(_) => return,
                Err(refusal) if matches!(refusal.status, Some(200..300)) => return,
                Err(refusal) => {
                    problem = refusal.trouble.detail.to_string();
                    if refusal.trouble.outlook == Outlook::Lasting {
                        break;
                    }
                }
            }
        }
        job.host.log(
            Level::Warn,
            &format!(
                "refresh token could not be revoked at the provider, giving up: {}",
                quote(&problem, MAX_LOGGED)
            ),
        );
    }));
}
