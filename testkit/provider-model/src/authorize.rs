//! The authorization endpoint and its sign-in form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::mint::SCOPES;
use crate::{Content, Environment, Realm, Reply, Request, User, pages};

/// The cookie that keeps a browser signed in at the provider. It holds the browser's `sid`.
pub const COOKIE: &str = "TESTKIT_IDENTITY";

impl<E: Environment> Realm<E> {
    /// Shows the form or redirects back to the client immediately.
    pub(crate) fn authorize(&mut self, request: &Request) -> Reply {
        if let Some(refusal) = self.refused_request(request) {
            return refusal;
        }
        let session = request.cookie(COOKIE).and_then(|sid| self.browser_session(sid));
        let signed_in = session.and_then(|session| self.user(&session.username)).filter(|user| user.enabled);
        let told = self.sign_in_as.as_deref().and_then(|username| self.user(username));
        let prompt = request.parameter("prompt");
        let user = told.or(signed_in.filter(|_| prompt.as_deref() != Some("login"))).cloned();
        match (user, prompt.as_deref()) {
            (Some(user), _) => self.grant_code(request, &user),
            (None, Some("none")) => self.authorization_error(request, "login_required", None),
            (None, _) => self.form(request, None),
        }
    }

    /// Handles the submitted sign-in form.
    pub(crate) fn sign_in(&mut self, request: &Request) -> Reply {
        if let Some(refusal) = self.refused_request(request) {
            return refusal;
        }
        let username = request.form_field("username").unwrap_or_default();
        let password = request.form_field("password").unwrap_or_default();
        match self.user(username).filter(|user| user.password == password).cloned() {
            Some(user) if user.enabled => self.grant_code(request, &user),
            Some(_) => self.form(request, Some("Account is disabled, contact your administrator.")),
            None => self.form(request, Some("Invalid username or password.")),
        }
    }

    fn form(&self, request: &Request, error: Option<&str>) -> Reply {
        let action = format!("{}/login-actions/authenticate?{}", self.path(), request.query());
        Reply::new(200, Content::Html(pages::sign_in(&action, &self.users, error)))
    }

    /// The path of the issuer.
    fn path(&self) -> String {
        url::Url::parse(&self.issuer).map(|url| url.path().to_owned()).unwrap_or_default()
    }

    /// The response to a wrong authorization request. RFC 6749 4.1.2.1: if the client or redirect_uri is wrong, there
    /// is no redirect to the client.
    fn refused_request(&self, request: &Request) -> Option<Reply> {
        let page = |text: &str| Some(Reply::sentence(400, text));
        if let Some(twice) = request.repeated_parameter() {
            return page(&format!("Invalid Request: {twice} given twice"));
        }
        if request.parameter("client_id").as_deref() != Some(self.client.id.as_str()) {
            return page("Client not found.");
        }
        if !self.is_registered(&request.parameter("redirect_uri").unwrap_or_default()) {
            return page("Invalid parameter: redirect_uri");
        }
        let refuse =
            |error, description: &str| Some(self.authorization_error(request, error, Some(description)));
        if request.parameter("response_type").as_deref() != Some("code") {
            return refuse("unsupported_response_type", "Missing or unsupported parameter: response_type");
        }
        if request.parameter("code_challenge_method").as_deref() != Some("S256") {
            return refuse("invalid_request", "Missing parameter: code_challenge_method");
        }
        let challenge = request.parameter("code_challenge").unwrap_or_default();
        if URL_SAFE_NO_PAD.decode(&challenge).map(|bytes| bytes.len()) != Ok(32) {
            return refuse("invalid_request", "Invalid parameter: code_challenge");
        }
        let scope = request.parameter("scope").unwrap_or_default();
        if scope.split(' ').any(|scope| !SCOPES.contains(&scope)) {
            return refuse("invalid_scope", &format!("Invalid scopes: {scope}"));
        }
        None
    }

    fn grant_code(&mut self, request: &Request, user: &User) -> Reply {
        let sid = self.begin_session(user, request.cookie(COOKIE));
        let code = self.issue_code(&sid, request);
        let cookie = format!("{COOKIE}={sid}; Path={}/; HttpOnly; SameSite=Lax", self.path());
        let parameters = [("session_state", sid), ("iss", self.issuer.clone()), ("code", code)];
        authorization_response(request, parameters).with("set-cookie", cookie)
    }

    fn authorization_error(&self, request: &Request, error: &str, description: Option<&str>) -> Reply {
        let description = description.map(|text| ("error_description", text.to_owned()));
        let parameters = [("error", error.to_owned())].into_iter().chain(description);
        authorization_response(request, parameters.chain([("iss", self.issuer.clone())]))
    }
}

fn authorization_response(
    request: &Request,
    parameters: impl IntoIterator<Item = (&'static str, String)>,
) -> Reply {
    let state = request.parameter("state").map(|state| ("state", state));
    let parameters = state.into_iter().chain(parameters).map(|(name, value)| (name.to_owned(), value));
    let redirect_uri = request.parameter("redirect_uri").unwrap_or_default();
    Reply::new(302, Content::Redirect(redirect_uri, parameters.collect()))
}
