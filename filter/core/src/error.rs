//! Why a request is refused. The metric's label and the log's reason come from the same variant; [`crate::http::reply`]
//! is the one place that turns a [`Rejection`] into an answer.

mod denial;

use std::rc::Rc;

pub use self::denial::NotAllowed;
use crate::config::RuleName;
use crate::jose::error::TokenError;
use crate::redis::MAX_VALUE_LEN;

/// Why a request is not forwarded.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// Two parsers could read this request differently, or it is no request for an application at all: 400.
    Malformed(Malformed),
    /// Nothing that says who it is: 302 to login or 401.
    NoCredential,
    /// `Authorization` is there, but no well-formed Bearer credential (RFC 6750 2.1): 401.
    UnusableAuthorization,
    /// A bearer token that does not verify: 401 `invalid_token`.
    InvalidToken(TokenError),
    /// The session cookie opens nothing that still lives: 302 to login or 401.
    SessionEnded(SessionEnd),
    /// Known, but not in a group that may: 403.
    NotAllowed(Box<NotAllowed>),
    /// An unsafe method with a cookie, sent by another site's page: 403.
    CrossSite,
    /// A browser loads ahead of time what must happen only when somebody goes there: nothing was done.
    Speculative,
    /// A rule hides this path, or it lies in our reserved `/oauth2/`: 404. With the rule, where one says so.
    NotFound(Option<RuleName>),
    /// Ours, but not with this method: 405 with `Allow`.
    MethodNotAllowed(&'static str),
    /// A logout token, or a provider's administrative message, that does not verify: 400 (Back-Channel Logout 1.0 2.8).
    InvalidLogoutToken(TokenError),
    /// A logout that the provider announced could not be carried out, or not everywhere: 400 (2.8).
    LogoutFailed(Dependency),
    /// A person signs out, and it is not certain that the session has ended: 503, and said so.
    SignOutIncomplete(Dependency),
    /// The callback can't be completed: a page that says what to do.
    Login(LoginError),
    /// Somebody we depend on is away, or does not work with us: 503, with Retry-After when it can pass by itself.
    Unavailable(Dependency),
    /// Strangers have had as much as they get for now: 503 with Retry-After.
    OverLimit(Limit),
}

/// A refusal by one of our own endpoints, with what its answer has to carry besides.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// `Set-Cookie` values of the answer.
    pub cookies: Vec<String>,
    /// Where "try again" or "sign in" leads.
    pub retry_path: String,
}

impl<T: Into<Rejection>> From<T> for Refused {
    fn from(rejection: T) -> Self {
        Self { rejection: rejection.into(), cookies: Vec::new(), retry_path: "/".to_owned() }
    }
}

/// What is wrong with the form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// `:method` missing, repeated or unknown.
    Method,
    /// `:path` missing or not in origin form (RFC 9112 3.2.1).
    Target,
    /// Bytes, escapes or dot segments that parsers disagree about.
    Path,
    /// `:authority` missing or a list.
    Authority,
    /// An access token in the query (RFC 9700 4.3.2).
    TokenInQuery,
    /// Parameters missing, repeated or of the wrong form.
    Parameters,
    /// A body that is missing, too long, or not what its content type says.
    Body,
}

/// Why a session cookie did not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Not of the form that we issue.
    MalformedTicket,
    /// Of that form, and not signed with our keys.
    Forged,
    /// More than one session cookie, with different values.
    Ambiguous,
    /// No record: signed out, expired, or never there.
    Unknown,
    /// A record that this cookie and our keys don't open.
    Unreadable,
    /// Unused for longer than the idle timeout.
    Idle,
    /// Older than the absolute timeout, or than what the provider gave for it.
    Expired,
    /// Signed out: here, at the provider, or by an administrator.
    SignedOut,
    /// The provider refused to renew it.
    RefreshRefused,
    /// The provider renewed it with something that does not belong to it.
    RefreshInvalid,
}

