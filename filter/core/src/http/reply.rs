//! The gate's replies. One function turns a refusal into a reply; others build replies with the gate's own pages.
//!
//! | rejection | status | JSON `error_code` | gRPC |
//! | --- | --- | --- | --- |
//! | malformed; an invalid logout notification, or one that failed | 400 | `BAD_REQUEST` | 3 |
//! | no credential, session ended | 401, or 302 to the login | `UNAUTHENTICATED` | 16 |
//! | unusable `Authorization`, invalid token | 401 | `UNAUTHENTICATED` | 16 |
//! | not allowed, cross-site | 403 | `PERMISSION_DENIED` | 7 |
//! | not found | 404 | `ENDPOINT_NOT_FOUND` | 12 |
//! | method not allowed | 405 with `Allow` | `BAD_REQUEST` | 12 |
//! | login failed: state, issuer, code, forged ID token, size, loop | 400 | `UNAUTHENTICATED` | 3 |
//! | login failed: `access_denied` | 403 | `UNAUTHENTICATED` | 7 |
//! | login failed: `server_error`, `temporarily_unavailable` | 503 | `UNAUTHENTICATED` | 14 |
//! | login failed: an answer of the provider, or the client's registration | 503 | `UNAUTHENTICATED` | 13 |
//! | unavailable, and waiting can help; over a limit; prefetch | 503 | `TEMPORARILY_UNAVAILABLE` | 14 |
//! | unavailable until an administrator acts | 503 | `INTERNAL_ERROR` | 13 |
//!
//! A 503 has `Retry-After` if waiting can help (`Outlook::Passing`). If an administrator has to act, the reply says so.
//! A 4xx of the provider is of the second kind, except 408, 425 and 429.

use crate::config::{Config, Preset};
use crate::error::{Dependency, Limit, LoginError, Malformed, Outlook, Rejection};
use crate::http::fragment_page;
use crate::http::pages::{self, ADMINISTRATOR, Page};
use crate::http::request::{Audience, NO_REQUEST_ID};
use crate::http::return_path::ReturnPath;

/// Value of `Retry-After` in seconds, while a dependency is unavailable.
pub const RETRY_AFTER_SECS: u32 = 5;

/// The challenge without an error code. `mlflow.js` knows by it that a 401 is the gate's.
const CHALLENGE: &str = "Bearer realm=\"oidc-gate\"";

/// A complete local reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers, except those that Envoy adds.
    pub headers: Vec<(&'static str, String)>,
    /// The body. Envoy drops it for HEAD.
    pub body: String,
    /// `grpc-status`, if the client speaks gRPC.
    pub grpc_status: Option<u32>,
}

/// What the reply to a refusal depends on, apart from the refusal.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Who reads the reply.
    pub audience: Audience,
    /// The request id, which the user can quote.
    pub request_id: &'a str,
    /// Target of the "try again" link.
    pub retry_path: &'a str,
    /// The configuration. Texts mention only what this gate offers.
    pub config: &'a Config,
    /// Whether the request has a session, so that a sign-out button makes sense.
    pub signed_in: SignedIn,
    /// The provider's origin, to which the sign-out form may lead.
    pub form_origin: Option<&'a str>,
}

/// Whether a refused request has a browser session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedIn {
    /// By session cookie. The sign-out button can end this session.
    Session,
    /// By bearer token, or not signed in.
    No,
}

impl Asked<'_> {
    /// Whether browsers can sign in at this gate.
    fn has_login(&self) -> bool {
        self.config.browser.is_some()
    }

    /// Whether this gate takes access tokens.
    fn has_bearer(&self) -> bool {
        self.config.bearer.is_some()
    }

    /// Whether the client is MLflow's, which has environment variables for its credentials.
    fn is_mlflow(&self) -> bool {
        self.config.policy.preset == Some(Preset::Mlflow)
    }
}

impl Reply {
    /// A 303 redirect: the next request is a GET, whatever the method of this one was (RFC 9700 4.12).
    pub fn see_other(location: String) -> Self {
        Self::redirect(303, location)
    }

    /// A redirect of a navigation.
    pub fn found(location: String) -> Self {
        Self::redirect(302, location)
    }

