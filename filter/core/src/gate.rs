//! The way of a request: parse → endpoint → credential → principal → policy → permit.

use std::rc::Rc;

use crate::bearer::{self, Authorization};
use crate::config::{self, Access, Config};
use crate::error::{LoginError, Malformed, Refused, Rejection};
use crate::host::{Host, Level};
use crate::http::reply::{Asked, Reply, SignedIn, refuse};
use crate::http::request::{Audience, Request};
use crate::http::return_path::ReturnPath;
use crate::metrics::{self, Outcome};
use crate::oidc::relying_party::RelyingParty;
use crate::oidc::{authorization, callback, logout};
use crate::policy::identity::Headers;
use crate::policy::{Permit, Policy};
use crate::principal::Principal;
use crate::session::record::Record;

/// One tenant's gate in one worker.
pub struct Gate {
    host: Rc<dyn Host>,
    rp: Rc<RelyingParty>,
    policy: Policy,
    bearer: Option<bearer::Verifier>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes on, changed as the permit says.
    Forward {
        /// Says how its headers must look upstream.
        permit: Permit,
        /// Why, for the access log.
        reason: &'static str,
    },
    /// It is answered here.
    Reply {
        /// The answer.
        reply: Reply,
        /// Why, for the access log.
        reason: &'static str,
    },
}

/// What a request presents.
enum Credential {
    Bearer(Rc<Principal>),
    Session(Rc<Record>),
}

impl Gate {
    /// A gate that knows nothing of the provider until [`Gate::background`] runs.
    pub fn new(config: Config, host: Rc<dyn Host>) -> Rc<Self> {
        let rp = RelyingParty::new(config, host.clone());
        let config = &rp.config;
        let headers = Headers::new(
            rp.cookies.clone(),
            config.public_url.authority.clone(),
            policy_groups(&config.policy),
        );
        Rc::new(Self {
            policy: Policy::new(&config.policy, headers),
            bearer: config.bearer.clone().map(|accepted| bearer::Verifier::new(config.clone(), accepted)),
            rp: Rc::new(rp),
            host,
        })
    }

    /// Starts the jobs of the root context.
    pub fn background(&self) {
        self.host.spawn(Box::pin(self.rp.provider.clone().run()));
    }

    /// Decides about one request; `headers` as Envoy has them, pseudo-headers included.
    pub async fn decide(self: Rc<Self>, headers: Vec<(String, Vec<u8>)>) -> Decision {
        let request = match Request::parse(headers) {
            Ok(request) => request,
            Err(malformed) => return self.refuse_unparsed(malformed),
        };
        if let Some(outcome) = self.endpoint(&request).await {
            return match outcome {
                Ok(reply) => self.answer(&request, reply),
                Err(refused) => self.refuse(&request, refused).await,
            };
        }
        match self.permit(&request).await {
            Ok((permit, outcome)) => {
                self.host.count(metrics::decision(outcome, "none"));
                Decision::Forward { permit, reason: outcome.label() }
            }
            Err(rejection) => {
                let retry_path = ReturnPath::or_root(&request.target()).as_str().to_owned();
                let refused = Refused { retry_path, ..rejection.into() };
                self.refuse(&request, refused).await
            }
        }
    }

    /// Our own endpoints, by the path exactly as it was sent (CB15); `None` when it is none of them.
    async fn endpoint(self: &Rc<Self>, request: &Request) -> Option<Result<Reply, Refused>> {
        self.rp.browser().ok()?;
        Some(match (request.raw_path(), request.method()) {
            ("/oauth2/login", "GET" | "HEAD") => {
                let target = request.query_pairs().find(|(name, _)| name == "rd");
                let return_path = target.map_or(ReturnPath::root(), |(_, path)| ReturnPath::or_root(&path));
                authorization::begin(&self.rp, request, &return_path).await.map_err(Refused::from)
            }
            (authorization::CALLBACK_PATH, "GET") => callback::complete(&self.rp, request).await,
            ("/oauth2/logout", "GET" | "POST") => logout::end(&self.rp, request).await,
            (logout::SIGNED_OUT_PATH, "GET" | "HEAD") => Ok(logout::signed_out(&self.rp, request)),
            ("/oauth2/login" | logout::SIGNED_OUT_PATH, _) => {
                Err(Rejection::MethodNotAllowed("GET, HEAD").into())
            }
            (authorization::CALLBACK_PATH, _) => Err(Rejection::MethodNotAllowed("GET").into()),
            ("/oauth2/logout", _) => Err(Rejection::MethodNotAllowed("GET, POST").into()),
            _ => return None,
        })
    }

    async fn permit(self: &Rc<Self>, request: &Request) -> Result<(Permit, Outcome), Rejection> {
        if let Some(permit) = self.policy.public(request) {
            return Ok((permit, Outcome::Public));
        }
        match self.credential(request).await? {
            Credential::Bearer(principal) => Ok((self.policy.permit(request, &principal)?, Outcome::Bearer)),
            Credential::Session(session) => {
                self.check_same_site(request)?;
                Ok((self.policy.permit(request, &session.principal)?, Outcome::Session))
            }
        }
    }

