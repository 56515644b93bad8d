//! Why a request is refused. The metric's label and the reason in the log come from the same variant. Only
//! [`crate::http::reply`] turns a [`Rejection`] into a reply.

mod denial;
mod reason;

use std::rc::Rc;

pub use self::denial::NotAllowed;
pub use self::reason::Reason;
use crate::config::RuleName;
use crate::jose::error::TokenError;
use crate::methods::Method;
use crate::redis::{MAX_VALUE_LEN, RedisError};

/// Why a request is not forwarded.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// Parsers could read this request differently, or no application can receive it: 400.
    Malformed(Malformed),
    /// No credential: 302 to the login, or 401.
    NoCredential,
    /// The `Authorization` header is not a well-formed Bearer credential (RFC 6750 2.1): 401.
    UnusableAuthorization,
    /// The bearer token is invalid: 401 `invalid_token`.
    InvalidToken(TokenError),
    /// The session cookie belongs to no live session: 302 to the login, or 401.
    SessionEnded(SessionEnd),
    /// Authenticated, but not a member of a group that has access: 403.
    NotAllowed(Box<NotAllowed>),
    /// Another site's page sent an unsafe method with a cookie: 403.
    CrossSite,
    /// A browser prefetches one of the gate's endpoints. Nothing was done: 503.
    Speculative,
    /// A rule hides this path, or it is below the reserved `/oauth2/`: 404. Contains the rule if there is one.
    NotFound(Option<RuleName>),
    /// One of the gate's endpoints, but with another method: 405 with `Allow`.
    MethodNotAllowed(&'static [Method]),
    /// A logout token, or an administrative message of the provider, is invalid: 400 (Back-Channel Logout 1.0 2.8).
    InvalidLogoutToken(TokenError),
    /// A logout requested by the provider failed, or did not reach every Envoy: 400 (2.8).
    LogoutFailed(Dependency),
    /// A user signs out, and the gate cannot confirm that the session has ended: 503 with a page that says so.
    SignOutIncomplete(Dependency),
    /// The callback failed: a page that says what to do.
    Login(LoginError),
    /// A dependency is unavailable or misconfigured: 503, with Retry-After if waiting can help.
    Unavailable(Dependency),
    /// Unauthenticated clients have used up their limit for now: 503 with Retry-After.
    OverLimit(Limit),
}

/// A refusal by one of the gate's endpoints, with what its reply must contain.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The reason.
    pub rejection: Rejection,
    /// `Set-Cookie` values of the reply.
    pub cookies: Vec<String>,
    /// Target of the "try again" or "sign in" link.
    pub retry_path: String,
}

impl<T: Into<Rejection>> From<T> for Refused {
    fn from(rejection: T) -> Self {
        Self { rejection: rejection.into(), cookies: Vec::new(), retry_path: "/".to_owned() }
    }
}

/// What is wrong with a malformed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// `:method` is missing, repeated or unknown.
    Method,
    /// `:path` is missing or not in origin form (RFC 9112 3.2.1).
    Target,
    /// The path has bytes, escapes or dot segments that parsers read differently.
    Path,
    /// `:authority` is missing or a list.
    Authority,
    /// An access token in the query (RFC 9700 4.3.2).
    TokenInQuery,
    /// Parameters are missing, repeated or malformed.
    Parameters,
    /// The body is missing, too long, or not of its content type.
    Body,
}

/// Why a session cookie was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The value does not have the form of a ticket.
    MalformedTicket,
    /// A well-formed ticket that none of the gate's keys signed.
    Forged,
    /// The request has several session cookies with different values.
    Ambiguous,
    /// Redis has no record: the session was signed out, has expired or never existed.
    Unknown,
    /// The record cannot be decrypted with this cookie and the gate's keys.
    Unreadable,
    /// Unused for longer than the idle timeout.
    Idle,
    /// Older than the absolute timeout, or than the lifetime that the provider set.
    Expired,
    /// Signed out at the gate, at the provider, or by an administrator.
    SignedOut,
    /// The provider refused to refresh the session.
    RefreshRefused,
    /// The refresh response does not belong to the session.
    RefreshInvalid,
}

/// Why a login failed.
#[derive(Clone, Debug)]
pub enum LoginError {
    /// This browser has no login with this `state`.
    MissingState,
    /// `iss` is wrong, or missing although the metadata announces it (RFC 9207 2.4).
    WrongIssuer,
    /// The provider returned an error (RFC 6749 4.1.2.1). The fields are as it sent them.
    Provider {
        /// `error`.
        error: String,
        /// `error_description`, a text for developers.
        description: Option<String>,
    },
    /// The code was used before.
    CodeUsed,
    /// The token endpoint refused the code (`invalid_grant` and similar), with its message.
    CodeRefused(Rc<str>),
    /// The token endpoint refused the client: its id or secret is wrong, or it lacks a permission. With the endpoint's
    /// message.
    ClientRefused(Rc<str>),
    /// The token response is malformed.
    TokenResponse(Rc<str>),
    /// The ID token is invalid.
    IdToken(TokenError),
    /// The UserInfo response is malformed, or the provider refused the request.
    UserInfo(Rc<str>),
    /// The `sub` of UserInfo differs from the ID token's.
    UserInfoOfAnother,
    /// The session is too large for the store. The field is its size in bytes.
    TooLarge(usize),
    /// This browser returns from the login repeatedly without having a session.
    Loop,
}

