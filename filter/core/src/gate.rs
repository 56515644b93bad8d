//! The way of a request: parse → endpoint → credential → principal → policy → permit.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use crate::assertion::Signer;
use crate::bearer::{self, Authorization, Verdict};
use crate::caller::Caller;
use crate::config::{self, Access, Config, Preset};
use crate::encoding::base64url;
use crate::error::{Dependency, LoginError, Outlook, Refused, Rejection};
use crate::host::{Host, Level};
use crate::http::body::Body;
use crate::http::cookies::GateCookies;
use crate::http::csrf::{self, AskedBy, asked_by};
use crate::http::endpoint::Endpoint;
use crate::http::fragment_page;
use crate::http::public_address;
use crate::http::reply::{Asked, Reply, SignedIn, refuse};
use crate::http::request::{Audience, Request, Unparsed};
use crate::http::return_path::ReturnPath;
use crate::methods::Method;
use crate::metrics::{self, Outcome, RuleReasons};
use crate::oidc::admin_callback::{self, CallbackKind};
use crate::oidc::browser_login::BrowserLogin;
use crate::oidc::provider_client::ProviderClient;
use crate::oidc::{account, authorization, backchannel, callback, logout, refresh};
use crate::policy::identity::{AssertionHeader, Headers, User};
use crate::policy::{Permit, Policy};
use crate::quote::quote;
use crate::reserved::Reserved;
use crate::session::entry::Entry;

/// Longest path, detail and rule name in a log line, in characters.
const MAX_LOGGED_PATH: usize = 200;
const MAX_LOGGED_DETAIL: usize = 600;
const MAX_LOGGED_RULE: usize = 100;

/// What MLflow's page loads from the gate.
const MLFLOW_SCRIPT: &str = include_str!("http/mlflow.js");
/// Computed at the first request for it.
static MLFLOW_SCRIPT_TAG: LazyLock<String> =
    LazyLock::new(|| format!("\"{}\"", base64url(Sha256::digest(MLFLOW_SCRIPT))));

/// One tenant's gate in one worker.
pub struct Gate {
    host: Rc<dyn Host>,
    config: Rc<Config>,
    client: Rc<ProviderClient>,
    cookies: GateCookies,
    /// Absent in a bearer-only gate.
    login: Option<Rc<BrowserLogin>>,
    policy: Policy,
    rule_reasons: RuleReasons,
    bearer: Option<bearer::Verifier>,
}

/// The decision about a request.
#[derive(Debug)]
pub enum Decision {
    /// Forward the request.
    Forward {
        /// The header changes.
        permit: Permit,
        /// The reason, for the access log.
        reason: &'static str,
    },
    /// Answer the request at the gate.
    Reply {
        /// The reply.
        reply: Reply,
        /// The reason, for the access log.
        reason: Cow<'static, str>,
    },
}

/// The verified credential of a request.
enum Credential {
    Bearer(Rc<Verdict>),
    Session(Rc<Entry>),
}

impl Gate {
    /// A gate. The provider stays unknown until [`Gate::background`] runs.
    pub fn new(config: Config, host: Rc<dyn Host>) -> Rc<Self> {
        let config = Rc::new(config);
        let name =
            config.browser.as_ref().map_or("oidc-gate", |browser| browser.session.cookie_name.as_str());
        let cookies = GateCookies::new(name, &config.public_url);
        let client = Rc::new(ProviderClient::new(config.clone(), host.clone()));
        let browser = config.browser.clone();
        let login =
            browser.map(|settings| Rc::new(BrowserLogin::new(settings, client.clone(), cookies.clone())));
        let headers = Headers::new(
            cookies.clone(),
            config.public_url.authority.clone(),
            policy_groups(&config.policy),
            Reserved::new(config.identity.trusted_headers.clone())
                .with_assertion(config.identity.assertion.as_ref().map(|assertion| assertion.header.clone())),
            config.identity.assertion.as_ref().and_then(|assertion| {
                Some(AssertionHeader { name: assertion.header.clone(), signer: Signer::new(assertion)? })
            }),
        );
        Rc::new(Self {
            policy: Policy::new(&config.policy, headers),
            rule_reasons: RuleReasons::new(&config.policy),
            bearer: config.bearer.clone().map(|accepted| {
                let sessions = login.as_ref().map(|login| login.sessions.clone());
                bearer::Verifier::new(client.clone(), accepted, sessions)
            }),
            login,
            cookies,
            client,
            config,
            host,
        })
    }

    /// Starts the background tasks.
    pub fn background(&self) {
        self.host.spawn_endless(Box::pin(self.client.provider.clone().run()));
        if let Some(login) = &self.login {
            self.host.spawn_endless(Box::pin(login.sessions.log.clone().run()));
        }
    }

