//! Requests to the provider as a client, a browser and a protected application send them.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::BodyExt as _;
use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::process::free_port;
use oidc_gate_testkit::provider::{Provider, Setup};
use oidc_gate_testkit::server::{Answer, Server, response};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub const GATE: &str = "http://localhost:9";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

pub fn provider() -> Provider {
    Provider::start(Setup::for_gate(GATE)).unwrap()
}

pub fn endpoint(provider: &Provider, name: &str) -> String {
    format!("{}/protocol/openid-connect/{name}", provider.issuer())
}

pub fn authorize(
    provider: &Provider,
    client: &Client,
    change: impl Fn(&mut Vec<(&str, String)>),
) -> Response {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let mut parameters = vec![
        ("response_type", "code".to_owned()),
        ("client_id", "mlflow".to_owned()),
        ("redirect_uri", format!("{GATE}/oauth2/callback")),
        ("scope", "openid profile email".to_owned()),
        ("state", "the-state".to_owned()),
        ("nonce", "the-nonce".to_owned()),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256".to_owned()),
    ];
    change(&mut parameters);
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    client.navigate(&format!("{}?{query}", endpoint(provider, "auth"))).unwrap()
}

pub fn code(provider: &Provider) -> String {
    provider.sign_in_as("mlflow_user");
    let response = authorize(provider, &Client::new(), |_| {});
    response.redirect_parameter("code").unwrap_or_else(|| panic!("no code: {response}"))
}

pub fn token(provider: &Provider, form: &[(&str, &str)]) -> Response {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = format!("{}:{}", encode(provider.client_id()), encode(provider.client_secret()));
    Client::new()
        .request("POST", &endpoint(provider, "token"))
        .header("authorization", format!("Basic {}", STANDARD.encode(credentials)))
        .form(form)
        .send()
        .unwrap()
}

pub fn redeem(provider: &Provider, code: &str, verifier: &str) -> Response {
    let redirect_uri = format!("{GATE}/oauth2/callback");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect_uri),
        ("code_verifier", verifier),
    ];
    token(provider, &form)
}

pub fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The tokens of a login of this user in this browser.
pub fn tokens(provider: &Provider, browser: &Client, username: &str) -> Value {
    tokens_with(provider, browser, username, "openid profile email")
}

pub fn tokens_with(provider: &Provider, browser: &Client, username: &str, scope: &'static str) -> Value {
    provider.sign_in_as(username);
    let back = authorize(provider, browser, |parameters| {
        parameters.retain(|(name, _)| *name != "scope");
        parameters.push(("scope", scope.to_owned()));
    });
    provider.ask_for_password();
    let code = back.redirect_parameter("code").unwrap_or_else(|| panic!("no code: {back}"));
    let answer = redeem(provider, &code, VERIFIER);
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()
}

pub fn text<'a>(tokens: &'a Value, name: &str) -> &'a str {
    tokens[name].as_str().unwrap_or_else(|| panic!("no {name}: {tokens}"))
}

pub fn refresh(provider: &Provider, tokens: &Value) -> Response {
    let refresh_token = text(tokens, "refresh_token");
    token(provider, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)])
}

/// The `error_description` of a refresh that must be refused with `invalid_grant`.
#[track_caller]
pub fn refusal(provider: &Provider, tokens: &Value) -> String {
    let answer = refresh(provider, tokens);
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"invalid_grant".into()), "{answer}");
    answer.json()["error_description"].as_str().unwrap().to_owned()
}

/// Posts a form with the client's credentials.
pub fn post(provider: &Provider, name: &str, form: &[(&str, &str)]) -> Response {
    let form = [form, &[("client_id", provider.client_id()), ("client_secret", provider.client_secret())]];
    Client::new().request("POST", &endpoint(provider, name)).form(&form.concat()).send().unwrap()
}

pub fn is_active(provider: &Provider, tokens: &Value) -> bool {
    let access_token = text(tokens, "access_token");
    let answer = post(provider, "token/introspect", &[("token", access_token)]);
    assert_eq!(answer.status, 200, "{answer}");
    let introspected = answer.json()["active"].as_bool().unwrap();
    let userinfo = Client::new().request("GET", &endpoint(provider, "userinfo")).bearer(access_token).send();
    let userinfo = userinfo.unwrap().status == 200;
    assert_eq!(introspected, userinfo, "introspection and UserInfo disagree");
    introspected
}

/// A client's back-channel endpoint. Records the received messages and sends a fixed response.
pub struct BackChannel {
    pub url: String,
    posted: Arc<Mutex<Vec<Posted>>>,
    _server: Server,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    pub path: String,
    pub content_type: String,
    pub body: String,
}

impl BackChannel {
    /// Always responds with this status. With `None` it never responds.
    pub fn start(status: Option<u16>) -> Self {
        let posted = Arc::<Mutex<Vec<Posted>>>::default();
        let for_handler = Arc::clone(&posted);
        let port = free_port();
        let handler = move |request: http::Request<hyper::body::Incoming>| -> Answer {
            let posted = Arc::clone(&for_handler);
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.ok()?.to_bytes();
                let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
                posted.lock().unwrap_or_else(PoisonError::into_inner).push(Posted {
                    path: head.uri.path().to_owned(),
                    content_type: header("content-type").unwrap_or_default().to_owned(),
                    body: String::from_utf8_lossy(&body).into_owned(),
                });
                match status {
                    Some(status) => Some(response(status, &[], "")),
                    None => std::future::pending().await,
                }
            })
        };
        let _server = Server::start(port, Arc::new(handler)).unwrap();
        Self { url: format!("http://localhost:{port}"), posted, _server }
    }

    /// A provider that has this address registered.
    pub fn provider(&self) -> Provider {
        let setup = Setup::for_gate(&self.url);
        Provider::start(Setup { redirect_uris: vec![format!("{GATE}/*")], ..setup }).unwrap()
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The claims of the received tokens.
    pub fn claims(&self) -> Vec<Value> {
        self.posted()
            .iter()
            .map(|posted| claims(&posted.body.strip_prefix("logout_token=").unwrap_or(&posted.body).into()))
            .collect()
    }
}
