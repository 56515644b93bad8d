//! A user's browser and a script with a token, of one session at the provider.

use std::time::Duration;

use oidc_gate_testkit::browser::{Client, Request, Response};
use oidc_gate_testkit::provider::{Delivery, Forgery};

use crate::{Gate, assert_everywhere, assert_soon_everywhere};

const PATH: &str = "/x";

/// A browser and a bearer token of the same session at the provider.
#[derive(Debug)]
pub struct Signed {
    /// The browser.
    pub browser: Client,
    /// The token.
    pub token: String,
    /// The session at the provider.
    pub sid: String,
}

impl Signed {
    /// Signs in, and lets every worker cache both.
    ///
    /// # Panics
    /// If the login fails, or a worker refuses one of them.
    #[track_caller]
    pub fn in_as(gate: &Gate, username: &str) -> Self {
        let (browser, sid) = gate.signed_in_with_sid(username);
        let signed = Self { browser, token: gate.provider.access_token_in(&sid), sid };
        signed.assert(gate, 200);
        signed
    }

    /// A request with the session cookie.
    pub fn by_cookie(&self, url: &str) -> Request {
        self.browser.fetching("GET", url)
    }

    /// A request with the token.
    pub fn by_token(&self, url: &str) -> Request {
        Client::new().request("GET", url).bearer(&self.token)
    }

    /// Asserts that every worker of every Envoy returns this status for both.
    ///
    /// # Panics
    /// If one does not.
    #[track_caller]
    pub fn assert(&self, gate: &Gate, status: u16) {
        assert_everywhere(gate, status, PATH, |url| self.by_cookie(url));
        assert_everywhere(gate, status, PATH, |url| self.by_token(url));
    }

    /// Asserts that both are soon refused everywhere, permanently. Returns how long that took.
    ///
    /// # Panics
    /// If one is not.
    #[track_caller]
    pub fn assert_ends(&self, gate: &Gate) -> Duration {
        let cookie = assert_soon_everywhere(gate, 401, PATH, |url| self.by_cookie(url));
        let token = assert_soon_everywhere(gate, 401, PATH, |url| self.by_token(url));
        self.assert(gate, 401);
        let page = self.browser.navigate(&gate.url(PATH));
        assert!(page.as_ref().is_ok_and(|page| page.status == 302), "{page:?}");
        cookie + token
    }

    /// A message of the provider that the session has ended.
    pub fn logout_token(&self, gate: &Gate) -> String {
        gate.provider.logout_token(&self.sid, &Forgery::new())
    }
}

impl Gate {
    /// Posts a logout token to one Envoy.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn post_logout_token(&self, envoy: usize, token: &str) -> Response {
        let request = Client::new().request("POST", &self.url_at(envoy, "/oauth2/backchannel-logout"));
        let response = request.form(&[("logout_token", token)]).send();
        response.unwrap_or_else(|trouble| panic!("{trouble}"))
    }
}

/// Asserts that the gate has accepted a message of the provider.
///
/// # Panics
/// If it has not.
#[track_caller]
pub fn assert_accepted(delivery: &Delivery) {
    assert!([Some(200), Some(204)].contains(&delivery.status), "{delivery:?}");
}

/// Asserts that this many logout messages were sent, and that the gate has processed each.
///
/// # Panics
/// If not.
#[track_caller]
pub fn assert_all_accepted(deliveries: &[Delivery], expected: usize) {
    assert_eq!(deliveries.len(), expected, "{deliveries:#?}");
    for delivery in deliveries {
        assert_accepted(delivery);
    }
}
