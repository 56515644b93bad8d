//! The provider's endpoints: back-channel ones for the gate, front-channel ones for browsers.

use oidc_gate_core::encoding::base64;
use serde_json::{Value, json};

use super::token::Form;
use super::{CLIENT, ISSUER, Provider, SECRET};
use crate::executor::Moment;

/// The response of the authorization endpoint to a browser.
pub enum Authorized {
    /// A redirect back with a code. `sid` is the browser's session at the provider from now on.
    Back {
        /// The redirect's target.
        location: String,
        /// The provider's session cookie.
        sid: String,
    },
    /// The user must enter a password first.
    AskPassword,
    /// An error page without a redirect.
    Error,
}

/// The response of `end_session_endpoint` to a browser.
pub struct LoggedOut {
    /// Sessions for which logout tokens must be sent before the redirect.
    pub announce: Vec<String>,
    /// The redirect's target; `None` for a confirmation page.
    pub location: Option<String>,
}

impl Provider {
    /// Handles a request of the gate.
    pub fn handle(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &[u8],
        now: Moment,
    ) -> (u16, Value) {
        self.requests.set(self.requests.get() + 1);
        let path = target.split('?').next().unwrap_or_default();
        let Some(endpoint) = path.strip_prefix("/realms/mlflow/") else {
            return (404, json!({"error": "not found"}));
        };
        let form = Form::parse(body);
        match (method, endpoint) {
            ("GET", ".well-known/openid-configuration") => (200, Self::metadata()),
            ("GET", "protocol/openid-connect/certs") => (
                200,
                json!({"keys": self.state.borrow().keys.iter().map(super::Key::jwk).collect::<Vec<_>>()}),
            ),
            ("GET" | "POST", "protocol/openid-connect/userinfo") => self.userinfo(headers, now),
            ("POST", _) if !Self::is_authenticated(headers, &form) => (
                401,
                json!({"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"}),
            ),
            ("POST", "protocol/openid-connect/token") => match form.get("grant_type") {
                Some("authorization_code") => self.exchange(&form, now),
                Some("refresh_token") => {
                    let answer = self.refresh(&form, now);
                    self.ledger.presented(form.get("refresh_token").unwrap_or_default(), now);
                    answer
                }
                _ => (400, json!({"error": "unsupported_grant_type"})),
            },
            ("POST", "protocol/openid-connect/token/introspect") => {
                (200, self.introspect(form.get("token").unwrap_or_default(), now))
            }
            ("POST", "protocol/openid-connect/revoke") => {
                self.revoke(form.get("token").unwrap_or_default(), now);
                (200, json!({}))
            }
            _ => (404, json!({"error": "not found"})),
        }
    }