    /// Whether [`Gate::decide`] reads the body of a request with these headers. Any other body is held back until the
    /// decision is made.
    pub fn reads_body(&self, headers: &[(String, Vec<u8>)]) -> bool {
        let value = |wanted: &str| {
            headers.iter().find(|(name, _)| name == wanted).map_or(&b""[..], |(_, value)| value.as_slice())
        };
        let path = value(":path").split(|byte| *byte == b'?').next().unwrap_or_default();
        let endpoint = std::str::from_utf8(path).ok().and_then(Endpoint::at);
        value(":method") == b"POST" && self.login.is_some() && endpoint.is_some_and(Endpoint::reads_body)
    }

    /// Decides about one request from `caller`. `headers` are Envoy's, including pseudo-headers. `body` is read only if
    /// [`Gate::reads_body`] is true for the headers.
    pub async fn decide(
        self: Rc<Self>,
        headers: Vec<(String, Vec<u8>)>,
        body: Body,
        caller: Caller,
    ) -> Decision {
        let request = match Request::parse(headers) {
            Ok(request) => request.with_caller(caller),
            Err(unparsed) => return self.refuse_unparsed(&unparsed),
        };
        if let Some(outcome) = self.endpoint(&request, body).await {
            return match outcome {
                Ok(reply) => self.answer(&request, reply),
                Err(refused) => self.refuse(&request, refused).await,
            };
        }
        match self.permit(&request).await {
            Ok((permit, outcome)) => {
                self.host.count(metrics::decision(outcome));
                Decision::Forward { permit, reason: outcome.label() }
            }
            Err(rejection) => {
                let retry_path = self.wanted(&request).as_str().to_owned();
                let refused = Refused { retry_path, ..rejection.into() };
                self.refuse(&request, refused).await
            }
        }
    }

    /// Serves our own endpoints, matched by the exact path as sent (CB15). `None` for any other path.
    async fn endpoint(self: &Rc<Self>, request: &Request, body: Body) -> Option<Result<Reply, Refused>> {
        let login = self.login.as_ref()?;
        let endpoint = Endpoint::at(request.raw_path());
        // Refuse speculative requests: each endpoint but the script has an effect, or shows a state that may be
        // outdated when the user sees it. The empty link leads to the page itself: its address may hold a code, which
        // must not be written anywhere else.
        if request.is_speculative()
            && request.raw_path().starts_with("/oauth2/")
            && endpoint != Some(Endpoint::MlflowScript)
        {
            return Some(Err(Refused { retry_path: String::new(), ..Rejection::Speculative.into() }));
        }
        let endpoint = endpoint.filter(|endpoint| self.has(*endpoint))?;
        if !endpoint.methods().contains(&request.method()) {
            return Some(Err(Rejection::MethodNotAllowed(endpoint.methods()).into()));
        }
        Some(match endpoint {
            Endpoint::Login => self.begin_login(login, request).await,
            Endpoint::Callback => callback::complete(login, request).await,
            Endpoint::Logout => logout::end(login, request).await,
            Endpoint::SignedOut => Ok(logout::signed_out(login, request)),
            Endpoint::Account => account::show(login, request)
                .await
                .map_err(|rejection| Refused { retry_path: endpoint.path().to_owned(), ..rejection.into() }),
            Endpoint::AccountSignOut => account::sign_out(login, request).await,
            Endpoint::MlflowScript => {
                Ok(Reply::script(MLFLOW_SCRIPT, &MLFLOW_SCRIPT_TAG, request.header("if-none-match")))
            }
            Endpoint::BackChannelLogout => {
                backchannel::logout(login, request, body).await.map_err(Refused::from)
            }
            Endpoint::AdminLogout => {
                admin_callback::receive(login, CallbackKind::Logout, body).await.map_err(Refused::from)
            }
            Endpoint::AdminNotBefore => {
                admin_callback::receive(login, CallbackKind::PushNotBefore, body).await.map_err(Refused::from)
            }
        })
    }

    /// Whether this gate has the endpoint, apart from the login that all of them need.
    fn has(&self, endpoint: Endpoint) -> bool {
        endpoint != Endpoint::MlflowScript || self.config.policy.preset == Some(Preset::Mlflow)
    }

