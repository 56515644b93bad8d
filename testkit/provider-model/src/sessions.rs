//! The endpoints for existing tokens and sessions: UserInfo, introspection, revocation, logout.

use serde_json::{Value, json};

use crate::{COOKIE, Content, Environment, Realm, Reply, Request, Time};

impl<E: Environment> Realm<E> {
    /// UserInfo, for access tokens with the scope `openid`.
    pub(crate) fn userinfo(&self, request: &Request) -> Reply {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match token.and_then(|token| self.active_access_token(token)) {
            Some((token, user)) if token.scope.split(' ').any(|scope| scope == "openid") => {
                let mut claims = user.profile();
                claims.insert("sub".into(), json!(user.subject));
                Reply::json(200, Value::Object(claims))
            }
            Some(_) => Reply::refusal((403, "insufficient_scope", "Missing openid scope")),
            None => Reply::refusal((401, "invalid_token", "Token verification failed"))
                .with("www-authenticate", "Bearer realm=\"mlflow\", error=\"invalid_token\"".to_owned()),
        }
    }

    /// RFC 7662. Inactive for everything except a valid access token of this provider, including refresh tokens.
    pub(crate) fn introspect(&self, request: &Request) -> Reply {
        if request.method != "POST" {
            return Reply::refusal((405, "invalid_request", "Only POST"));
        }
        if let Err(refusal) = self.authenticate_client(request) {
            return Reply::refusal(refusal);
        }
        let Some(presented) = request.form_field("token") else {
            return Reply::refusal((400, "invalid_request", "Token not provided."));
        };
        let active = self.active_access_token(presented).filter(|(token, _)| self.is_named_in(&token.claims));
        let answer = match active {
            Some((token, user)) => {
                let mut answer = token.claims.clone();
                answer["active"] = json!(true);
                answer["client_id"] = json!(self.client.id);
                answer["username"] = json!(user.username);
                answer["token_type"] = json!("Bearer");
                answer
            }
            None => json!({"active": false}),
        };
        Reply::json(200, answer)
    }

    /// Whether the token's `aud` contains the client.
    fn is_named_in(&self, claims: &Value) -> bool {
        match &claims["aud"] {
            Value::Array(list) => list.iter().any(|audience| *audience == self.client.id),
            audience => *audience == self.client.id,
        }
    }

    /// RFC 7009: revoking a refresh token takes the client out of its session, and a session without clients ends.
    /// Revoking an access token ends only the token. The client is not notified. Keycloak returns 200 even for invalid
    /// tokens.
    pub(crate) fn revoke(&mut self, request: &Request) -> Reply {
        if let Err(refusal) = self.authenticate_client(request) {
            return Reply::refusal(refusal);
        }
        let Some(token) = request.form_field("token") else {
            return Reply::refusal((400, "invalid_request", "Token not provided"));
        };
        if let Some(sid) = self.refresh_tokens.get(token).and_then(|token| token.sid.clone()) {
            if self.settings.shares_sessions {
                self.detach(&sid);
            } else {
                self.end_session(&sid);
            }
        } else if let Some(token) = self.access_tokens.get_mut(token) {
            token.expires = Time::default();
        } else {
            let error = json!({"error": "invalid_token", "error_description": "Invalid token"});
            return Reply::json(200, error);
        }
        Reply::new(200, Content::Empty)
    }

    /// RP-initiated logout, for browsers. The client is notified through the back channel before the browser is
    /// redirected.
    pub(crate) fn log_out(&mut self, request: &Request) -> Reply {
        // OpenID Connect RP-Initiated Logout 2: GET with a query or POST with a form.
        let parameter =
            |name: &str| request.parameter(name).or_else(|| request.form_field(name).map(ToOwned::to_owned));
        let back_to = parameter("post_logout_redirect_uri");
        let hint = parameter("id_token_hint");
        let hinted = hint.as_ref().and_then(|hint| self.id_tokens.get(hint).cloned());
        if hint.is_some() && hinted.is_none() {
            return Reply::sentence(400, "Invalid parameter: id_token_hint");
        }
        let client_id = parameter("client_id");
        if client_id.as_ref().is_some_and(|id| *id != self.client.id) {
            return Reply::sentence(400, "Invalid parameter: client_id");
        }
        if let Some(uri) = &back_to {
            if hint.is_none() && client_id.is_none() {
                return Reply::sentence(400, "Missing parameters: id_token_hint");
            }
            if !self.is_registered(uri) {
                return Reply::sentence(400, "Invalid redirect uri");
            }
        }
        // Without a hint the user must confirm the logout.
        let confirmed =
            request.form_field("confirmLogout").map(|_| request.cookie(COOKIE).map(str::to_owned));
        let Some(sid) = hinted.or(confirmed) else { return Reply::sentence(200, "Do you want to log out?") };
        // Sessions with offline_access are not ended.
        let online = sid.filter(|sid| self.sessions.get(sid).is_some_and(|session| !session.offline));
        let ended = online.and_then(|sid| self.end_session(&sid));
        let reply = match back_to {
            Some(uri) => {
                let state = parameter("state").map(|state| ("state".to_owned(), state));
                Reply::new(302, Content::Redirect(uri, state.into_iter().collect()))
            }
            None => Reply::sentence(200, "You are logged out"),
        };
        Reply { ended, ..reply }
    }
}
