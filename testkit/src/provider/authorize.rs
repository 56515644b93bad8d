//! The authorization endpoint and its sign-in form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::endpoints::{Reply, is_registered};
use super::mint::SCOPES;
use super::pages;
use super::realm::Realm;
use super::user::User;
use super::{Recorded, random_text};

/// The cookie that keeps a browser signed in at the provider.
const COOKIE: &str = "TESTKIT_IDENTITY";

/// The authorization endpoint. Shows the form or redirects back to the client immediately.
pub(super) fn authorize(realm: &mut Realm, request: &Recorded) -> Reply {
    if let Err(refusal) = check_authorization_request(realm, request) {
        return refusal;
    }
    let cookie = request.cookie(COOKIE);
    let session = cookie.as_deref().and_then(|cookie| realm.browsers.get(cookie));
    let session = session.and_then(|sid| realm.live_session(sid));
    let signed_in = session.and_then(|session| realm.user(&session.username)).filter(|user| user.enabled);
    let signed_in = signed_in.cloned();
    let told = realm.sign_in_as.as_deref().and_then(|username| realm.user(username)).cloned();
    let prompt = request.parameter("prompt");
    let user = told.or(signed_in.filter(|_| prompt.as_deref() != Some("login")));
    match (user, prompt.as_deref()) {
        (Some(user), _) => grant_code(realm, request, &user),
        (None, Some("none")) => authorization_error(realm, request, "login_required", None),
        (None, _) => Reply::html(200, pages::sign_in(realm, request, None)),
    }
}

/// Handles the submitted sign-in form.
pub(super) fn sign_in(realm: &mut Realm, request: &Recorded) -> Reply {
    if let Err(refusal) = check_authorization_request(realm, request) {
        return refusal;
    }
    let username = request.form_field("username").unwrap_or_default();
    let password = request.form_field("password").unwrap_or_default();
    match realm.user(username).filter(|user| user.password == password).cloned() {
        Some(user) if user.enabled => grant_code(realm, request, &user),
        Some(_) => {
            let why = "Account is disabled, contact your administrator.";
            Reply::html(200, pages::sign_in(realm, request, Some(why)))
        }
        None => Reply::html(200, pages::sign_in(realm, request, Some("Invalid username or password."))),
    }
}

/// RFC 6749 4.1.2.1: if the client or redirect_uri is wrong, there is no redirect to the client.
fn check_authorization_request(realm: &Realm, request: &Recorded) -> Result<(), Reply> {
    let page = |text: &str| Err(Reply::html(400, pages::error(text)));
    if let Some(twice) = request.repeated_parameter() {
        return page(&format!("Invalid Request: {twice} given twice"));
    }
    if request.parameter("client_id").as_deref() != Some(realm.setup.client_id.as_str()) {
        return page("Client not found.");
    }
    let redirect_uri = request.parameter("redirect_uri").unwrap_or_default();
    if !is_registered(&realm.setup.redirect_uris, &redirect_uri) {
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