    async fn begin_login(&self, login: &BrowserLogin, request: &Request) -> Result<Reply, Refused> {
        // An image or a frame would replace a login that the user has begun.
        if asked_by(request, &self.config.public_url.origin) == AskedBy::Page {
            return Err(Rejection::CrossSite.into());
        }
        if let Some(reply) = self.to_public_address(request) {
            return Ok(reply);
        }
        let target = request.query_pairs().find(|(name, _)| name == "rd");
        let return_path = target.map_or(ReturnPath::root(), |(_, path)| ReturnPath::or_root(&path));
        authorization::begin(login, request, &return_path)
            .await
            .map_err(|rejection| Refused { retry_path: return_path.as_str().to_owned(), ..rejection.into() })
    }

    /// F604: a redirect to the public address if the request came to another one. A login must begin at the address
    /// where it ends.
    fn to_public_address(&self, request: &Request) -> Option<Reply> {
        public_address::redirect(&self.config.public_url, &self.cookies, request)
    }

    async fn permit(self: &Rc<Self>, request: &Request) -> Result<(Permit, Outcome), Rejection> {
        if let Some(permit) = self.policy.public(request) {
            return Ok((permit, Outcome::Public));
        }
        match self.credential(request).await? {
            Credential::Bearer(verdict) => {
                let user = User { principal: &verdict.principal, memo: &verdict.memo, now: self.host.now() };
                Ok((self.policy.permit(request, user)?, Outcome::Bearer))
            }
            Credential::Session(session) => {
                csrf::check(request, &self.config.public_url.origin)?;
                let principal = &session.record.principal;
                let user = User { principal, memo: &session.memo, now: self.host.now() };
                Ok((self.policy.permit(request, user)?, Outcome::Session))
            }
        }
    }

    /// A bearer token takes precedence over a cookie. If it is invalid, the cookie is not used instead (BT12).
    async fn credential(&self, request: &Request) -> Result<Credential, Rejection> {
        let header = self.policy.credential_header(request);
        match (bearer::authorization(request, header), &self.bearer) {
            (Authorization::Absent, _) => match &self.login {
                Some(login) => refresh::session(login, request).await.map(Credential::Session),
                // A bearer-only gate ignores session cookies.
                None => Err(Rejection::NoCredential),
            },
            (Authorization::Bearer(token), Some(verifier)) => {
                verifier.verify(token).await.map(Credential::Bearer)
            }
            (Authorization::Basic(token), Some(verifier)) if verifier.accepts_basic() => {
                // The gate never asks for a password, but a browser that knows one sends it by itself.
                csrf::check(request, &self.config.public_url.origin)?;
                verifier.verify(token.expose()).await.map(Credential::Bearer)
            }
            _ => Err(Rejection::UnusableAuthorization),
        }
    }

    /// Whether a `Set-Cookie` value of the application would set one of our cookies.
    pub fn sets_our_cookie(&self, set_cookie: &[u8]) -> bool {
        self.cookies.would_set(set_cookie)
    }

    /// Whether a request trailer with this name (lower case) is removed. Clients may not send reserved headers as
    /// trailers either, and never a cookie.
    pub fn refuses_trailer(&self, name: &str) -> bool {
        name == "cookie" || self.policy.reserves(name)
    }

    /// Sends users who can sign in to the provider. Everybody else gets the reply for this refusal. A speculative
    /// request starts no login, because it would replace one that the user has begun.
    async fn refuse(self: &Rc<Self>, request: &Request, refused: Refused) -> Decision {
        let Refused { mut rejection, cookies, retry_path } = refused;
        let wants_login = matches!(rejection, Rejection::NoCredential | Rejection::SessionEnded(_));
        if wants_login
            && let Some(login) = &self.login
            && request.audience() == Audience::Navigation
            && !request.is_speculative()
        {
            let begun = match self.to_public_address(request) {
                Some(reply) => Ok(reply),
                None => {
                    let return_path = ReturnPath::or_root(&request.target());
                    if login.settings.keep_fragment && fragment_page::fits(request, &return_path) {
                        let possible = authorization::check(login, request).await;
                        possible.map(|()| Reply::fragment_page(&return_path))
                    } else {
                        authorization::begin(login, request, &return_path).await
                    }
                }
            };
            match begun {
                Ok(reply) => {
                    let reason = rejection.reason();
                    self.host.count(metrics::decision(Outcome::Login(reason)));
                    self.log_refusal(request, &rejection, reason.label(), reply.status);
                    return Decision::Reply { reply, reason: reason.label().into() };
                }
                Err(instead) => rejection = instead,
            }
        }
        let form_origin = self.client.form_origin();
        let has_ticket = self.login.as_ref().is_some_and(|login| login.ticket(request).is_ok());
        let signed_in = if has_ticket { SignedIn::Session } else { SignedIn::No };
        let asked = Asked {
            audience: request.reader(),
            request_id: request.id(),
            retry_path: &retry_path,
            config: &self.config,
            signed_in,
            form_origin: form_origin.as_deref(),
        };
        let mut reply = refuse(&rejection, &asked).with_cookies(cookies);
        if let (Rejection::Login(LoginError::Loop), Some(login)) = (&rejection, &self.login) {
            reply = reply.with_cookies([login.login_loop.reset()]);
        }
        let reason = self.count_refusal(&rejection);
        self.log_refusal(request, &rejection, &reason, reply.status);
        Decision::Reply { reply, reason }
    }

