//! The provider's endpoints: each turns one request into one answer, as Keycloak 26 words it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::misbehaviour::Endpoint;
use super::pages;
use super::realm::{Grant, Realm, SCOPES, User};
use super::{Recorded, random_text};

/// The cookie that keeps a browser signed in at the provider.
const COOKIE: &str = "TESTKIT_IDENTITY";

/// An answer before it goes on the wire.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            status,
            headers: vec![header("content-type", content_type), header("cache-control", "no-store")],
            body: body.into(),
        }
    }

    fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    fn html(status: u16, page: String) -> Self {
        Self::new(status, "text/html;charset=UTF-8", page)
    }

    fn redirect(location: String) -> Self {
        Self::new(302, "text/plain", "").with("location", location)
    }

    fn with(mut self, name: &str, value: String) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }
}

/// Which endpoint a path below the issuer is.
pub(super) fn endpoint(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/.well-known/openid-configuration" => Endpoint::Discovery,
        "/protocol/openid-connect/certs" => Endpoint::Jwks,
        "/protocol/openid-connect/auth" => Endpoint::Authorization,
        "/login-actions/authenticate" => Endpoint::SignIn,
        "/protocol/openid-connect/token" => Endpoint::Token,
        "/protocol/openid-connect/userinfo" => Endpoint::UserInfo,
        "/protocol/openid-connect/logout" => Endpoint::EndSession,
        "/protocol/openid-connect/revoke" => Endpoint::Revocation,
        _ => return None,
    })
}

/// The right answer.
pub(super) fn answer(realm: &mut Realm, endpoint: Endpoint, request: &Recorded) -> Reply {
    match endpoint {
        Endpoint::Discovery => document(realm, endpoint, realm.discovery()),
        Endpoint::Jwks => document(realm, endpoint, realm.keys.jwks()),
        Endpoint::Authorization => authorize(realm, request),
        Endpoint::SignIn => sign_in(realm, request),
        Endpoint::Token => match token(realm, request) {
            Ok(response) => document(realm, endpoint, response),
            Err((status, error, description)) => {
                Reply::json(status, &json!({"error": error, "error_description": description}))
            }
        },
        Endpoint::UserInfo => userinfo(realm, request),
        Endpoint::EndSession => end_session(realm, request),
        Endpoint::Revocation => revoke(realm, request),
    }
}

fn document(realm: &Realm, endpoint: Endpoint, mut document: Value) -> Reply {
    realm.misbehaviour.apply_to_document(endpoint, &mut document);
    Reply::json(200, &document)
}

fn authorize(realm: &mut Realm, request: &Recorded) -> Reply {
    if let Err(refusal) = check_authorization_request(realm, request) {
        return refusal;
    }
    let cookie = request.cookie(COOKIE);
    let signed_in = cookie.as_deref().and_then(|cookie| realm.browsers.get(cookie));
    let signed_in = signed_in.and_then(|sid| realm.sessions.get(sid)).map(|session| session.user.clone());
    let told = realm.sign_in_as.as_deref().and_then(|username| realm.user(username)).cloned();
    let prompt = request.parameter("prompt");
    let user = told.or(signed_in.filter(|_| prompt.as_deref() != Some("login")));
    match (user, prompt.as_deref()) {
        (Some(user), _) => grant_code(realm, request, &user),
        (None, Some("none")) => authorization_error(realm, request, "login_required", None),
        (None, _) => Reply::html(200, pages::sign_in(realm, request, None)),
    }
}

fn sign_in(realm: &mut Realm, request: &Recorded) -> Reply {
    if let Err(refusal) = check_authorization_request(realm, request) {
        return refusal;
    }
    let username = request.form_field("username").unwrap_or_default();
    let password = request.form_field("password").unwrap_or_default();
    match realm.user(username).filter(|user| user.password == password).cloned() {
        Some(user) => grant_code(realm, request, &user),
        None => Reply::html(200, pages::sign_in(realm, request, Some("Invalid username or password."))),
    }
}

