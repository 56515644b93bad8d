//! Token revocation (RFC 7009) at sign-out: where the provider has no end_session, and for offline access, which
//! end_session leaves alone.

use std::rc::Rc;
use std::time::Duration;

use crate::host::Level;
use crate::oidc::client;
use crate::oidc::relying_party::RelyingParty;

/// Tries while the provider does not answer.
const TRIES: u32 = 60;
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Revokes a refresh token in the background; nobody waits for it.
pub fn revoke_later(rp: &Rc<RelyingParty>, refresh_token: String) {
    let job = rp.clone();
    rp.host.spawn(Box::pin(async move {
        for attempt in 0..TRIES {
            job.host.sleep(Duration::from_millis(500).saturating_mul(attempt).min(MAX_PAUSE)).await;
            let Some(known) = job.provider.now() else { continue };
            let Some(endpoint) = &known.metadata.revocation_endpoint else { return };
            let parameters = [("token", refresh_token.as_str()), ("token_type_hint", "refresh_token")];
            match job.host.call(client::post(&job, endpoint, &parameters)).await {
                // 2.2: also for a token that is not known any more. Any other answer stays what it is.
                Ok(reply) if reply.status < 500 => return,
                _ => {}
            }
        }
        job.host.log(Level::Warn, "a refresh token could not be revoked at the provider");
    }));
}
