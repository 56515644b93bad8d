//! The token endpoint: client authentication and the grants.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Recorded;
use super::endpoints::{Reply, document};
use super::mint::Holder;
use super::realm::{Realm, RefreshToken};
use super::target::Grant;
use super::traffic::Refusal;
use super::user::User;

/// Status, `error`, `error_description`.
pub(super) type TokenError = (u16, &'static str, &'static str);

/// Keycloak's message about a refresh token that is used again.
const REUSED: &str = "Maximum allowed refresh token reuse exceeded";

/// The token endpoint.
pub(super) fn token(realm: &mut Realm, request: &Recorded) -> Reply {
    let result = grant(realm, request);
    if let Some(grant) = request.grant() {
        match &result {
            Ok(_) => realm.traffic.granted.push(grant),
            Err((_, error, description)) => realm.traffic.refused.push(Refusal {
                grant,
                error: (*error).to_owned(),
                description: (*description).to_owned(),
            }),
        }
    }
    match result {
        Ok(response) => document(realm, request, response),
        Err(error) => refusal(error),
    }
}

/// RFC 6749 5.2.
pub(super) fn refusal((status, error, description): TokenError) -> Reply {
    Reply::json(status, &json!({"error": error, "error_description": description}))
}

fn grant(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    if request.method != "POST" {
        return Err((405, "invalid_request", "Only POST"));
    }
    if request.repeated_form_field().is_some() {
        return Err((400, "invalid_request", "duplicated parameter"));
    }
    authenticate_client(realm, request)?;
    match request.grant() {
        Some(Grant::AuthorizationCode) => redeem_code(realm, request),
        Some(Grant::RefreshToken) => refresh(realm, request),
        Some(Grant::Password) => password(realm, request),
        Some(Grant::ClientCredentials) => {
            let user = realm.service_account.clone();
            let scope = request.form_field("scope").unwrap_or("profile email");
            Ok(realm.token_response(&Holder { user: &user, sid: None, auth_time: None, nonce: None, scope }))
        }
        None if request.form_field("grant_type").is_some() => {
            Err((400, "unsupported_grant_type", "Unsupported grant_type"))
        }
        None => Err((400, "invalid_request", "Missing form parameter: grant_type")),
    }
}

/// RFC 6749 2.3.1: in a Basic header, id and secret are form-encoded first.
pub(super) fn authenticate_client(realm: &Realm, request: &Recorded) -> Result<(), TokenError> {
    let basic =
        request.header("authorization").and_then(|value| value.strip_prefix("Basic ").map(ToOwned::to_owned));
    let (id, secret) = match basic {
        Some(encoded) => basic_credentials(&encoded).ok_or((
            400,
            "invalid_request",
            "Invalid client credentials: not form-encoded",
        ))?,
        None => {
            let field = |name| request.form_field(name).unwrap_or_default().to_owned();
            (field("client_id"), field("client_secret"))
        }
    };
    if id != realm.setup.client_id {
        return Err((401, "invalid_client", "Invalid client or Invalid client credentials"));
    }
    if secret != realm.setup.client_secret {
        return Err((401, "unauthorized_client", "Invalid client or Invalid client credentials"));
    }
    Ok(())
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

fn redeem_code(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    const INVALID: TokenError = (400, "invalid_grant", "Code not valid");
    let now = realm.now();
    let presented = request.form_field("code").ok_or((400, "invalid_request", "Missing parameter: code"))?;
    let code = realm.codes.get_mut(presented).ok_or(INVALID)?;
    if code.used {
        let sid = code.sid.clone();
        realm.detach(&sid);
        return Err(INVALID);
    }
    code.used = true;
    if code.expires < now {
        return Err(INVALID);
    }
    if request.form_field("redirect_uri") != Some(code.redirect_uri.as_str()) {
        return Err((400, "invalid_grant", "Incorrect redirect_uri"));
    }
    let verifier = request.form_field("code_verifier").unwrap_or_default();
    // RFC 7636 4.6.
    if code.challenge.as_deref() != Some(URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)).as_str()) {
        return Err((400, "invalid_grant", "PKCE verification failed: Code mismatch"));
    }
    let (sid, scope, nonce) = (code.sid.clone(), code.scope.clone(), code.nonce.clone());
    let session = realm.live_session(&sid).ok_or(INVALID)?;
    let (auth_time, username) = (session.auth_time, session.username.clone());
    let user = enabled(realm, &username)?;
    if scope.split(' ').any(|scope| scope == "offline_access") {
        // The session has no online counterpart: the browser is not signed in at the provider.
        realm.browsers.retain(|_, other| *other != sid);
        if let Some(session) = realm.sessions.get_mut(&sid) {
            session.offline = true;
        }
    }
    Ok(realm.token_response(&Holder {
        user: &user,
        sid: Some(&sid),
        auth_time: Some(auth_time),
        nonce: nonce.as_deref(),
        scope: &scope,
    }))
}

