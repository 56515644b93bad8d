//! The token endpoint: client authentication and the grants.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::realm::Token;
use crate::reply::Refusal;
use crate::{Environment, Grant, Holder, Realm, Reply, Request, Time, User};

impl<E: Environment> Realm<E> {
    pub(crate) fn token(&mut self, request: &Request) -> Reply {
        match self.grant(request) {
            Ok(response) => Reply::json(200, response),
            Err(refusal) => Reply::refusal(refusal),
        }
    }

    fn grant(&mut self, request: &Request) -> Result<Value, Refusal> {
        if request.method != "POST" {
            return Err((405, "invalid_request", "Only POST"));
        }
        if request.repeated_form_field().is_some() {
            return Err((400, "invalid_request", "duplicated parameter"));
        }
        self.authenticate_client(request)?;
        match request.grant() {
            Some(Grant::AuthorizationCode) => self.redeem_code(request),
            Some(Grant::RefreshToken) => self.refresh(request),
            Some(Grant::Password) => self.password(request),
            Some(Grant::ClientCredentials) => {
                let user = self.service_account.clone();
                let scope = request.form_field("scope").unwrap_or("profile email");
                Ok(self.token_response(&Holder::new(&user, None, scope)))
            }
            None if request.form_field("grant_type").is_some() => {
                Err((400, "unsupported_grant_type", "Unsupported grant_type"))
            }
            None => Err((400, "invalid_request", "Missing form parameter: grant_type")),
        }
    }

    /// RFC 6749 2.3.1: in a Basic header, id and secret are form-encoded first.
    pub(crate) fn authenticate_client(&self, request: &Request) -> Result<(), Refusal> {
        const NOT_ENCODED: Refusal = (400, "invalid_request", "Invalid client credentials: not form-encoded");
        let basic = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        let (id, secret) = match basic {
            Some(encoded) => basic_credentials(encoded).ok_or(NOT_ENCODED)?,
            None => {
                let field = |name| request.form_field(name).unwrap_or_default().to_owned();
                (field("client_id"), field("client_secret"))
            }
        };
        if id != self.client.id {
            return Err((401, "invalid_client", "Invalid client or Invalid client credentials"));
        }
        if secret != self.client.secret {
            return Err((401, "unauthorized_client", "Invalid client or Invalid client credentials"));
        }
        Ok(())
    }

    fn redeem_code(&mut self, request: &Request) -> Result<Value, Refusal> {
        const INVALID: Refusal = (400, "invalid_grant", "Code not valid");
        let presented =
            request.form_field("code").ok_or((400, "invalid_request", "Missing parameter: code"))?;
        let code = self.codes.get_mut(presented).ok_or(INVALID)?;
        let sid = code.sid.clone();
        if std::mem::replace(&mut code.used, true) {
            self.detach_thief(&sid);
            return Err(INVALID);
        }
        if code.expires <= self.now {
            return Err(INVALID);
        }
        let requested = |name| code.request.parameter(name);
        if request.form_field("redirect_uri").map(str::to_owned) != requested("redirect_uri") {
            return Err((400, "invalid_grant", "Incorrect redirect_uri"));
        }
        let verifier = request.form_field("code_verifier").unwrap_or_default();
        // RFC 7636 4.6.
        if requested("code_challenge").as_deref()
            != Some(URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)).as_str())
        {
            return Err((400, "invalid_grant", "PKCE verification failed: Code mismatch"));
        }
        let (scope, nonce) = (requested("scope").unwrap_or_default(), requested("nonce"));
        let session = self.live_session(&sid).ok_or(INVALID)?;
        let auth_time = session.started;
        let user = match self.user(&session.username) {
            Some(user) if self.lenient => user.clone(),
            _ => self.enabled(&session.username)?,
        };
        if scope.split(' ').any(|scope| scope == "offline_access")
            && let Some(session) = self.sessions.get_mut(&sid)
        {
            session.offline = true;
        }
        Ok(self.token_response(&Holder {
            auth_time: Some(auth_time),
            nonce: nonce.as_deref(),
            spent: Some(presented),
            ..Holder::new(&user, Some(&sid), &scope)
        }))
    }

    fn refresh(&mut self, request: &Request) -> Result<Value, Refusal> {
        let presented = request.form_field("refresh_token").unwrap_or_default();
        let token = self.refresh_tokens.get(presented).cloned();
        let token = token.ok_or_else(|| refuse("Invalid refresh token"))?;
        let sid = token.sid.as_deref().unwrap_or_default();
        let (user, auth_time) = self.check_refresh_token(&token, sid)?;
        if self.settings.revoke_refresh_token && token.uses > self.settings.refresh_token_max_reuse {
            self.detach_thief(sid);
            return Err(refuse("Maximum allowed refresh token reuse exceeded"));
        }
        if let Some(token) = self.refresh_tokens.get_mut(presented) {
            token.uses += 1;
        }
        if let Some(session) = self.sessions.get_mut(sid) {
            session.last_refresh = self.now;
        }
        // The current state of the user, with current groups.
        Ok(self.token_response(&Holder {
            auth_time: Some(auth_time),
            spent: Some(presented),
            ..Holder::new(&user, Some(sid), &token.scope)
        }))
    }

    /// All checks except for reuse, in Keycloak's order.
    fn check_refresh_token(&self, token: &Token, sid: &str) -> Result<(User, Time), Refusal> {
        if token.expires <= self.now {
            return Err(refuse("Token is not active"));
        }
        let session = self.sessions.get(sid);
        let session = session.filter(|session| session.offline || self.live_session(sid).is_some());
        let gone = if token.offline { "Offline user session not found" } else { "Session not active" };
        let session = session.ok_or_else(|| refuse(gone))?;
        let user = self.enabled(&session.username)?;
        if !session.attached {
            return Err(refuse("Session doesn't have required client"));
        }
        if session.epoch != token.epoch {
            // The spelling is Keycloak's.
            return Err(refuse("Refresh toked issued before the client session started"));
        }
        if self.is_stale(&user, token.issued) {
            return Err(refuse("Stale token"));
        }
        Ok((user, session.started))
    }

    fn enabled(&self, username: &str) -> Result<User, Refusal> {
        let user = self.user(username).filter(|user| user.enabled).cloned();
        user.ok_or_else(|| refuse("User disabled"))
    }

    fn password(&mut self, request: &Request) -> Result<Value, Refusal> {
        let password = request.form_field("password").unwrap_or_default();
        let user = request.form_field("username").and_then(|username| self.user(username));
        let user = user.filter(|user| user.password == password).cloned();
        let user = user.ok_or((401, "invalid_grant", "Invalid user credentials"))?;
        if !user.enabled {
            return Err(refuse("Account disabled"));
        }
        let sid = self.begin_session(&user, None);
        let scope = request.form_field("scope").unwrap_or("profile email");
        Ok(self.token_response(&Holder::new(&user, Some(&sid), scope)))
    }
}

fn basic_credentials(encoded: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    // A form decoder accepts "&" and "=", but in a value they must be escaped.
    let decode = |text: &str| {
        let field = format!("v={text}");
        let mut pairs = form_urlencoded::parse(field.as_bytes());
        let (_, value) = pairs.next()?;
        (pairs.next().is_none() && !text.contains('=')).then(|| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}

const fn refuse(description: &'static str) -> Refusal {
    (400, "invalid_grant", description)
}
