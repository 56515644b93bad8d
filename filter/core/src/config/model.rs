//! The validated configuration: what is left after every field has been checked.

use std::time::Duration;

use url::Url;
use vec1::Vec1;

pub use super::raw::{ClientAuthentication, EmailVerified, GroupsFormat, Preset, WithoutRefreshToken};
use super::rule_name::{MAX_RULE_REASONS, RuleName};
use crate::jose::algorithm::Algorithm;
use crate::jose::mark::AccessTokenMark;
use crate::limit::Rate;
use crate::methods::Method;
use crate::secret::Secret;

/// The configuration of one plugin instance (one tenant).
#[derive(Clone, Debug)]
pub struct Config {
    /// The origin at which browsers reach the gate: scheme, host and port only (`https://mlflow.example.com`).
    pub public_url: PublicUrl,
    /// The OpenID provider.
    pub issuer: Issuer,
    /// The gate's registration at the provider.
    pub client: Client,
    /// Browser login; absent in a bearer-only gate.
    pub browser: Option<BrowserLogin>,
    /// Bearer tokens; absent when they are not accepted.
    pub bearer: Option<Bearer>,
    /// Where groups are read from.
    pub groups: Groups,
    /// Which identity headers the application gets.
    pub identity: Identity,
    /// Who may access what.
    pub policy: Policy,
    /// Clock difference that is tolerated in `exp`, `nbf`, `iat`. At most 300 s.
    pub clock_leeway: Duration,
    /// Limits on the work that unauthenticated clients can cause.
    pub limits: Limits,
    /// Warnings for the operator about allowed settings, one line each. Logged at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// All signature algorithms that tokens may have. The host must support each.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        let login = self.browser.iter().flat_map(|browser| &browser.login.id_token_algorithms);
        let bearer = self.bearer.iter().flat_map(|bearer| &bearer.algorithms);
        Algorithm::ALL.into_iter().filter(move |algorithm| {
            login.clone().chain(bearer.clone()).any(|accepted| accepted == algorithm)
        })
    }
}

/// The gate's origin, with values derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `https://host[:port]`, without a trailing slash.
    pub origin: String,
    /// `host[:port]`, as in a Host header.
    pub authority: String,
    /// Whether cookies have `Secure` and the `__Host-` prefix.
    pub secure_cookies: bool,
}

/// The OpenID provider, and how to reach it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The issuer identifier. It is compared byte for byte with `iss` and the metadata (OIDC Discovery 4.3).
    pub url: String,
    /// The parsed `url`. Its authority is sent with every callout.
    pub parsed: Url,
    /// The Envoy cluster for back-channel calls to the issuer's own origin.
    pub cluster: String,
    /// Other origins for back-channel calls, each with its cluster.
    pub origins: Vec<ServedOrigin>,
    /// Further origins to which browsers may be redirected.
    pub allowed_origins: Vec<String>,
    /// Time limit of one call to the provider.
    pub timeout: Duration,
    /// How long a request waits for the first metadata before it gets 503.
    pub startup_wait: Duration,
    /// How often metadata and keys are fetched before they expire: 30 s to 24 h.
    pub refresh_interval: Duration,
    /// How long the last good keys are used while the provider is unreachable.
    pub max_stale: Duration,
    /// The marks of access tokens. A token needs any one of them.
    pub access_token_marks: Vec1<AccessTokenMark>,
}

/// An origin of the provider, as `Url::origin` prints it, with the Envoy cluster that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedOrigin {
    /// `https://host[:port]`
    pub origin: String,
    /// The Envoy cluster.
    pub cluster: String,
}

/// The gate's registration at the provider.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`. Absent only in a bearer-only gate.
    pub secret: Option<Secret>,
    /// How the client authenticates at the token endpoint (OIDC Core 9).
    pub authentication: ClientAuthentication,
}

/// Limits on the work that unauthenticated clients can cause, for each worker. They are not configurable;
/// docs/production.md explains what they mean. Tests may use other numbers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Look-ups in Redis for tickets that the gate did not sign and that have no session.
    pub unknown_tickets: Rate,
    /// Callbacks with a code that the provider does not know.
    pub callbacks: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unknown_tickets: Rate { burst: 400, per_second: 8 },
            callbacks: Rate { burst: 160, per_second: 8 },
        }
    }
}

/// Browser login, and the sessions that it leads to: one is of no use without the other.
#[derive(Clone, Debug)]
pub struct BrowserLogin {
    /// How people sign in.
    pub login: Login,
    /// How long they stay signed in.
    pub session: Session,
}

/// How people sign in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Space-separated scopes, including `openid`.
    pub scope: String,
    /// Whether UserInfo is requested after the code exchange and its claims are merged.
    pub userinfo: bool,
    /// Longest time from redirect to callback. At most 10 min.
    pub timeout: Duration,
    /// Signature algorithms accepted for ID tokens.
    pub id_token_algorithms: Vec1<Algorithm>,
    /// Audiences that ID tokens and logout tokens may name besides our client. Compared exactly.
    pub trusted_audiences: Vec<String>,
    /// URLs to which a sign-out may lead, besides the gate's own page. Compared exactly.
    pub logout_return_urls: Vec<String>,
    /// Whether a page with a script keeps the fragment of the address over a login.
    pub keep_fragment: bool,
}

