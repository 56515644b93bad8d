//! The provider's direct calls to the client: logout tokens, and callbacks to the `adminUrl`.

use std::time::{Duration, Instant};

use crate::browser::Client;

/// How long Keycloak waits for a response. It does not try again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A call before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A form with `logout_token`.
    LogoutToken { url: String, token: String },
    /// A bare JWT.
    Callback { url: String, token: String },
}

/// A call that was made, with its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The target URL.
    pub url: String,
    /// The token.
    pub token: String,
    /// The status of the response. `None` if there was none within 5 s. Keycloak ignores it.
    pub status: Option<u16>,
    /// The body of the response, or the error.
    pub answer: String,
    /// How long the call took.
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