/// What unauthenticated clients may do only within a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Look-ups in Redis for tickets that the gate did not sign.
    UnknownTickets,
    /// Callbacks with a code.
    Callbacks,
}

/// A dependency of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// The metadata or keys are not available (yet).
    ProviderMetadata(Trouble),
    /// The provider does not answer, or refuses a request of the gate.
    Provider(Trouble),
    /// Redis does not answer, or answers with an error.
    Redis(RedisError),
    /// The host provides no randomness or no signature check.
    Host,
    /// The gate's and the provider's clocks differ too much to check the times of tokens.
    Clock,
    /// Envoy does not deliver the request body (`allow_on_headers_stop_iteration`), or the body is very slow.
    Body,
}

/// A problem with the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For the log: the endpoint and its answer, without secrets.
    pub detail: Rc<str>,
    /// Whether waiting can help.
    pub outlook: Outlook,
}

/// Whether waiting can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Waiting can help: a later request may succeed.
    Passing,
    /// Someone must change something at the provider, in Redis, in Envoy or in the gate's configuration.
    Lasting,
}

impl Trouble {
    /// A problem that can pass.
    pub fn passing(detail: impl Into<Rc<str>>) -> Self {
        Self { detail: detail.into(), outlook: Outlook::Passing }
    }

    /// A problem that an administrator must correct.
    pub fn lasting(detail: impl Into<Rc<str>>) -> Self {
        Self { detail: detail.into(), outlook: Outlook::Lasting }
    }
}

impl Rejection {
    /// Whether a retry can help. `None` if no dependency is the cause.
    pub fn outlook(&self) -> Option<Outlook> {
        match self {
            Self::Unavailable(dependency)
            | Self::LogoutFailed(dependency)
            | Self::SignOutIncomplete(dependency) => Some(dependency.outlook()),
            Self::OverLimit(_) => Some(Outlook::Passing),
            Self::Login(error) => error.outlook(),
            _ => None,
        }
    }

    /// The stable name for metrics and logs. A named rule extends it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Malformed(malformed) => malformed.reason(),
            Self::NoCredential => Reason::NoCredential,
            Self::UnusableAuthorization => Reason::UnusableAuthorization,
            Self::InvalidToken(_) => Reason::InvalidToken,
            Self::SessionEnded(end) => end.reason(),
            Self::NotAllowed(_) => Reason::NotAllowed,
            Self::CrossSite => Reason::CrossSite,
            Self::Speculative => Reason::Speculative,
            Self::NotFound(_) => Reason::NotFound,
            Self::MethodNotAllowed(_) => Reason::MethodNotAllowed,
            Self::InvalidLogoutToken(_) => Reason::InvalidLogoutToken,
            // The message was not read, so it is not retried later either.
            Self::LogoutFailed(dependency @ Dependency::Body) => dependency.reason(),
            Self::LogoutFailed(_) => Reason::LogoutFailed,
            Self::SignOutIncomplete(_) => Reason::SignOutIncomplete,
            Self::Login(error) => error.reason(),
            Self::Unavailable(dependency) => dependency.reason(),
            Self::OverLimit(limit) => limit.reason(),
        }
    }

    /// What the log adds to the label. Contains no secrets.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::InvalidToken(error)
            | Self::InvalidLogoutToken(error)
            | Self::Login(LoginError::IdToken(error)) => Some(error.detail()),
            Self::Login(LoginError::Provider { error, description }) => {
                Some(format!("{error}: {}", description.as_deref().unwrap_or("no description")))
            }
            Self::Login(LoginError::TokenResponse(what)) => Some(what.to_string()),
            Self::Login(LoginError::TooLarge(size)) => {
                Some(format!("the session has {size} bytes, the limit is {MAX_VALUE_LEN}"))
            }
            Self::Login(
                LoginError::UserInfo(what) | LoginError::CodeRefused(what) | LoginError::ClientRefused(what),
            ) => Some(what.to_string()),
            Self::Login(LoginError::UserInfoOfAnother) => {
                Some("sub differs from the ID token's sub".to_owned())
            }
            Self::Unavailable(dependency) => dependency.detail(),
            Self::LogoutFailed(dependency) | Self::SignOutIncomplete(dependency) => {
                let detail = dependency.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
                Some(format!("{}{detail}", dependency.reason().label()))
            }
            Self::NotAllowed(refused) => Some(refused.detail()),
            _ => None,
        }
    }

    /// The rule that refused the request.
    pub fn rule(&self) -> Option<&RuleName> {
        match self {
            Self::NotAllowed(refused) => refused.rule.as_ref(),
            Self::NotFound(rule) => rule.as_ref(),
            _ => None,
        }
    }
}