/// Browser sessions.
#[derive(Clone, Debug)]
pub struct Session {
    /// Sealing keys, newest first. Each has at least 32 bytes.
    pub keys: Vec1<Secret>,
    /// How long a session may stay unused.
    pub idle_timeout: Duration,
    /// How long a session may last after login, whether it is used or not.
    pub absolute_timeout: Duration,
    /// How long a worker may answer from its own memory.
    pub cache_ttl: Duration,
    /// How long before its expiry an access token is refreshed in the background. At most half of its lifetime.
    pub refresh_ahead: Duration,
    /// Longest time between two refreshes of a session in use, however long its access token lives.
    pub check_interval: Option<Duration>,
    /// What happens to a session if the provider sends no refresh token.
    pub without_refresh_token: WithoutRefreshToken,
    /// Cookie name without the `__Host-` prefix.
    pub cookie_name: String,
    /// Where session records are stored.
    pub redis: Redis,
}

/// The Redis behind an Envoy cluster with a TCP connection pool.
#[derive(Clone, Debug)]
pub struct Redis {
    /// The Envoy cluster.
    pub cluster: String,
    /// For Redis Cluster: the Envoy cluster (ORIGINAL_DST by header) that reaches the nodes in redirections.
    pub nodes: Option<String>,
    /// ACL user. Absent with `requirepass`.
    pub username: Option<String>,
    /// The password, if Redis requires one.
    pub password: Option<Secret>,
    /// The prefix of all keys, different for each tenant.
    pub prefix: String,
    /// Time limit of one call.
    pub timeout: Duration,
}

/// Bearer tokens.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Accepted audiences.
    pub audiences: Vec1<String>,
    /// Accepted signature algorithms.
    pub algorithms: Vec1<Algorithm>,
    /// Longest accepted lifetime of a token (`exp` − `iat`).
    pub max_lifetime: Option<Duration>,
    /// Longest time between two introspections of a token in use (RFC 7662).
    pub check_interval: Option<Duration>,
    /// Whether a token is also accepted as the password of Basic authentication (RFC 7617).
    pub basic: bool,
}

/// Where groups are read from.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The claim, as a path of member names (`realm_access.roles` has two).
    pub claim: Vec<String>,
    /// The form of the claim.
    pub format: GroupsFormat,
}

/// Which identity headers the application gets.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Whether an email address is used if the provider does not say that it is verified.
    pub email_verified: EmailVerified,
    /// Headers, in lower case, that are forwarded although the gate would otherwise remove them.
    pub trusted_headers: Vec<String>,
    /// The signed statement about the user, if one is sent.
    pub assertion: Option<Assertion>,
}

/// A signed statement to the application about the user of a request.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// The first one signs.
    pub keys: Vec1<Secret>,
    /// `aud`.
    pub audience: String,
    /// `iss`.
    pub issuer: String,
    /// The header's name in lower case.
    pub header: String,
}

/// Who may access what.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rules for a known application. They are checked after `rules`.
    pub preset: Option<Preset>,
    /// The `--static-prefix` of MLflow. Empty if it has none.
    pub static_prefix: String,
    /// Groups of administrators; membership in one is enough. `mlflow_admins` means exactly the top-level group, with
    /// or without a leading slash; `/dept/mlflow_admins` is another group.
    pub admins: Vec<String>,
    /// Groups of users; membership in one is enough. Same form as `admins`.
    pub users: Vec<String>,
    /// Groups of users who may only read; membership in one is enough. Same form as `admins`.
    pub viewers: Vec<String>,
    /// Checked in order. The first match decides. Without a match the request is refused.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name of the rule.
    pub name: RuleName,
    /// The paths, in canonical form.
    pub path: PathMatch,
    /// The methods. Empty means all.
    pub methods: Vec<Method>,
    /// Who has access.
    pub access: Access,
}

/// Selects paths. It is applied to the canonical form, never to query or fragment.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(String),
    /// This path and all paths below it, by whole segments: `/api` matches `/api` and `/api/x`, but not `/apix`.
    Prefix(String),
    /// A pattern for the whole path. It is compiled with anchors at both ends, so `is_match` is enough. It runs in
    /// linear time.
    Regex(regex_lite::Regex),
}

/// Who has access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone, without signing in.
    Public,
    /// Everyone who is signed in.
    SignedIn,
    /// Members of one of `policy.admins`.
    Admins,
    /// Members of one of `policy.users` or `policy.admins`.
    Users,
    /// Members of one of `policy.viewers`, `policy.users` or `policy.admins`.
    Viewers,
    /// Members of one of these groups.
    Groups(Vec<String>),
    /// No one; the reply is 403.
    Deny,
    /// No one; the reply is 404, as if the path did not exist.
    NotFound,
}

impl Access {
    /// The reason label of a refusal by this access. `None` if it never refuses a signed-in client.
    pub const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Public | Self::SignedIn => None,
            Self::Admins | Self::Users | Self::Viewers | Self::Groups(_) | Self::Deny => Some("not_allowed"),
            Self::NotFound => Some("not_found"),
        }
    }
}

impl Policy {
    /// The reason labels that named rules give to refusals, without duplicates, in the order of the rules.
    pub fn rule_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for rule in &self.rules {
            let reason = rule.access.refusal().and_then(|refusal| rule.name.reason(refusal));
            reasons.extend(reason.filter(|reason| !reasons.contains(reason)));
            if reasons.len() > MAX_RULE_REASONS {
                break;
            }
        }
        reasons
    }
}