    fn redirect(status: u16, location: String) -> Self {
        let mut reply = Self::new(status, "text/plain; charset=utf-8", String::new());
        reply.headers.push(("location", location));
        reply
    }

    /// A page for a user.
    pub fn page(status: u16, page: &Page<'_>, form_origin: Option<&str>) -> Self {
        Self { status, ..Self::document(pages::render(page), form_origin) }
    }

    /// Success without content.
    pub fn done() -> Self {
        Self::new(200, "text/plain; charset=utf-8", String::new())
    }

    /// The page that keeps the fragment of the address over a login. A 401 needs a challenge (RFC 9110 15.5.2).
    pub fn fragment_page(return_path: &ReturnPath) -> Self {
        let html = fragment_page::render(return_path);
        let reply = Self { status: 401, ..Self::of_document(html, fragment_page::content_security_policy()) };
        reply.with("www-authenticate", CHALLENGE)
    }

    /// A script of the gate, for pages of this origin. It holds nothing of the user, so a browser may keep it and ask
    /// whether it has changed. `tag` is its ETag (RFC 9110 8.8.3), and `known` the request's `If-None-Match`.
    pub fn script(text: &str, tag: &str, known: Option<&str>) -> Self {
        let is_known = known.is_some_and(|known| {
            known
                .split(',')
                .any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == tag)
        });
        let mut reply = Self::new(200, "text/javascript; charset=utf-8", text.to_owned());
        if is_known {
            (reply.status, reply.body) = (304, String::new());
        }
        reply.headers.retain(|(name, _)| *name != "cache-control" && !(is_known && *name == "content-type"));
        reply
            .with("cache-control", "no-cache")
            .with("etag", tag.to_owned())
            .with("cross-origin-resource-policy", "same-origin")
    }

    /// An HTML document of the gate.
    pub fn document(html: String, form_origin: Option<&str>) -> Self {
        Self::of_document(html, pages::content_security_policy(form_origin))
    }

    fn of_document(html: String, policy: String) -> Self {
        let mut reply = Self::new(200, "text/html; charset=utf-8", html);
        reply.headers.push(("content-security-policy", policy));
        reply.headers.push(("x-frame-options", "DENY".to_owned()));
        reply
    }

    /// Members without a value are left out.
    fn json(status: u16, error_code: &str, message: &str, members: &[(&str, Option<&str>)]) -> Self {
        let mut body = serde_json::json!({"error_code": error_code, "message": message});
        if let Some(body) = body.as_object_mut() {
            let given = members.iter().filter_map(|(name, value)| Some((name, (*value)?)));
            body.extend(given.map(|(name, value)| ((*name).to_owned(), value.into())));
        }
        Self::new(status, "application/json", body.to_string())
    }

    /// A reply that is neither stored nor sniffed, and whose URL is not sent as referrer.
    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        let headers = vec![
            ("content-type", content_type.to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("referrer-policy", "no-referrer".to_owned()),
        ];
        Self { status, headers, body, grpc_status: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds `Set-Cookie` headers.
    #[must_use]
    pub fn with_cookies(mut self, cookies: impl IntoIterator<Item = String>) -> Self {
        self.headers.extend(cookies.into_iter().map(|cookie| ("set-cookie", cookie)));
        self
    }
}

/// Turns a refusal into a reply. Nothing else does. The reply never reveals which check of a credential failed; the log
/// has the precise reason under the request id.
pub fn refuse(rejection: &Rejection, asked: &Asked<'_>) -> Reply {
    let status = status(rejection);
    let mut reply = match asked.audience {
        Audience::Navigation => Reply::page(status, &page(rejection, asked), asked.form_origin),
        Audience::Api => {
            let (code, message) = api_error(rejection, asked);
            let id = (asked.request_id != NO_REQUEST_ID).then_some(asked.request_id);
            Reply::json(status, code, &message, &[("request_id", id), ("rule", rule_shown(rejection))])
        }
        Audience::Grpc => {
            let mut reply = Reply::new(status, "application/grpc", api_error(rejection, asked).1);
            reply.grpc_status = Some(grpc_status(status, rejection.outlook()));
            reply
        }
    };
    // Lets the client name the log line that has the reason.
    if asked.request_id != NO_REQUEST_ID {
        reply.headers.push(("x-request-id", asked.request_id.to_owned()));
    }
    if let Some(challenge) = challenge(rejection) {
        reply.headers.push(("www-authenticate", challenge));
    }
    if rejection.outlook() == Some(Outlook::Passing) {
        reply.headers.push(("retry-after", RETRY_AFTER_SECS.to_string()));
    }
    if let Rejection::MethodNotAllowed(allow) = rejection {
        let names: Vec<&str> = allow.iter().map(|method| method.label()).collect();
        reply.headers.push(("allow", names.join(", ")));
    }
    reply
}

/// The rule that refused, in the operator's words. A hidden path must look as if it did not exist, so its rule is not
/// shown.
fn rule_shown(rejection: &Rejection) -> Option<&str> {
    match rejection {
        Rejection::NotAllowed(refused) => refused.rule.as_ref()?.shown(),
        _ => None,
    }
}

fn status(rejection: &Rejection) -> u16 {
    match rejection {
        Rejection::Malformed(_) | Rejection::InvalidLogoutToken(_) | Rejection::LogoutFailed(_) => 400,
        Rejection::NoCredential
        | Rejection::UnusableAuthorization
        | Rejection::InvalidToken(_)
        | Rejection::SessionEnded(_) => 401,
        Rejection::NotAllowed(_) | Rejection::CrossSite => 403,
        Rejection::NotFound(_) => 404,
        Rejection::MethodNotAllowed(_) => 405,
        // Browsers do not keep a 503 for the click that may follow the prefetch.
        Rejection::Speculative
        | Rejection::Unavailable(_)
        | Rejection::OverLimit(_)
        | Rejection::SignOutIncomplete(_) => 503,
        Rejection::Login(error) => match error {
            LoginError::Provider { error, .. } => match error.as_str() {
                "access_denied" => 403,
                "server_error" | "temporarily_unavailable" => 503,
                _ => 400,
            },
            LoginError::IdToken(error) if error.is_forgery() => 400,
            // The provider's answer or the client registration is wrong.
            LoginError::ClientRefused(_)
            | LoginError::TokenResponse(_)
            | LoginError::IdToken(_)
            | LoginError::UserInfo(_)
            | LoginError::UserInfoOfAnother => 503,
            LoginError::MissingState
            | LoginError::WrongIssuer
            | LoginError::CodeUsed
            | LoginError::CodeRefused(_)
            | LoginError::TooLarge(_)
            | LoginError::Loop => 400,
        },
    }
}

/// RFC 6750 3: no error code when no credentials were presented.
fn challenge(rejection: &Rejection) -> Option<String> {
    match rejection {
        Rejection::NoCredential | Rejection::SessionEnded(_) | Rejection::UnusableAuthorization => {
            Some(CHALLENGE.to_owned())
        }
        Rejection::InvalidToken(_) => Some(
            "Bearer realm=\"oidc-gate\", error=\"invalid_token\", error_description=\"The access token is not valid\""
                .to_owned(),
        ),
        _ => None,
    }
}

/// grpc/doc/statuscodes.md
fn grpc_status(status: u16, outlook: Option<Outlook>) -> u32 {
    match status {
        400 => 3,        // INVALID_ARGUMENT
        401 => 16,       // UNAUTHENTICATED
        403 => 7,        // PERMISSION_DENIED
        404 | 405 => 12, // UNIMPLEMENTED
        // INTERNAL (13), because clients retry UNAVAILABLE on their own.
        503 if outlook == Some(Outlook::Lasting) => 13,
        503 => 14, // UNAVAILABLE
        _ => 2,    // UNKNOWN
    }
}

/// MLflow's error format. Its client turns `error_code` and `message` into an exception.
fn api_error(rejection: &Rejection, asked: &Asked<'_>) -> (&'static str, String) {
    let (code, message) = match rejection {
        Rejection::Malformed(Malformed::TokenInQuery) => ("BAD_REQUEST", token_in_query(asked)),
        Rejection::Malformed(_) => ("BAD_REQUEST", "The request is malformed."),
        Rejection::InvalidLogoutToken(_) => ("BAD_REQUEST", "The logout token is not valid."),
        Rejection::SignOutIncomplete(dependency) => {
            return (
                unavailable_code(dependency),
                format!("{SIGN_OUT_INCOMPLETE} {}", unavailable(dependency)),
            );
        }
        Rejection::LogoutFailed(dependency) => return ("BAD_REQUEST", unavailable(dependency)),
        Rejection::NoCredential | Rejection::SessionEnded(_) => {
            return ("UNAUTHENTICATED", ways_to_sign_in(asked));
        }
        Rejection::UnusableAuthorization => return ("UNAUTHENTICATED", unusable_authorization(asked)),
        Rejection::InvalidToken(_) => {
            ("UNAUTHENTICATED", "The access token is not valid or has expired. Get a new one and try again.")
        }
        Rejection::NotAllowed(refused) => {
            let needed = match refused.needed.as_slice() {
                [] => "Nobody has access to this.".to_owned(),
                groups => format!("One of these groups is needed: {}.", groups.join(", ")),
            };
            let rule =
                rule_shown(rejection).map(|rule| format!(" The rule is \"{rule}\".")).unwrap_or_default();
            let mut message = format!("You are signed in, but not allowed to do this.{rule} {needed}");
            if refused.principal.groups_elsewhere {
                message.push_str(&format!(" Your groups are unknown: {}", pages::GROUPS_ELSEWHERE));
            }
            return ("PERMISSION_DENIED", message);
        }
        Rejection::CrossSite => ("PERMISSION_DENIED", "This request came from another site."),
        Rejection::Speculative => {
            ("TEMPORARILY_UNAVAILABLE", "This can't be loaded ahead of time. Nothing was done.")
        }
        Rejection::NotFound(_) => ("ENDPOINT_NOT_FOUND", "Not found."),
        Rejection::MethodNotAllowed(_) => ("BAD_REQUEST", "This method is not allowed here."),
        Rejection::Login(_) => ("UNAUTHENTICATED", "The sign-in could not be completed."),
        Rejection::Unavailable(dependency) => return (unavailable_code(dependency), unavailable(dependency)),
        Rejection::OverLimit(limit) => ("TEMPORARILY_UNAVAILABLE", over_limit(*limit)),
    };
    (code, message.to_owned())
}

/// How a client without a credential can authenticate here.
fn ways_to_sign_in(asked: &Asked<'_>) -> String {
    let bearer = match (asked.has_bearer(), asked.is_mlflow()) {
        (true, true) => Some("send `Authorization: Bearer <access token>` (MLflow: MLFLOW_TRACKING_TOKEN)"),
        (true, false) => Some("send `Authorization: Bearer <access token>`"),
        (false, _) => None,
    };
    let login = asked.has_login().then_some("sign in with a browser");
    let ways: Vec<&str> = bearer.into_iter().chain(login).collect();
    format!("Authentication is required: {}.", ways.join(", or "))
}

fn unusable_authorization(asked: &Asked<'_>) -> String {
    let no_password =
        "The Authorization header holds no access token. User name and password are not accepted here";
    match &asked.config.bearer {
        None => "This gate accepts no Authorization header. Sign in with a browser.".to_owned(),
        Some(bearer) if bearer.basic => format!("{no_password}; an access token as the password is."),
        Some(_) if asked.is_mlflow() => {
            format!("{no_password}: unset MLFLOW_TRACKING_USERNAME and set MLFLOW_TRACKING_TOKEN.")
        }
        Some(_) => format!("{no_password}: send `Authorization: Bearer <access token>`."),
    }
}

fn token_in_query(asked: &Asked<'_>) -> &'static str {
    if asked.has_bearer() {
        "Send the access token in the Authorization header, never in the query."
    } else {
        "The query must not contain an access token."
    }
}

const SIGN_OUT_INCOMPLETE: &str = "Signing out is not complete.";

fn unavailable(dependency: &Dependency) -> String {
    let what = match (dependency, dependency.outlook()) {
        (Dependency::Provider(_) | Dependency::ProviderMetadata(_), Outlook::Passing) => {
            "The identity provider can't be reached right now."
        }
        (Dependency::Provider(_) | Dependency::ProviderMetadata(_), Outlook::Lasting) => {
            "The identity provider and this gate are not configured to work together."
        }
        (Dependency::Redis(_), Outlook::Passing) => "The session store can't be reached right now.",
        (Dependency::Redis(_), Outlook::Lasting) => "This gate is not configured to reach the session store.",
        (Dependency::Clock, _) => {
            return "The clocks of this gate and of the identity provider disagree. An administrator has to act."
                .to_owned();
        }
        (Dependency::Host | Dependency::Body, _) => "The gate can't work right now.",
    };
    let then = match dependency.outlook() {
        Outlook::Passing => "Try again in a few seconds.",
        Outlook::Lasting => ADMINISTRATOR,
    };
    format!("{what} {then}")
}

/// MLflow's error codes. `INTERNAL_ERROR` means that an administrator has to act.
fn unavailable_code(dependency: &Dependency) -> &'static str {
    match dependency.outlook() {
        Outlook::Passing => "TEMPORARILY_UNAVAILABLE",
        Outlook::Lasting => "INTERNAL_ERROR",
    }
}

const fn over_limit(limit: Limit) -> &'static str {
    match limit {
        Limit::UnknownTickets => {
            "Too many requests with unknown session cookies. Try again in a few seconds."
        }
        Limit::Callbacks => {
            "Too many sign-ins at the moment, from your network or overall. Your sign-in is not lost: try again in a \
             few seconds."
        }
    }
}