/// RFC 6749 4.1.2.1: with a wrong client or redirect_uri nothing goes back to the client.
fn check_authorization_request(realm: &Realm, request: &Recorded) -> Result<(), Reply> {
    let page = |text: &str| Err(Reply::html(400, pages::error(text)));
    if let Some(twice) = request.repeated_parameter() {
        return page(&format!("Invalid Request: {twice} given twice"));
    }
    if request.parameter("client_id").as_deref() != Some(realm.client_id.as_str()) {
        return page("Client not found.");
    }
    let redirect_uri = request.parameter("redirect_uri").unwrap_or_default();
    if !is_registered(&realm.redirect_uris, &redirect_uri) {
        return page("Invalid parameter: redirect_uri");
    }
    let refuse = |error, description| Err(authorization_error(realm, request, error, Some(description)));
    if request.parameter("response_type").as_deref() != Some("code") {
        return refuse(
            "unsupported_response_type",
            "Missing or unsupported parameter: response_type".to_owned(),
        );
    }
    if request.parameter("code_challenge_method").as_deref() != Some("S256") {
        return refuse("invalid_request", "Missing parameter: code_challenge_method".to_owned());
    }
    let challenge = request.parameter("code_challenge").unwrap_or_default();
    if URL_SAFE_NO_PAD.decode(&challenge).map(|bytes| bytes.len()) != Ok(32) {
        return refuse("invalid_request", "Invalid parameter: code_challenge".to_owned());
    }
    let scope = request.parameter("scope").unwrap_or_default();
    if scope.split(' ').any(|scope| !SCOPES.contains(&scope)) {
        return refuse("invalid_scope", format!("Invalid scopes: {scope}"));
    }
    Ok(())
}

/// Registered addresses end in `*` when anything may follow.
fn is_registered(registered: &[String], uri: &str) -> bool {
    registered.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => uri.starts_with(prefix) && !uri.contains(".."),
        None => known == uri,
    })
}

fn grant_code(realm: &mut Realm, request: &Recorded, user: &User) -> Reply {
    let browser = request.cookie(COOKIE);
    let sid = realm.begin_session(user, browser.as_deref());
    let redirect_uri = request.parameter("redirect_uri").unwrap_or_default();
    let scope = request.parameter("scope").unwrap_or_default();
    let mut code = realm.new_code(sid.clone(), &redirect_uri, &scope);
    code.nonce = request.parameter("nonce");
    code.challenge = request.parameter("code_challenge");
    let code = realm.issue_code(code);
    let cookie = random_text(32);
    realm.browsers.insert(cookie.clone(), sid.clone());
    let parameters = vec![
        ("session_state".to_owned(), sid),
        ("iss".to_owned(), realm.issuer.clone()),
        ("code".to_owned(), code),
    ];
    let path = url::Url::parse(&realm.issuer).map(|url| url.path().to_owned()).unwrap_or_default();
    authorization_response(realm, request, parameters)
        .with("set-cookie", format!("{COOKIE}={cookie}; Path={path}/; HttpOnly; SameSite=Lax"))
}

fn authorization_error(realm: &Realm, request: &Recorded, error: &str, description: Option<String>) -> Reply {
    let mut parameters = vec![("error".to_owned(), error.to_owned())];
    parameters.extend(description.map(|text| ("error_description".to_owned(), text)));
    parameters.push(("iss".to_owned(), realm.issuer.clone()));
    authorization_response(realm, request, parameters)
}

fn authorization_response(realm: &Realm, request: &Recorded, mut parameters: Vec<(String, String)>) -> Reply {
    if let Some(state) = request.parameter("state") {
        parameters.insert(0, ("state".to_owned(), state));
    }
    realm.misbehaviour.apply_to_authorization_response(&mut parameters);
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let redirect_uri = request.parameter("redirect_uri").unwrap_or_default();
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    Reply::redirect(format!("{redirect_uri}{separator}{query}"))
}

type TokenError = (u16, &'static str, &'static str);

fn token(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    if request.method != "POST" {
        return Err((405, "invalid_request", "Only POST"));
    }
    if request.repeated_form_field().is_some() {
        return Err((400, "invalid_request", "duplicated parameter"));
    }
    authenticate_client(realm, request)?;
    match request.form_field("grant_type") {
        Some("authorization_code") => redeem_code(realm, request),
        Some("refresh_token") => refresh(realm, request),
        Some("password") => password_grant(realm, request),
        Some("client_credentials") => {
            let user = realm.service_account.clone();
            let scope = request.form_field("scope").unwrap_or("profile email");
            Ok(realm.token_response(&Grant { user: &user, sid: None, auth_time: None, nonce: None, scope }))
        }
        Some(_) => Err((400, "unsupported_grant_type", "Unsupported grant_type")),
        None => Err((400, "invalid_request", "Missing form parameter: grant_type")),
    }
}

/// RFC 6749 2.3.1: in a Basic header, id and secret are form-encoded first.
fn authenticate_client(realm: &Realm, request: &Recorded) -> Result<(), TokenError> {
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
    if id != realm.client_id {
        return Err((401, "invalid_client", "Invalid client or Invalid client credentials"));
    }
    if secret != realm.client_secret {
        return Err((401, "unauthorized_client", "Invalid client or Invalid client credentials"));
    }
    Ok(())
}

