//! What the provider says to the client behind people's backs: logout tokens, and the callbacks to `adminUrl`.

use std::time::{Duration, Instant};

use crate::browser::Client;
use crate::process::Trouble;

/// Keycloak waits so long for an answer, and does not try again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A call about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A form with `logout_token`.
    LogoutToken { url: String, token: String },
    /// A bare JWT.
    Callback { url: String, token: String },
}

/// A call that was made, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it went.
    pub url: String,
    /// The token.
    pub token: String,
    /// The status of the answer; `None` when there was none in 5 s. Keycloak does not look at it.
    pub status: Option<u16>,
    /// The body of the answer, or why there was none.
    pub answer: String,
    /// How long it took.
    pub took: Duration,
}

impl Outgoing {
    /// Makes the call. Redirects are not followed.
    pub async fn send(self) -> Delivery {
        let started = Instant::now();
        let client = Client::new();
        let (url, token, request) = match self {
            Self::LogoutToken { url, token } => {
                let request = client.request("POST", &url).form(&[("logout_token", &token)]);
                (url.clone(), token, request)
            }
            Self::Callback { url, token } => {
                let request = client.request("POST", &url);
                let request = request.header("content-type", "text/plain; charset=ISO-8859-1");
                (url.clone(), token.clone(), request.body(token))
            }
        };
        let answer = request.timeout(TIMEOUT).exchanged().await;
        let (status, answer) = match answer {
            Ok(response) => (Some(response.status), response.text()),
            Err(trouble) => (None, trouble.to_string()),
        };
        Delivery { url, token, status, answer, took: started.elapsed() }
    }
}

/// Makes the calls one after the other, as Keycloak does, and blocks until the last is answered or given up.
///
/// # Errors
/// There is no runtime for it.
pub(super) fn send_all(calls: Vec<Outgoing>) -> Result<Vec<Delivery>, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let mut deliveries = Vec::new();
        for call in calls {
            deliveries.push(call.send().await);
        }
        deliveries
    }))
}
