//! The authorization request (OIDC Core 3.1.2.1) and the login flow that a sealed cookie carries to the callback.

use std::rc::Rc;

use sha2::{Digest, Sha256};
use url::Url;

use crate::config::Config;
use crate::encoding::{base64url, from_base64url};
use crate::error::{Dependency, LoginError, Rejection};
use crate::http::endpoint::Endpoint;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::return_path::ReturnPath;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::flow::{Flow, TAG_LEN};
use crate::oidc::provider::Provider;
use crate::seal::Purpose;
use crate::secret::SecretText;
use crate::time::Timestamp;

/// Most logins in progress in one browser; the oldest is dropped.
const MAX_FLOWS: usize = 5;
/// Length of the random part of `state`; the sealed return path follows.
const RANDOM_LEN: usize = 43;
/// Longest return path that is put into `state`, in bytes: `state` then has 786 characters. Providers limit its length.
const MAX_PATH_IN_STATE: usize = 512;
/// Longest `state` from which a return path is read.
const MAX_STATE_LEN: usize = 1024;

/// Sends a browser to the provider.
///
/// # Errors
/// The provider is not known yet, no randomness is available, or this browser is in a redirect loop
/// ([`LoginError::Loop`]).
pub async fn begin(
    login: &BrowserLogin,
    request: &Request,
    return_path: &ReturnPath,
) -> Result<Reply, Rejection> {
    let provider = provider(login, request).await?;
    let flow = Flow {
        state: state(login, return_path)?,
        nonce: token(login)?,
        verifier: token(login)?,
        return_path: return_path.as_str().to_owned(),
        created: login.host.now(),
    };
    let endpoint = provider.metadata.login(&login.settings).map_err(Dependency::from)?;
    let location = location(login, endpoint, &login.settings.scope, &flow);

    let name = login.cookies.login(flow.tag());
    let sealed = login.keys.seal(
        &*login.host,
        Purpose::Login,
        &[],
        &[name.as_bytes()],
        &serde_json::to_vec(&flow).map_err(|_| Dependency::Host)?,
    )?;
    let mut cookies: Vec<String> =
        evicted(login, request).iter().map(|name| login.cookies.delete(name)).collect();
    cookies.push(login.cookies.set(&name, &base64url(&sealed), login.settings.timeout));
    Ok(Reply::found(location).with_cookies(cookies))
}

/// Whether a login can begin now. It sends nothing to the browser.
///
/// # Errors
/// As [`begin`].
pub async fn check(login: &BrowserLogin, request: &Request) -> Result<(), Rejection> {
    provider(login, request).await.map(drop)
}

/// The provider, if a login can begin and be completed there.
async fn provider(login: &BrowserLogin, request: &Request) -> Result<Rc<Provider>, Rejection> {
    if login.login_loop.is_exhausted(request, login.host.now()) {
        return Err(LoginError::Loop.into());
    }
    let provider = login.client.provider.current().await?;
    provider.metadata.login(&login.settings).map_err(Dependency::from)?;
    Ok(provider)
}

/// A new `state` (RFC 6749 10.12). If the login cookie is lost, the return path in `state` still tells where the user
/// wanted to go. The path is sealed, so the provider cannot read it.
fn state(login: &BrowserLogin, return_path: &ReturnPath) -> Result<SecretText, Rejection> {
    let random = token(login)?;
    let path = return_path.as_str();
    if path == "/" || path.len() > MAX_PATH_IN_STATE {
        return Ok(random);
    }
    let random = random.expose();
    let context = [random.as_bytes()];
    let sealed = login.keys.seal(&*login.host, Purpose::ReturnPath, &[], &context, path.as_bytes())?;
    Ok(SecretText::new(format!("{random}{}", base64url(sealed))))
}

/// The return path in a `state`. It is as trustworthy as a link: anybody who saw the callback's URL has it, too. No
/// login follows from it.
pub fn wanted(login: &BrowserLogin, state: &str) -> ReturnPath {
    let path = || {
        let (random, sealed) =
            Some(state).filter(|state| state.len() <= MAX_STATE_LEN)?.split_at_checked(RANDOM_LEN)?;
        let sealed = from_base64url(sealed).ok()?;
        let path = login.keys.open(Purpose::ReturnPath, &[], &[random.as_bytes()], &sealed).ok()?;
        Some(ReturnPath::or_root(std::str::from_utf8(&path).ok()?))
    };
    path().unwrap_or_else(ReturnPath::root)
}

/// The flow with this `state`, and the name of its cookie, if this browser has it.
pub fn find(login: &BrowserLogin, request: &Request, state: &str) -> Option<(String, Flow)> {
    let name = login.cookies.login(state.get(..TAG_LEN)?);
    login
        .cookies
        .ours(request)
        .filter(|(candidate, _)| *candidate == name)
        .take(MAX_FLOWS)
        .filter_map(|(name, value)| Some((name.to_owned(), open(login, name, value)?)))
        .find(|(_, flow)| flow.state == *state)
}

fn open(login: &BrowserLogin, name: &str, value: &str) -> Option<Flow> {
    let sealed = from_base64url(value).ok()?;
    let plain = login.keys.open(Purpose::Login, &[], &[name.as_bytes()], &sealed).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// Login cookies to delete, so that at most five remain with the new one. Cookies that cannot be opened go first, then
/// the oldest.
fn evicted(login: &BrowserLogin, request: &Request) -> Vec<String> {
    let prefix = login.cookies.login_prefix();
    let mut flows: Vec<(Timestamp, String)> = login
        .cookies
        .ours(request)
        .filter(|(name, _)| name.starts_with(&prefix))
        .take(100)
        .map(|(name, value)| {
            let created = open(login, name, value).map_or(Timestamp::default(), |flow| flow.created);
            (created, name.to_owned())
        })
        .collect();
    flows.sort();
    let kept = MAX_FLOWS.saturating_sub(1);
    flows.truncate(flows.len().saturating_sub(kept));
    flows.into_iter().map(|(_, name)| name).collect()
}

/// 256 bits as 43 characters, which RFC 7636 4.1 also requires of a code verifier.
fn token(login: &BrowserLogin) -> Result<SecretText, Rejection> {
    let mut bytes = [0; 32];
    login.host.random(&mut bytes)?;
    Ok(SecretText::new(base64url(bytes)))
}

fn location(login: &BrowserLogin, endpoint: &Url, scope: &str, flow: &Flow) -> String {
    let mut url = endpoint.clone();
    // RFC 7636 4.2
    let challenge = base64url(Sha256::digest(flow.verifier.expose()));
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &login.config.client.id)
        .append_pair("redirect_uri", &redirect_uri(&login.config))
        .append_pair("scope", scope)
        .append_pair("state", flow.state.expose())
        .append_pair("nonce", flow.nonce.expose())
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    url.into()
}

/// Built only from the configured origin; the request has no influence on it (AZ04, AZ05).
pub fn redirect_uri(config: &Config) -> String {
    format!("{}{}", config.public_url.origin, Endpoint::Callback.path())
}