    /// A bearer token beats a cookie and never falls back to it (BT12).
    async fn credential(&self, request: &Request) -> Result<Credential, Rejection> {
        match (bearer::authorization(request), &self.bearer) {
            (Authorization::Absent, _) => self.rp.session(request).await.map(Credential::Session),
            (Authorization::Bearer(token), Some(verifier)) => {
                verifier.verify(&self.rp.provider, &*self.host, token).await.map(Credential::Bearer)
            }
            _ => Err(Rejection::UnusableAuthorization),
        }
    }

    /// Whether a `Set-Cookie` value of the application would set one of our cookies.
    pub fn sets_our_cookie(&self, set_cookie: &[u8]) -> bool {
        let name = set_cookie.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default();
        self.rp.cookies.is_ours(name.trim_ascii())
    }

    /// A cookie comes along by itself, so who sent the request has to be asked: an unsafe method from another site's
    /// page is refused (RFC 10017). Clients that are no browsers send neither header.
    fn check_same_site(&self, request: &Request) -> Result<(), Rejection> {
        if request.is_safe() {
            return Ok(());
        }
        let same = match request.header("sec-fetch-site") {
            Some(site) => matches!(site, "same-origin" | "none"),
            None if request.has_header("sec-fetch-site") => false,
            None => {
                !request.has_header("origin")
                    || request.header("origin") == Some(&self.rp.config.public_url.origin)
            }
        };
        if same { Ok(()) } else { Err(Rejection::CrossSite) }
    }

    /// Whoever could sign in is sent there; everybody else gets the one answer for this refusal.
    async fn refuse(self: &Rc<Self>, request: &Request, refused: Refused) -> Decision {
        let Refused { mut rejection, cookies, retry_path } = refused;
        let wants_login = matches!(rejection, Rejection::NoCredential | Rejection::SessionEnded(_));
        if wants_login && self.rp.browser().is_ok() && request.audience() == Audience::Navigation {
            match authorization::begin(&self.rp, request, &ReturnPath::or_root(&request.target())).await {
                Ok(reply) => {
                    let reason = rejection.label();
                    self.host.count(metrics::decision(Outcome::Login, reason));
                    self.log_refusal(request, &rejection, reply.status);
                    return Decision::Reply { reply, reason };
                }
                Err(instead) => rejection = instead,
            }
        }
        let form_origin = self.rp.form_origin();
        let signed_in = if self.rp.ticket(request).is_ok() { SignedIn::Session } else { SignedIn::No };
        let asked = Asked {
            audience: request.audience(),
            request_id: request.id(),
            retry_path: &retry_path,
            signed_in,
            form_origin: form_origin.as_deref(),
        };
        let mut reply = refuse(&rejection, &asked).with_cookies(cookies);
        if matches!(rejection, Rejection::Login(LoginError::Loop)) {
            reply = reply.with_cookies([self.rp.attempts.reset()]);
        }
        let reason = rejection.label();
        self.host.count(metrics::decision(Outcome::Refused, reason));
        self.log_refusal(request, &rejection, reply.status);
        Decision::Reply { reply, reason }
    }

    fn refuse_unparsed(&self, malformed: Malformed) -> Decision {
        let rejection = Rejection::Malformed(malformed);
        let asked = Asked {
            audience: Audience::Api,
            request_id: "-",
            retry_path: "/",
            signed_in: SignedIn::No,
            form_origin: None,
        };
        let reason = rejection.label();
        self.host.count(metrics::decision(Outcome::Refused, reason));
        self.host.log(Level::Info, &format!("refused: status=400 reason={reason}"));
        Decision::Reply { reply: refuse(&rejection, &asked), reason }
    }

    fn answer(&self, request: &Request, reply: Reply) -> Decision {
        self.host.count(metrics::decision(Outcome::Endpoint, "none"));
        self.host.log(
            Level::Debug,
            &format!(
                "answered: request={} path={} status={}",
                request.id(),
                request.raw_path(),
                reply.status
            ),
        );
        Decision::Reply { reply, reason: Outcome::Endpoint.label() }
    }

    /// One line that somebody can act on. The path is canonical and escaped; the query may hold a code, so it is not
    /// there.
    fn log_refusal(&self, request: &Request, rejection: &Rejection, status: u16) {
        let level = match rejection {
            Rejection::Unavailable(_) | Rejection::Login(LoginError::ClientRefused) => Level::Error,
            Rejection::Login(_) | Rejection::NotAllowed(_) | Rejection::CrossSite => Level::Warn,
            _ => Level::Info,
        };
        let mut line = format!(
            "refused: request={} status={status} reason={} method={} path={:?}",
            request.id(),
            rejection.label(),
            request.method(),
            request.canonical_path().as_str().chars().take(200).collect::<String>(),
        );
        if let Some(detail) = rejection.detail() {
            line.push_str(&format!(" detail={:?}", detail.chars().take(300).collect::<String>()));
        }
        if let Rejection::NotAllowed(refused) = rejection {
            let name = refused.principal.preferred_username.as_deref().unwrap_or("-");
            line.push_str(&format!(" user={name:?} sub={:?}", refused.principal.subject));
        }
        self.host.log(level, &line);
    }
}

fn policy_groups(policy: &config::Policy) -> Vec<String> {
    let named = policy.rules.iter().filter_map(|rule| match &rule.access {
        Access::Groups(groups) => Some(groups.as_slice()),
        _ => None,
    });
    named.chain([policy.admins.as_slice(), policy.users.as_slice()]).flatten().cloned().collect()
}

#[cfg(test)]
mod tests;