    /// Counts the refusal and returns its reason, which the counter, the log line and the access log share.
    fn count_refusal(&self, rejection: &Rejection) -> Cow<'static, str> {
        let (reason, counter) = match self.rule_reasons.of(rejection) {
            Some((reason, counter)) => (reason.to_owned().into(), counter),
            None => {
                let reason = rejection.reason();
                (reason.label().into(), metrics::decision(Outcome::Refused(reason)))
            }
        };
        self.host.count(counter);
        reason
    }

    fn refuse_unparsed(&self, unparsed: &Unparsed) -> Decision {
        let rejection = Rejection::Malformed(unparsed.malformed);
        let asked = Asked {
            audience: unparsed.reader(),
            request_id: unparsed.id(),
            retry_path: "/",
            config: &self.config,
            signed_in: SignedIn::No,
            form_origin: None,
        };
        let reason = self.count_refusal(&rejection);
        self.host.log(
            Level::Info,
            &format!(
                "refused: request={} status=400 reason={reason} path={}",
                unparsed.id(),
                quote(&unparsed.path(), MAX_LOGGED_PATH)
            ),
        );
        Decision::Reply { reply: refuse(&rejection, &asked), reason }
    }

    /// Where a refused user wants to go: the requested page or, after a form, the page that held the form.
    fn wanted(&self, request: &Request) -> ReturnPath {
        if matches!(request.method(), Method::Get | Method::Head) {
            return ReturnPath::or_root(&request.target());
        }
        let own =
            request.header("referer").and_then(|page| page.strip_prefix(&self.config.public_url.origin));
        own.map_or_else(ReturnPath::root, ReturnPath::or_root)
    }

    fn answer(&self, request: &Request, reply: Reply) -> Decision {
        self.host.count(metrics::decision(Outcome::Endpoint));
        self.host.log(
            Level::Debug,
            &format!(
                "answered: request={} path={} status={}",
                request.id(),
                request.raw_path(),
                reply.status
            ),
        );
        Decision::Reply { reply, reason: Outcome::Endpoint.label().into() }
    }

    /// One log line for operators. The path is canonical and escaped. The query is left out because it may hold a code.
    fn log_refusal(&self, request: &Request, rejection: &Rejection, reason: &str, status: u16) {
        let level = match rejection {
            Rejection::LogoutFailed(Dependency::Body) => Level::Error,
            Rejection::LogoutFailed(_) | Rejection::SignOutIncomplete(_) => Level::Info,
            Rejection::Unavailable(_) => Level::Error,
            Rejection::Login(error) if error.is_forgery() => Level::Error,
            Rejection::Login(_) if rejection.outlook() == Some(Outlook::Lasting) => Level::Error,
            Rejection::Login(_) | Rejection::NotAllowed(_) | Rejection::CrossSite => Level::Warn,
            _ => Level::Info,
        };
        let mut line = format!(
            "refused: request={} status={status} reason={reason} method={} path={}",
            request.id(),
            request.method().label(),
            quote(request.canonical_path().as_str(), MAX_LOGGED_PATH),
        );
        if let Some(rule) = rejection.rule() {
            line.push_str(&format!(" rule={}", quote(rule.as_str(), MAX_LOGGED_RULE)));
        }
        if let Some(detail) = rejection.detail() {
            line.push_str(&format!(" detail={}", quote(&detail, MAX_LOGGED_DETAIL)));
        }
        if let Rejection::NotAllowed(refused) = rejection {
            line.push_str(&format!(" {} groups={}", refused.principal.for_log(), refused.groups()));
        }
        self.host.log(level, &line);
    }
}

fn policy_groups(policy: &config::Policy) -> Vec<String> {
    let named = policy.rules.iter().filter_map(|rule| match &rule.access {
        Access::Groups(groups) => Some(groups.as_slice()),
        _ => None,
    });
    let lists = [&policy.admins, &policy.users, &policy.viewers];
    named.chain(lists.map(Vec::as_slice)).flatten().cloned().collect()
}

#[cfg(test)]
mod tests;