fn refresh(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    let presented = request.form_field("refresh_token").unwrap_or_default();
    let token = realm.refresh_tokens.get(presented).cloned();
    let token = token.ok_or_else(|| refuse("Invalid refresh token"))?;
    let (user, auth_time) = check_refresh_token(realm, &token)?;
    if realm.settings.revoke_refresh_token && token.uses > realm.settings.refresh_token_max_reuse {
        realm.detach(&token.sid);
        return Err(refuse(REUSED));
    }
    if let Some(token) = realm.refresh_tokens.get_mut(presented) {
        token.uses += 1;
    }
    let now = realm.now();
    if let Some(session) = realm.sessions.get_mut(&token.sid) {
        session.last_refresh = now;
    }
    Ok(realm.token_response(&Holder {
        // The current state of the user, with current groups.
        user: &user,
        sid: Some(&token.sid),
        auth_time: Some(auth_time),
        nonce: None,
        scope: &token.scope,
    }))
}

/// All checks except for reuse, in Keycloak's order.
fn check_refresh_token(realm: &Realm, token: &RefreshToken) -> Result<(User, i64), TokenError> {
    if token.expires <= realm.now() {
        return Err(refuse("Token is not active"));
    }
    let session = match realm.sessions.get(&token.sid) {
        Some(session) if session.offline => Some(session),
        Some(_) => realm.live_session(&token.sid),
        None => None,
    };
    let gone = if token.offline { "Offline user session not found" } else { "Session not active" };
    let session = session.ok_or_else(|| refuse(gone))?;
    let user = enabled(realm, &session.username)?;
    if !session.attached {
        return Err(refuse("Session doesn't have required client"));
    }
    if session.epoch != token.epoch {
        // The spelling is Keycloak's.
        return Err(refuse("Refresh toked issued before the client session started"));
    }
    if realm.is_stale(&user, token.issued) {
        return Err(refuse("Stale token"));
    }
    Ok((user, session.auth_time))
}

fn refuse(description: &'static str) -> TokenError {
    (400, "invalid_grant", description)
}

fn enabled(realm: &Realm, username: &str) -> Result<User, TokenError> {
    realm.user(username).filter(|user| user.enabled).cloned().ok_or((400, "invalid_grant", "User disabled"))
}

fn password(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    let password = request.form_field("password").unwrap_or_default();
    let user = request.form_field("username").and_then(|username| realm.user(username));
    let user = user.filter(|user| user.password == password).cloned();
    let user = user.ok_or((401, "invalid_grant", "Invalid user credentials"))?;
    if !user.enabled {
        return Err((400, "invalid_grant", "Account disabled"));
    }
    let scope = request.form_field("scope").unwrap_or("profile email").to_owned();
    let sid = realm.begin_session(&user, None);
    Ok(realm.token_response(&Holder {
        user: &user,
        sid: Some(&sid),
        auth_time: None,
        nonce: None,
        scope: &scope,
    }))
}