impl Malformed {
    const fn reason(self) -> Reason {
        match self {
            Self::Method => Reason::MalformedMethod,
            Self::Target => Reason::MalformedTarget,
            Self::Path => Reason::MalformedPath,
            Self::Authority => Reason::MalformedAuthority,
            Self::TokenInQuery => Reason::TokenInQuery,
            Self::Parameters => Reason::MalformedParameters,
            Self::Body => Reason::MalformedBody,
        }
    }
}

impl SessionEnd {
    const fn reason(self) -> Reason {
        match self {
            Self::MalformedTicket => Reason::SessionMalformedTicket,
            Self::Forged => Reason::SessionForged,
            Self::Ambiguous => Reason::SessionAmbiguous,
            Self::Unknown => Reason::SessionUnknown,
            Self::Unreadable => Reason::SessionUnreadable,
            Self::Idle => Reason::SessionIdle,
            Self::Expired => Reason::SessionExpired,
            Self::SignedOut => Reason::SessionSignedOut,
            Self::RefreshRefused => Reason::SessionRefreshRefused,
            Self::RefreshInvalid => Reason::SessionRefreshInvalid,
        }
    }
}

impl LoginError {
    /// Whether an attacker, and not the provider, may have created the response.
    pub fn is_forgery(&self) -> bool {
        matches!(self, Self::IdToken(error) if error.is_forgery())
    }

    /// Whether a retry can help. `None` if the error concerns only this login.
    fn outlook(&self) -> Option<Outlook> {
        match self {
            Self::Provider { error, .. } => {
                matches!(error.as_str(), "server_error" | "temporarily_unavailable")
                    .then_some(Outlook::Passing)
            }
            Self::IdToken(error) if error.is_forgery() => None,
            Self::ClientRefused(_)
            | Self::TokenResponse(_)
            | Self::IdToken(_)
            | Self::UserInfo(_)
            | Self::UserInfoOfAnother => Some(Outlook::Lasting),
            Self::MissingState
            | Self::WrongIssuer
            | Self::CodeUsed
            | Self::CodeRefused(_)
            | Self::TooLarge(_)
            | Self::Loop => None,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::MissingState => Reason::LoginMissingState,
            Self::WrongIssuer => Reason::LoginWrongIssuer,
            Self::Provider { .. } => Reason::LoginProviderError,
            Self::CodeUsed => Reason::LoginCodeUsed,
            Self::CodeRefused(_) => Reason::LoginCodeRefused,
            Self::ClientRefused(_) => Reason::LoginClientRefused,
            Self::TokenResponse(_) => Reason::LoginTokenResponse,
            Self::IdToken(error) if error.is_forgery() => Reason::LoginForgedIdToken,
            Self::IdToken(_) => Reason::LoginIdToken,
            Self::UserInfo(_) | Self::UserInfoOfAnother => Reason::LoginUserinfo,
            Self::TooLarge(_) => Reason::LoginTooLarge,
            Self::Loop => Reason::LoginLoop,
        }
    }
}

impl Limit {
    const fn reason(self) -> Reason {
        match self {
            Self::UnknownTickets => Reason::SessionOverLimit,
            Self::Callbacks => Reason::LoginOverLimit,
        }
    }
}

impl Dependency {
    /// The stable name for metrics and logs.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::ProviderMetadata(trouble) | Self::Provider(trouble)
                if matches!(trouble.outlook, Outlook::Lasting) =>
            {
                Reason::Misconfigured
            }
            Self::ProviderMetadata(_) => Reason::MetadataUnavailable,
            Self::Clock => Reason::ClocksDisagree,
            Self::Provider(_) => Reason::ProviderUnavailable,
            Self::Redis(_) => Reason::RedisUnavailable,
            Self::Host => Reason::HostUnavailable,
            Self::Body => Reason::BodyUnavailable,
        }
    }

    /// What the log adds to the label.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::ProviderMetadata(trouble) | Self::Provider(trouble) => Some(trouble.detail.to_string()),
            Self::Redis(error) => Some(error.to_string()),
            Self::Host | Self::Clock | Self::Body => None,
        }
    }

    /// Whether waiting can help.
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::ProviderMetadata(trouble) | Self::Provider(trouble) => trouble.outlook,
            // A missing cluster needs a new configuration. Redis' own errors can pass: after a failover, with a new
            // password.
            Self::Redis(RedisError::UnknownCluster) => Outlook::Lasting,
            // Another Envoy's clock may be right.
            Self::Clock | Self::Redis(_) | Self::Host | Self::Body => Outlook::Passing,
        }
    }
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<LoginError> for Rejection {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

impl From<Dependency> for Rejection {
    fn from(dependency: Dependency) -> Self {
        Self::Unavailable(dependency)
    }
}

impl From<RedisError> for Rejection {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(Dependency::Redis(error))
    }
}

impl From<Limit> for Rejection {
    fn from(limit: Limit) -> Self {
        Self::OverLimit(limit)
    }
}

impl From<crate::host::RandomUnavailable> for Rejection {
    fn from(_: crate::host::RandomUnavailable) -> Self {
        Self::Unavailable(Dependency::Host)
    }
}