fn page<'a>(rejection: &'a Rejection, asked: &'a Asked<'_>) -> Page<'a> {
    let page = Page::new(status(rejection), asked.request_id);
    match rejection {
        Rejection::NotAllowed(refused) => {
            let page = page.title("You are not allowed here").text(if refused.needed.is_empty() {
                "User is not allowed: nobody has access to this."
            } else {
                "User is not allowed: your account is not in a group that has access."
            });
            let page = match rule_shown(rejection) {
                Some(rule) => page.detail("Rule", rule),
                None => page,
            };
            page.principal(&refused.principal, &refused.needed).sign_out(asked.signed_in == SignedIn::Session)
        }
        Rejection::Unavailable(dependency) => {
            let page = page.text(unavailable(dependency));
            match dependency.outlook() {
                Outlook::Passing => page.title("Not available right now"),
                Outlook::Lasting => page.title("Not available").hint(SEE_LOG),
            }
            .retry(asked.retry_path)
        }
        Rejection::OverLimit(limit) => {
            page.title("Too many requests").text(over_limit(*limit)).retry(asked.retry_path)
        }
        Rejection::SignOutIncomplete(dependency) => page
            .title("You are not signed out yet")
            .text(format!("{SIGN_OUT_INCOMPLETE} {}", unavailable(dependency)))
            .retry(asked.retry_path),
        Rejection::Login(error) => pages::login_error(page, error, asked.retry_path),
        Rejection::Malformed(Malformed::TokenInQuery) => {
            page.title("Bad request").text(token_in_query(asked))
        }
        Rejection::Malformed(_) | Rejection::InvalidLogoutToken(_) | Rejection::LogoutFailed(_) => page
            .title("Bad request")
            .text("Your browser sent a request that can't be processed safely.")
            .hint("If you typed the address, check it; some characters are not allowed in it.")
            .start_page(),
        Rejection::NotFound(_) => page.title("Not found").text("There is nothing here."),
        Rejection::MethodNotAllowed(_) => {
            page.title("Not possible").text("This request method is not supported here.")
        }
        Rejection::CrossSite => page
            .title("Refused")
            .text("This request came from another site. Open the page again and repeat the action there.")
            .start_page(),
        Rejection::Speculative => page
            .title("Not loaded yet")
            .text("Your browser asked for this page ahead of time, so nothing was done.")
            .go_on(asked.retry_path),
        Rejection::NoCredential
        | Rejection::SessionEnded(_)
        | Rejection::UnusableAuthorization
        | Rejection::InvalidToken(_) => {
            let page = page.title("Sign-in needed").text(match rejection {
                Rejection::NoCredential => "You are not signed in, so nothing was done.",
                Rejection::SessionEnded(_) => "You are no longer signed in, so nothing was done.",
                _ => "Your request had a credential that is not valid here.",
            });
            if asked.has_login() {
                page.sign_in(asked.retry_path)
            } else {
                page.hint("Browsers can't sign in here: send an access token in the Authorization header.")
            }
        }
    }
}

const SEE_LOG: &str = "Administrators: the log has the reason under the request id below.";
