//! The endpoints for existing tokens and sessions: UserInfo, introspection, revocation, logout.

use serde_json::{Value, json};

use super::Recorded;
use super::endpoints::{Reply, document, is_registered};
use super::pages;
use super::realm::Realm;
use super::token::{authenticate_client, refusal};

/// UserInfo, for access tokens with the scope `openid`.
pub(super) fn userinfo(realm: &Realm, request: &Recorded) -> Reply {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match token.and_then(|token| realm.active_access_token(token)) {
        Some((token, user)) if token.scope.split(' ').any(|scope| scope == "openid") => {
            document(realm, request, realm.userinfo(user))
        }
        Some(_) => refusal((403, "insufficient_scope", "Missing openid scope")),
        None => refusal((401, "invalid_token", "Token verification failed"))
            .with("www-authenticate", "Bearer realm=\"mlflow\", error=\"invalid_token\"".to_owned()),
    }
}

/// RFC 7662. Inactive for everything except a valid access token of this provider, including refresh tokens.
pub(super) fn introspect(realm: &Realm, request: &Recorded) -> Reply {
    if request.method != "POST" {
        return refusal((405, "invalid_request", "Only POST"));
    }
    if let Err(error) = authenticate_client(realm, request) {
        return refusal(error);
    }
    let Some(presented) = request.form_field("token") else {
        return refusal((400, "invalid_request", "Token not provided."));
    };
    let active = realm.active_access_token(presented).filter(|(token, _)| names(&token.claims, realm));
    let answer = match active {
        Some((token, user)) => {
            let mut answer = token.claims.clone();
            answer["active"] = json!(true);
            answer["client_id"] = json!(realm.setup.client_id);
            answer["username"] = json!(user.username);
            answer["token_type"] = json!("Bearer");
            answer
        }
        None => json!({"active": false}),
    };
    document(realm, request, answer)
}

/// Whether the token's `aud` contains the requesting client.
fn names(claims: &Value, realm: &Realm) -> bool {
    let client_id = realm.setup.client_id.as_str();
    match &claims["aud"] {
        Value::Array(list) => list.iter().any(|audience| audience == client_id),
        audience => audience == client_id,
    }
}

/// RFC 7009: revoking a refresh token ends its session, revoking an access token only the token. The client is not
/// notified. Keycloak returns 200 even for invalid tokens.
pub(super) fn revoke(realm: &mut Realm, request: &Recorded) -> Reply {
    if let Err(error) = authenticate_client(realm, request) {
        return refusal(error);
    }
    let Some(token) = request.form_field("token") else {
        return refusal((400, "invalid_request", "Token not provided"));
    };
    if let Some(sid) = realm.refresh_tokens.get(token).map(|token| token.sid.clone()) {
        let _ = realm.end_session(&sid);
    } else if let Some(token) = realm.access_tokens.get_mut(token) {
        token.expires = 0;
    } else {
        return Reply::json(200, &json!({"error": "invalid_token", "error_description": "Invalid token"}));
    }
    Reply::new(200, "text/plain", "")
}

/// RP-initiated logout, for browsers. The client is notified through the back channel before the browser is redirected.
pub(super) fn end_session(realm: &mut Realm, request: &Recorded) -> Reply {
    // OpenID Connect RP-Initiated Logout 2: GET with a query or POST with a form.
    let parameter =
        |name: &str| request.parameter(name).or_else(|| request.form_field(name).map(ToOwned::to_owned));
    let back_to = parameter("post_logout_redirect_uri");
    let hint = parameter("id_token_hint");
    let hinted = hint.as_ref().and_then(|hint| realm.id_tokens.get(hint).cloned());
    if hint.is_some() && hinted.is_none() {
        return Reply::html(400, pages::error("Invalid parameter: id_token_hint"));
    }
    let client_id = parameter("client_id");
    if client_id.as_ref().is_some_and(|id| *id != realm.setup.client_id) {
        return Reply::html(400, pages::error("Invalid parameter: client_id"));
    }
    if let Some(uri) = &back_to {
        if hint.is_none() && client_id.is_none() {
            return Reply::html(400, pages::error("Missing parameters: id_token_hint"));
        }
        if !is_registered(&realm.setup.redirect_uris, uri) {
            return Reply::html(400, pages::error("Invalid redirect uri"));
        }
    }
    let Some(sid) = hinted else { return Reply::html(200, pages::error("Do you want to log out?")) };
    // end_session does not end sessions with offline_access.
    let online = sid.filter(|sid| realm.sessions.get(sid).is_some_and(|session| !session.offline));
    let told = online.and_then(|sid| realm.end_session(&sid));
    let reply = match back_to {
        Some(uri) => {
            let separator = if uri.contains('?') { '&' } else { '?' };
            let state = parameter("state").map(|state| {
                let query =
                    form_urlencoded::Serializer::new(String::new()).append_pair("state", &state).finish();
                format!("{separator}{query}")
            });
            Reply::redirect(format!("{uri}{}", state.unwrap_or_default()))
        }
        None => Reply::html(200, pages::error("You are logged out")),
    };
    reply.after(told)
}