fn basic_credentials(encoded: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    // A form decoder lets "&" and "=" pass; in a value they must have been escaped.
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
        // Keycloak takes a replay for theft and detaches the client from the session.
        let sid = code.sid.clone();
        if let Some(session) = realm.sessions.get_mut(&sid) {
            session.attached = false;
        }
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
    let session = realm.sessions.get(&sid).ok_or(INVALID)?;
    let (user, auth_time) = (session.user.clone(), session.auth_time);
    let grant = Grant {
        user: &user,
        sid: Some(&sid),
        auth_time: Some(auth_time),
        nonce: nonce.as_deref(),
        scope: &scope,
    };
    Ok(realm.token_response(&grant))
}

fn refresh(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    let refuse = |description| Err((400, "invalid_grant", description));
    let now = realm.now();
    let presented = request.form_field("refresh_token").unwrap_or_default();
    let Some(token) = realm.refresh_tokens.get_mut(presented) else { return refuse("Invalid refresh token") };
    let (sid, scope, was_used) =
        (token.sid.clone(), token.scope.clone(), std::mem::replace(&mut token.used, true));
    if token.expires < now {
        return refuse("Token is not active");
    }
    let Some(session) = realm.sessions.get_mut(&sid) else { return refuse("Session not active") };
    if was_used {
        session.attached = false;
        return refuse("Maximum allowed refresh token reuse exceeded");
    }
    if !session.attached {
        return refuse("Session doesn't have required client");
    }
    let auth_time = session.auth_time;
    // Fresh groups: as the user is now.
    let username = session.user.username.clone();
    let Some(user) = realm.user(&username).cloned() else { return refuse("User disabled") };
    let grant =
        Grant { user: &user, sid: Some(&sid), auth_time: Some(auth_time), nonce: None, scope: &scope };
    Ok(realm.token_response(&grant))
}

fn password_grant(realm: &mut Realm, request: &Recorded) -> Result<Value, TokenError> {
    let password = request.form_field("password").unwrap_or_default();
    let user = request.form_field("username").and_then(|username| realm.user(username));
    let user = user.filter(|user| user.password == password).cloned();
    let user = user.ok_or((401, "invalid_grant", "Invalid user credentials"))?;
    let scope = request.form_field("scope").unwrap_or("profile email").to_owned();
    let sid = realm.begin_session(&user, None);
    Ok(realm.token_response(&Grant {
        user: &user,
        sid: Some(&sid),
        auth_time: None,
        nonce: None,
        scope: &scope,
    }))
}

fn userinfo(realm: &Realm, request: &Recorded) -> Reply {
    let token = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer ").map(ToOwned::to_owned));
    let known = token.and_then(|token| realm.access_tokens.get(&token));
    match known {
        Some((user, scope, _)) if scope.split(' ').any(|scope| scope == "openid") => {
            document(realm, Endpoint::UserInfo, realm.userinfo(user))
        }
        Some(_) => Reply::json(
            403,
            &json!({"error": "insufficient_scope", "error_description": "Missing openid scope"}),
        ),
        None => Reply::json(
            401,
            &json!({"error": "invalid_token", "error_description": "Token verification failed"}),
        )
        .with("www-authenticate", "Bearer realm=\"mlflow\", error=\"invalid_token\"".to_owned()),
    }
}

fn end_session(realm: &mut Realm, request: &Recorded) -> Reply {
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
    if client_id.is_some_and(|id| id != realm.client_id) {
        return Reply::html(400, pages::error("Invalid parameter: client_id"));
    }
    if let Some(uri) = &back_to
        && !is_registered(&realm.redirect_uris, uri)
    {
        return Reply::html(400, pages::error("Invalid redirect uri"));
    }
    let Some(sid) = hinted else { return Reply::html(200, pages::error("Do you want to log out?")) };
    if let Some(sid) = sid {
        realm.end_session(&sid);
    }
    match back_to {
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
    }
}

/// RFC 7009; Keycloak answers 200 even to garbage.
fn revoke(realm: &mut Realm, request: &Recorded) -> Reply {
    if let Err((status, error, description)) = authenticate_client(realm, request) {
        return Reply::json(status, &json!({"error": error, "error_description": description}));
    }
    let token = request.form_field("token").unwrap_or_default();
    if let Some(sid) = realm.refresh_tokens.get(token).map(|token| token.sid.clone()) {
        realm.end_session(&sid);
    }
    realm.access_tokens.remove(token);
    Reply::new(200, "text/plain", "")
}