/// Why a login can't be completed.
#[derive(Clone, Debug)]
pub enum LoginError {
    /// No login of this browser has that `state`.
    MissingState,
    /// `iss` is wrong, or missing although promised (RFC 9207 2.4).
    WrongIssuer,
    /// The provider said no (RFC 6749 4.1.2.1); `error` and `error_description` as it sent them.
    Provider {
        /// The error code.
        error: String,
        /// Human-readable, for developers.
        description: Option<String>,
    },
    /// This code was used before.
    CodeUsed,
    /// The token endpoint refused the code (`invalid_grant` and the like); with its words.
    CodeRefused(Rc<str>),
    /// The token endpoint refused us: client id or secret are wrong, or this client may not do that; with its words.
    ClientRefused(Rc<str>),
    /// The token response is not one.
    TokenResponse(Rc<str>),
    /// The ID token does not verify.
    IdToken(TokenError),
    /// UserInfo is not one, or the provider does not give it to us.
    UserInfo(Rc<str>),
    /// UserInfo speaks of somebody else than the ID token.
    UserInfoOfAnother,
    /// The session would not fit into the store: its size in bytes.
    TooLarge(usize),
    /// This browser comes back again and again without a session.
    Loop,
}

/// Of what strangers get so much and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Looking for sessions of tickets that carry no signature of ours.
    UnknownTickets,
    /// Callbacks that bring a code.
    Callbacks,
}

/// On whom we wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// Discovery or keys are not there (yet).
    ProviderMetadata(Trouble),
    /// The provider does not answer, or refuses what it has to do for us.
    Provider(Trouble),
    /// Redis does not answer, or not as it should.
    Redis(&'static str),
    /// No randomness, or no signature verification in this host.
    Host,
    /// Our clock and the provider's are too far apart to tell whether its tokens are good.
    Clock,
    /// Envoy does not hand the request's body over (`allow_on_headers_stop_iteration`), or it is very slow.
    Body,
}

/// What is wrong with the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For the log: which endpoint, what it said, in whose words. Without secrets.
    pub detail: Rc<str>,
    /// Whether waiting helps.
    pub outlook: Outlook,
}

/// Whether waiting helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It can pass by itself: who asks again in a while may be served.
    Passing,
    /// Somebody has to change something: at the provider, in Redis, in Envoy or in the gate's configuration.
    Lasting,
}

impl Trouble {
    /// Something that can pass by itself.
    pub fn passing(detail: impl Into<Rc<str>>) -> Self {
        Self { detail: detail.into(), outlook: Outlook::Passing }
    }

    /// Something that an administrator has to put right.
    pub fn lasting(detail: impl Into<Rc<str>>) -> Self {
        Self { detail: detail.into(), outlook: Outlook::Lasting }
    }
}

impl Rejection {
    /// Whether asking again helps; `None` where nobody is away and nothing is wrong with the gate.
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

    /// The stable name, for metrics and logs; a named rule adds to it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.label(),
            Self::NoCredential => "no_credential",
            Self::UnusableAuthorization => "unusable_authorization",
            Self::InvalidToken(_) => "invalid_token",
            Self::SessionEnded(end) => end.label(),
            Self::NotAllowed(_) => "not_allowed",
            Self::CrossSite => "cross_site",
            Self::Speculative => "speculative",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::InvalidLogoutToken(_) => "invalid_logout_token",
            // Nothing was read, and nothing will be done later.
            Self::LogoutFailed(dependency @ Dependency::Body) => dependency.label(),
            Self::LogoutFailed(_) => "logout_failed",
            Self::SignOutIncomplete(_) => "sign_out_incomplete",
            Self::Login(error) => error.label(),
            Self::Unavailable(dependency) => dependency.label(),
            Self::OverLimit(limit) => limit.label(),
        }
    }

    /// What the log adds to the label: precise, and without secrets.
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
            Self::Login(LoginError::UserInfoOfAnother) => Some("sub is not the ID token's".to_owned()),
            Self::Unavailable(dependency) => dependency.detail().map(str::to_owned),
            Self::LogoutFailed(dependency) | Self::SignOutIncomplete(dependency) => {
                let detail = dependency.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
                Some(format!("{}{detail}", dependency.label()))
            }
            Self::NotAllowed(refused) => Some(refused.detail()),
            _ => None,
        }
    }

    /// The rule of the policy that refused.
    pub fn rule(&self) -> Option<&RuleName> {
        match self {
            Self::NotAllowed(refused) => refused.rule.as_ref(),
            Self::NotFound(rule) => rule.as_ref(),
            _ => None,
        }
    }

    /// Every label, so that the metrics exist before the first refusal.
    pub const LABELS: &'static [&'static str] = &[
        "malformed_method",
        "malformed_target",
        "malformed_path",
        "malformed_authority",
        "token_in_query",
        "malformed_parameters",
        "malformed_body",
        "no_credential",
        "unusable_authorization",
        "invalid_token",
        "session_malformed_ticket",
        "session_forged",
        "session_over_limit",
        "session_ambiguous",
        "session_unknown",
        "session_unreadable",
        "session_idle",
        "session_expired",
        "session_signed_out",
        "session_refresh_refused",
        "session_refresh_invalid",
        "invalid_logout_token",
        "logout_failed",
        "sign_out_incomplete",
        "not_allowed",
        "cross_site",
        "speculative",
        "not_found",
        "method_not_allowed",
        "login_missing_state",
        "login_wrong_issuer",
        "login_provider_error",
        "login_code_used",
        "login_code_refused",
        "login_client_refused",
        "login_token_response",
        "login_id_token",
        "login_forged_id_token",
        "login_userinfo",
        "login_too_large",
        "login_loop",
        "login_over_limit",
        "metadata_unavailable",
        "provider_unavailable",
        "misconfigured",
        "clocks_disagree",
        "redis_unavailable",
        "host_unavailable",
        "body_unavailable",
    ];
}