    fn metadata() -> Value {
        let at = |path: &str| format!("{ISSUER}/protocol/openid-connect/{path}");
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": at("auth"),
            "token_endpoint": at("token"),
            "jwks_uri": at("certs"),
            "userinfo_endpoint": at("userinfo"),
            "end_session_endpoint": at("logout"),
            "introspection_endpoint": at("token/introspect"),
            "revocation_endpoint": at("revoke"),
            "authorization_response_iss_parameter_supported": true,
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
            "code_challenge_methods_supported": ["plain", "S256"],
        })
    }

    fn is_authenticated(headers: &[(String, String)], form: &Form) -> bool {
        // RFC 6749 2.3.1: id and secret are form-encoded before they are joined.
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let expected = format!("Basic {}", base64(format!("{}:{}", encode(CLIENT), encode(SECRET))));
        headers.iter().any(|(name, value)| name == "authorization" && *value == expected)
            || (form.get("client_id") == Some(CLIENT) && form.get("client_secret") == Some(SECRET))
    }

    /// The subject and session of an access token, if the provider considers it active.
    fn active(&self, token: &str, now: Moment) -> Option<(String, String)> {
        let issued = self.ledger.access_token(token)?;
        let sid = issued.sid?;
        let state = self.state.borrow();
        let session = state.sessions.get(&sid)?;
        let user = &state.users[session.user];
        let good = now < issued.ends && self.is_alive(&state, &sid, now) && session.attached && user.enabled;
        good.then_some((issued.subject, sid))
    }

    fn userinfo(&self, headers: &[(String, String)], now: Moment) -> (u16, Value) {
        let token = headers
            .iter()
            .find(|(name, _)| name == "authorization")
            .and_then(|(_, v)| v.strip_prefix("Bearer "));
        match token.and_then(|token| self.active(token, now)) {
            Some((subject, _)) => (200, json!({"sub": subject})),
            None => (401, json!({"error": "invalid_token"})),
        }
    }

    fn introspect(&self, token: &str, now: Moment) -> Value {
        match self.active(token, now) {
            Some((subject, sid)) => json!({"active": true, "sub": subject, "sid": sid, "client_id": CLIENT}),
            None => json!({"active": false}),
        }
    }

    /// Revoking a refresh token detaches our client from the session, without a logout token.
    fn revoke(&self, token: &str, now: Moment) {
        let mut state = self.state.borrow_mut();
        if let Some(sid) = state.refresh.get(token).map(|token| token.sid.clone()) {
            self.detach(&mut state, &sid, now);
        }
    }

    /// Handles an authorization request of a browser. `sso` is its session cookie. Without a session, the result is
    /// [`Authorized::AskPassword`], and the browser repeats the request with `password`, the number of its user.
    pub fn authorize(
        &self,
        query: &str,
        sso: Option<&str>,
        password: Option<usize>,
        now: Moment,
    ) -> Authorized {
        let request = Form::parse(query.as_bytes());
        if !Self::is_registered(&request) {
            return Authorized::Error;
        }
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let known = sso.filter(|sid| self.is_alive(state, sid, now)).map(str::to_owned);
        let sid = match (known, password) {
            (Some(sid), _) => sid,
            (None, Some(user)) if state.users[user].enabled => self.open_session(state, user, now),
            (None, Some(_)) => return Authorized::Error,
            (None, None) => return Authorized::AskPassword,
        };
        if !state.users[state.sessions[&sid].user].enabled {
            return Authorized::Error;
        }
        if let Some(session) = state.sessions.get_mut(&sid) {
            session.attached = true;
            session.refreshed = now;
        }
        let code = self.issue_code(state, &sid, &request, now);
        let answer = form_urlencoded::Serializer::new(String::new())
            .append_pair("state", request.get("state").unwrap_or_default())
            .append_pair("session_state", &sid)
            .append_pair("iss", ISSUER)
            .append_pair("code", &code)
            .finish();
        let location = format!("{}?{answer}", request.get("redirect_uri").unwrap_or_default());
        Authorized::Back { location, sid }
    }

    /// Handles a sign-out request of a browser (RP-Initiated Logout). With an ID token hint, there is no confirmation.
    pub fn end_session_request(&self, query: &str, sso: Option<&str>, now: Moment) -> LoggedOut {
        let request = Form::parse(query.as_bytes());
        let hinted =
            request.get("id_token_hint").and_then(|hint| self.ledger.id_token(hint)).and_then(|t| t.sid);
        let mut state = self.state.borrow_mut();
        let Some(sid) = hinted.or_else(|| sso.map(str::to_owned)) else {
            return LoggedOut { announce: Vec::new(), location: None };
        };
        // Without a hint Keycloak shows a confirmation page, and the user confirms.
        let announce = if self.end_session(&mut state, &sid, now) { vec![sid] } else { Vec::new() };
        let location = request.get("post_logout_redirect_uri").map(|to| {
            let state = request.get("state").unwrap_or_default();
            format!(
                "{to}?{}",
                form_urlencoded::Serializer::new(String::new()).append_pair("state", state).finish()
            )
        });
        LoggedOut { announce, location }
    }

    /// Issues tokens to an API client, in a session for it alone (password grant).
    pub fn grant(&self, user: usize, now: Moment) -> Option<(String, String)> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if !state.users[user].enabled {
            return None;
        }
        let sid = self.open_session(state, user, now);
        let tokens = self.tokens(state, &sid, None, None, now);
        Some((tokens["access_token"].as_str()?.to_owned(), tokens["id_token"].as_str()?.to_owned()))
    }
}
