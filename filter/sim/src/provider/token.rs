//! The token endpoint and the content of tokens.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::sign::at_hash;
use super::{CLIENT, CODE_LIFETIME, Code, ISSUER, ORIGIN, Provider, Refresh, State};
use crate::executor::Moment;
use crate::ledger::TokenKind;
use crate::world::epoch_secs;

/// A response of the token endpoint: status and body.
pub type Answer = (u16, Value);

fn refused(description: &str) -> Answer {
    (400, json!({"error": "invalid_grant", "error_description": description}))
}

impl Provider {
    /// `grant_type=authorization_code`
    pub(super) fn exchange(&self, form: &Form, now: Moment) -> Answer {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let given = form.get("code").unwrap_or_default();
        let Some(code) = state.codes.get_mut(given) else { return refused("Code not valid") };
        let sid = code.sid.clone();
        self.ledger.code_presented(given, now);
        if std::mem::replace(&mut code.used, true) {
            self.detach(state, &sid, now);
            return refused("Code not valid");
        }
        if now.duration_since(code.issued) >= CODE_LIFETIME {
            return refused("Code not valid");
        }
        let verifier = form.get("code_verifier").unwrap_or_default();
        if oidc_gate_core::encoding::base64url(Sha256::digest(verifier)) != code.challenge {
            return refused("PKCE verification failed: Code mismatch");
        }
        if form.get("redirect_uri") != Some(&code.redirect_uri) {
            return refused("Incorrect redirect_uri");
        }
        let (nonce, chain) = (code.nonce.clone(), code.chain);
        if !self.is_alive(state, &sid, now) {
            return refused("Session not active");
        }
        (200, self.tokens(state, &sid, Some(&nonce), Some((chain, 0)), now))
    }

    /// `grant_type=refresh_token`
    pub(super) fn refresh(&self, form: &Form, now: Moment) -> Answer {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let given = form.get("refresh_token").unwrap_or_default();
        let Some(token) = state.refresh.get(given) else { return refused("Invalid refresh token") };
        let (sid, chain, number) = (token.sid.clone(), token.chain, token.number);
        let (issued, expires) = (token.issued, token.expires);
        if now >= expires {
            return refused("Token is not active");
        }
        if !self.is_alive(state, &sid, now) {
            return refused("Session not active");
        }
        let session = &state.sessions[&sid];
        if !session.attached {
            return refused("Session doesn't have required client");
        }
        let user = &state.users[session.user];
        // Whole seconds: a token from the same second stays valid.
        if epoch_secs(issued) < state.not_before.max(user.not_before) {
            return refused("Stale token");
        }
        if !user.enabled {
            return refused("User disabled");
        }
        if self.plan.rotation && state.chains.get(&chain) != Some(&number) {
            self.detach(state, &sid, now);
            return refused("Maximum allowed refresh token reuse exceeded");
        }
        if let Some(session) = state.sessions.get_mut(&sid) {
            session.refreshed = now;
        }
        (200, self.tokens(state, &sid, None, Some((chain, number + 1)), now))
    }

    /// A token response for a session. Without `chain` it has no refresh token.
    pub(super) fn tokens(
        &self,
        state: &mut State,
        sid: &str,
        nonce: Option<&str>,
        chain: Option<(u64, u64)>,
        now: Moment,
    ) -> Value {
        let session = &state.sessions[sid];
        let user = &state.users[session.user];
        let left = self.plan.sso_max.saturating_sub(now.duration_since(session.started));
        let lifetime = whole(self.plan.access_lifetime.min(left));
        let iat = epoch_secs(now);
        let person = |mut claims: Value| {
            if !user.groups.is_empty() {
                claims["groups"] = json!(user.groups);
            }
            claims
        };
        state.serial += 1;
        let common = json!({
            "iss": ISSUER, "aud": CLIENT, "azp": CLIENT, "sub": user.subject, "sid": sid, "iat": iat,
            "exp": iat + lifetime.as_secs(), "auth_time": epoch_secs(session.started),
            "jti": format!("jti-{}", state.serial), "preferred_username": user.name,
        });
        let mut access = person(common.clone());
        access["typ"] = json!("Bearer");
        let key = &state.keys[state.keys.len() - 1];
        let access = key.sign("at+jwt", &access);
        let mut id = person(common);
        id["typ"] = json!("ID");
        id["at_hash"] = json!(at_hash(&access));
        if let Some(nonce) = nonce {
            id["nonce"] = json!(nonce);
        }
        let id = key.sign("JWT", &id);
        let ends = now.saturating_add(lifetime);
        self.ledger.issued(&access, TokenKind::Access, (&user.subject, sid), now, ends);
        self.ledger.issued(&id, TokenKind::Id, (&user.subject, sid), now, ends);
        let mut answer = json!({
            "token_type": "Bearer", "access_token": access, "id_token": id, "expires_in": lifetime.as_secs(),
            "session_state": sid, "scope": "openid profile email",
            "not-before-policy": state.not_before.max(user.not_before),
        });
        let refresh_lifetime = whole(self.plan.sso_idle.min(left));
        if let Some((chain, number)) = chain.filter(|_| self.plan.refresh_tokens) {
            let text = format!("refresh.{chain}.{number}.{}", self.random());
            let token = Refresh {
                sid: sid.to_owned(),
                chain,
                number,
                issued: now,
                expires: now.saturating_add(refresh_lifetime),
            };
            self.ledger.refresh_token(&text, chain, number, sid);
            state.refresh.insert(text.clone(), token);
            state.chains.insert(chain, number);
            answer["refresh_token"] = json!(text);
            answer["refresh_expires_in"] = json!(refresh_lifetime.as_secs());
        }
        answer
    }

    /// Issues a code for a session, like the authorization endpoint.
    pub(super) fn issue_code(&self, state: &mut State, sid: &str, request: &Form, now: Moment) -> String {
        state.serial += 1;
        let chain = state.serial;
        let code = format!("{}.{sid}.{CLIENT}", self.random());
        let text = |name| request.get(name).unwrap_or_default().to_owned();
        state.codes.insert(
            code.clone(),
            Code {
                sid: sid.to_owned(),
                nonce: text("nonce"),
                challenge: text("code_challenge"),
                redirect_uri: text("redirect_uri"),
                issued: now,
                used: false,
                chain,
            },
        );
        self.ledger.code_issued(&code, sid, chain);
        code
    }

    /// Whether Keycloak would accept this authorization request.
    pub(super) fn is_registered(request: &Form) -> bool {
        request.get("client_id") == Some(CLIENT)
            && request.get("redirect_uri") == Some(&format!("{ORIGIN}/oauth2/callback"))
            && request.get("response_type") == Some("code")
            && request.get("code_challenge_method") == Some("S256")
    }
}

/// Keycloak counts whole seconds.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// The decoded parameters of a form or query.
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Parses `a=b&c=d`.
    pub fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The first value with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }
}