impl Malformed {
    const fn label(self) -> &'static str {
        match self {
            Self::Method => "malformed_method",
            Self::Target => "malformed_target",
            Self::Path => "malformed_path",
            Self::Authority => "malformed_authority",
            Self::TokenInQuery => "token_in_query",
            Self::Parameters => "malformed_parameters",
            Self::Body => "malformed_body",
        }
    }
}

impl SessionEnd {
    const fn label(self) -> &'static str {
        match self {
            Self::MalformedTicket => "session_malformed_ticket",
            Self::Forged => "session_forged",
            Self::Ambiguous => "session_ambiguous",
            Self::Unknown => "session_unknown",
            Self::Unreadable => "session_unreadable",
            Self::Idle => "session_idle",
            Self::Expired => "session_expired",
            Self::SignedOut => "session_signed_out",
            Self::RefreshRefused => "session_refresh_refused",
            Self::RefreshInvalid => "session_refresh_invalid",
        }
    }
}

impl LoginError {
    /// Whether somebody else made the answer that should have been the provider's.
    pub fn is_forgery(&self) -> bool {
        matches!(self, Self::IdToken(error) if error.is_forgery())
    }

    /// Whether asking again helps; `None` for what is about this one login.
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

    fn label(&self) -> &'static str {
        match self {
            Self::MissingState => "login_missing_state",
            Self::WrongIssuer => "login_wrong_issuer",
            Self::Provider { .. } => "login_provider_error",
            Self::CodeUsed => "login_code_used",
            Self::CodeRefused(_) => "login_code_refused",
            Self::ClientRefused(_) => "login_client_refused",
            Self::TokenResponse(_) => "login_token_response",
            Self::IdToken(error) if error.is_forgery() => "login_forged_id_token",
            Self::IdToken(_) => "login_id_token",
            Self::UserInfo(_) | Self::UserInfoOfAnother => "login_userinfo",
            Self::TooLarge(_) => "login_too_large",
            Self::Loop => "login_loop",
        }
    }
}

impl Limit {
    const fn label(self) -> &'static str {
        match self {
            Self::UnknownTickets => "session_over_limit",
            Self::Callbacks => "login_over_limit",
        }
    }
}

impl Dependency {
    /// The stable name, for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ProviderMetadata(trouble) | Self::Provider(trouble)
                if matches!(trouble.outlook, Outlook::Lasting) =>
            {
                "misconfigured"
            }
            Self::ProviderMetadata(_) => "metadata_unavailable",
            Self::Clock => "clocks_disagree",
            Self::Provider(_) => "provider_unavailable",
            Self::Redis(_) => "redis_unavailable",
            Self::Host => "host_unavailable",
            Self::Body => "body_unavailable",
        }
    }

    /// What the log adds to the label.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::ProviderMetadata(trouble) | Self::Provider(trouble) => Some(&trouble.detail),
            Self::Redis(what) => Some(what),
            Self::Host | Self::Clock | Self::Body => None,
        }
    }

    /// Whether waiting helps.
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::ProviderMetadata(trouble) | Self::Provider(trouble) => trouble.outlook,
            // What Redis itself says can change in a moment: a failover, a new password.
            Self::Redis("unknown cluster") => Outlook::Lasting,
            // The clock of another Envoy may be right.
            Self::Clock | Self::Redis(_) | Self::Host | Self::Body => Outlook::Passing,
        }
    }
}

impl Dependency {
    /// What is wrong with Redis; empty when it is something else.
    pub fn redis(&self) -> &'static str {
        match self {
            Self::Redis(what) => what,
            _ => "",
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
