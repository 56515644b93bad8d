//! The callback (OIDC Core 3.1.2.5–3.1.3): from an authorization response to a session, once only.

use std::rc::Rc;
use std::time::Duration;

use crate::error::{Dependency, Limit, LoginError, Malformed, Refused, Rejection};
use crate::host::Level;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::http::return_path::ReturnPath;
use crate::oidc::answer::ProviderEndpoint;
use crate::oidc::authorization;
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::exchanges::Turn;
use crate::oidc::flow::Flow;
use crate::oidc::token_endpoint::NoTokens;
use crate::oidc::{id_token, logout, refresh, token_endpoint, userinfo};
use crate::principal::{self, Principal};
use crate::secret::SecretText;
use crate::session::record::{Grant, Record};
use crate::session::ticket::Ticket;
use crate::sync::finish;

/// Shortest time for which a used flow is remembered.
const LEAST_MEMORY: Duration = Duration::from_secs(1);
/// Longest value of a response parameter, in bytes.
const MAX_PARAMETER_LEN: usize = 4096;
/// Anything issued after this pause is issued in another second.
const NEXT_SECOND: Duration = Duration::from_secs(1);

/// The response parameters that the gate reads. All others are ignored (CB10).
struct Response {
    state: Option<SecretText>,
    code: Option<SecretText>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Completes a login.
///
/// # Errors
/// The reason why the login was not completed. The reply deletes the flow's cookie, unless the code was not redeemed
/// and a dependency is unavailable or a limit was reached: then reloading the page tries again.
pub async fn complete(login: &Rc<BrowserLogin>, request: &Request) -> Result<Reply, Refused> {
    let response = Response::parse(request)?;
    let Some((cookie, flow)) =
        response.state.as_ref().and_then(|state| authorization::find(login, request, state.expose()))
    else {
        let wanted = response
            .state
            .as_ref()
            .map_or_else(ReturnPath::root, |state| authorization::wanted(login, state.expose()))
            .as_str()
            .to_owned();
        // The user went back, or a second tab was faster. A signed-in user goes on (CB06). If it is unknown whether the
        // user is signed in, the reply must not say that the sign-in failed.
        return match refresh::session(login, request).await {
            Ok(_) => Ok(Reply::see_other(wanted)),
            Err(rejection @ Rejection::Unavailable(_)) => {
                Err(Refused { retry_path: wanted, ..rejection.into() })
            }
            Err(_) => Err(Refused { retry_path: wanted, ..LoginError::MissingState.into() }),
        };
    };
    let return_path = ReturnPath::or_root(&flow.return_path);
    let over = login.cookies.delete(&cookie);
    let (now, ends) = (login.host.now(), flow.created.saturating_add(login.settings.timeout));
    if now > ends {
        return Ok(authorization::begin(login, request, &return_path).await?.with_cookies([over]));
    }

    let is_over = |rejection| Refused {
        rejection,
        cookies: vec![over.clone()],
        retry_path: return_path.as_str().to_owned(),
    };
    let not_begun = |rejection| match rejection {
        // An empty link leads to the page itself: its address holds the code, which must not be written anywhere else.
        Rejection::Unavailable(_) | Rejection::OverLimit(_) => {
            Refused { rejection, cookies: Vec::new(), retry_path: String::new() }
        }
        _ => is_over(rejection),
    };
    let code = authorized(login, response).await.map_err(not_begun)?;
    let turn = login.exchanges.turn(&*login.host, request.caller(), login.config.issuer.timeout).await;
    let turn = turn.ok_or_else(|| not_begun(Limit::Callbacks.into()))?;
    // Remember the flow for as long as any Envoy accepts it, since their clocks differ.
    let keep = ends.duration_since(now).saturating_add(login.config.clock_leeway).max(LEAST_MEMORY);
    login.sessions.take_flow(flow.state.expose(), keep).await.map_err(not_begun)?;
    // From here on the code is redeemed, so the rest completes even if the browser disconnects.
    let exchanged = finish(&*login.host, exchange(login.clone(), code, flow.clone(), turn)).await;
    let ticket = match exchanged.unwrap_or(Err(Rejection::Unavailable(Dependency::Host))) {
        Err(Rejection::SessionEnded(_)) => {
            login.host.sleep(NEXT_SECOND).await;
            let again = authorization::begin(login, request, &return_path).await.map_err(is_over)?;
            return Ok(again.with_cookies([login.login_loop.count(request, login.host.now()), over]));
        }
        exchanged => exchanged.map_err(is_over)?,
    };

    end_previous_session(login, request);
    let lifetime = login.session.absolute_timeout;
    Ok(Reply::see_other(return_path.as_str().to_owned()).with_cookies([
        login.cookies.set(login.cookies.session(), &ticket.to_cookie(), lifetime),
        login.login_loop.count(request, login.host.now()),
        over,
    ]))
}

/// The code of a successful response from the right provider.
async fn authorized(login: &BrowserLogin, response: Response) -> Result<SecretText, Rejection> {
    // RFC 9207 2.4: iss is compared as a string. If the provider promises it, it must be present. Error responses are
    // checked, too.
    let provider = login.client.provider.current().await?;
    match &response.iss {
        Some(iss) if *iss == login.config.issuer.url => {}
        None if !provider.metadata.iss_parameter_supported => {}
        _ => return Err(LoginError::WrongIssuer.into()),
    }
    // CB09: an error takes precedence over a code.
    match (response.error, response.code) {
        (Some(error), _) => {
            Err(LoginError::Provider { error, description: response.error_description }.into())
        }
        (None, Some(code)) => Ok(code),
        (None, None) => Err(Malformed::Parameters.into()),
    }
}

async fn exchange(
    login: Rc<BrowserLogin>,
    code: SecretText,
    flow: Flow,
    mut turn: Turn,
) -> Result<Ticket, Rejection> {
    let asked = login.host.now();
    let tokens = token_endpoint::exchange_code(&login.client, &code, &flow).await?;
    turn.accepted();
    let id_token = tokens.id_token.clone().ok_or_else(|| {
        LoginError::TokenResponse(ProviderEndpoint::Token.says(NoTokens::Missing("id_token")))
    })?;
    let validated = id_token::validate(&login, &id_token, &tokens, &flow, asked).await?;
    let access_until = tokens.access_until(Some(validated.expires), asked);
    let (issued, claims) = (validated.issued, validated.claims);
    let grant = Grant {
        access_until,
        issued,
        auth_time: claims.auth_time(),
        azp: id_token::authorized_party(&claims).map(str::to_owned),
        nonce: flow.nonce,
        obtained: asked,
        refresh_until: tokens.refresh_expires_in.map(|left| asked.saturating_add(left)),
        refresh_token: tokens.refresh_token.clone(),
        id_token: Grant::hint(&id_token),
    };
    let claims =
        if login.settings.userinfo { userinfo::merge(&login.client, &tokens, claims).await? } else { claims };
    let principal = Principal::from_id_token(&login.config, &claims).map_err(LoginError::IdToken)?;
    principal::log_left_out(&*login.host, &claims);
    let user = principal.for_log();
    let record = Record::begin(principal, grant, login.host.now(), &login.session);
    // The provider counts whole seconds: what it issues in the second of a logout for all users is revoked at once.
    login.sessions.require_alive(&record).await?;
    let ticket = login.sessions.create(&record).await?;
    login.host.log(Level::Info, &format!("signed in {user}"));
    Ok(ticket)
}

/// ASVS 7.2.4: a new login ends the browser's previous session. This runs in the background. If Redis does not confirm
/// the deletion, it is logged and retried.
fn end_previous_session(login: &Rc<BrowserLogin>, request: &Request) {
    if let Ok(ticket) = login.ticket(request) {
        let job = login.clone();
        login.host.spawn(Box::pin(async move {
            let Err(failed) = job.sessions.delete(&ticket).await else { return };
            let (why, detail) =
                (failed.rejection.reason().label(), failed.rejection.detail().unwrap_or_default());
            let next = if failed.name.is_some() { "retrying" } else { "not retried" };
            let line = "signed in, but this browser's previous session could not be deleted from Redis";
            job.host.log(Level::Warn, &format!("{line}; {next}: {why} {detail:?}"));
            if let Some(name) = failed.name {
                logout::remove_later(&job, name);
            }
        }));
    }
}

impl Response {
    /// RFC 6749 3.1: each parameter at most once. Values longer than [`MAX_PARAMETER_LEN`] are refused.
    fn parse(request: &Request) -> Result<Self, Malformed> {
        let mut response = [const { None::<String> }; 5];
        let [state, code, iss, error, error_description] = &mut response;
        for (name, value) in request.query_pairs() {
            let slot = match name.as_str() {
                "state" => &mut *state,
                "code" => &mut *code,
                "iss" => &mut *iss,
                "error" => &mut *error,
                "error_description" => &mut *error_description,
                _ => continue,
            };
            if value.len() > MAX_PARAMETER_LEN || slot.replace(value).is_some() {
                return Err(Malformed::Parameters);
            }
        }
        let [state, code, iss, error, error_description] = response;
        if code.as_deref().is_some_and(|code| code.is_empty() || !code.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(Malformed::Parameters);
        }
        let (state, code) = (state.map(SecretText::new), code.map(SecretText::new));
        Ok(Self { state, code, iss, error, error_description })
    }
}
