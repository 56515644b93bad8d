//! The validated configuration. What an operator writes is `raw`; [`Config`] is what is left after every field has
//! been checked, so the rest of the core never checks again.
//!
//! [`load`] goes the way: JSON → `tree` (what is there twice) → `environment` (references filled in) → `lenient`
//! (types, unknown fields) → `validate` (meaning). Each step reports to the same place and goes on, so that an operator
//! sees every mistake at once, and each one once.

mod environment;
mod error;
mod leaf;
mod lenient;
mod protobuf_struct;
mod raw;
mod rule_name;
#[cfg(feature = "schema")]
mod schema;
mod setting;
#[cfg(test)]
mod tests;
mod tree;
mod validate;

use std::time::Duration;

use serde::Deserialize;
use url::Url;

pub use self::error::{ConfigError, ConfigErrors};
pub use self::rule_name::{MAX_RULE_REASONS, RuleName};
#[cfg(feature = "schema")]
pub use self::schema::json_schema;
use self::tree::Tree;
use crate::jose::algorithm::Algorithm;
use crate::jose::mark::AccessTokenMark;
use crate::limit::Rate;
use crate::secret::Secret;

/// The longest configuration, in bytes.
pub const MAX_CONFIG_LEN: usize = 1024 * 1024;

/// Reads an operator's configuration: JSON text (Istio, Envoy Gateway, `StringValue`) or a serialised
/// `google.protobuf.Struct` (Envoy). `environment` tells the value of a variable, if it is set.
///
/// # Errors
/// Every mistake at once, each with its path. No message contains a secret.
pub fn load(json: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    if json.len() > MAX_CONFIG_LEN {
        return Err(ConfigErrors::one(format!("is larger than {MAX_CONFIG_LEN} bytes")));
    }
    if json.trim_ascii().is_empty() {
        return Err(ConfigErrors::one("is empty; expected an object".to_owned()));
    }
    let tree: Tree = match serde_json::from_slice(json) {
        Ok(tree) => tree,
        Err(error) => protobuf_struct::decode(json)
            .ok_or_else(|| ConfigErrors::one(format!("is not valid JSON, nor a Struct: {error}")))?,
    };
    let report = error::Report::default();
    let place = report.root();
    let node = environment::expand(tree.into_value(&place), &place, environment);
    let config = raw::Config::deserialize(lenient::Lenient::new(&node, place.clone()))
        .map_err(|_| error::Reported)
        .and_then(|raw| validate::config(raw, &place));
    report.finish(config).map(|(config, warnings)| Config { warnings, ..config })
}

/// The configuration of one plugin instance (one tenant).
#[derive(Clone, Debug)]
pub struct Config {
    /// Where browsers reach the gate: scheme, host and port, nothing else (`https://mlflow.example.com`).
    pub public_url: PublicUrl,
    /// The OpenID provider.
    pub issuer: Issuer,
    /// Who we are at the provider.
    pub client: Client,
    /// Browser login; absent in a bearer-only gate.
    pub browser: Option<BrowserLogin>,
    /// Bearer tokens; absent when they are not accepted.
    pub bearer: Option<Bearer>,
    /// Where group names come from.
    pub groups: Groups,
    /// What the application is told about a request.
    pub identity: Identity,
    /// Who may do what.
    pub policy: Policy,
    /// Clock difference tolerated in `exp`, `nbf`, `iat`; 300 s at most.
    pub clock_leeway: Duration,
    /// How much strangers can have done.
    pub limits: Limits,
    /// What is allowed but should be known to the operator, one line each: log them at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Every signature algorithm that some kind of token may have; the host must be able to check each.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        let login = self.browser.iter().flat_map(|browser| &browser.login.id_token_algorithms);
        let bearer = self.bearer.iter().flat_map(|bearer| &bearer.algorithms);
        Algorithm::ALL.into_iter().filter(move |algorithm| {
            login.clone().chain(bearer.clone()).any(|accepted| accepted == algorithm)
        })
    }
}

/// An origin, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `https://host[:port]`, without a trailing slash.
    pub origin: String,
    /// `host[:port]` as in a Host header.
    pub authority: String,
    /// Whether cookies carry `Secure` and the `__Host-` prefix.
    pub secure_cookies: bool,
}

/// The OpenID provider and how to reach it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The issuer identifier, compared byte for byte with `iss` and the metadata (OIDC Discovery 4.3).
    pub url: String,
    /// `url` parsed: its authority goes into every callout.
    pub parsed: Url,
    /// The Envoy cluster for back-channel calls to the issuer's own origin.
    pub cluster: String,
    /// Other origins of back-channel calls, each with its cluster.
    pub origins: Vec<ServedOrigin>,
    /// Origins besides these to which browsers may be sent.
    pub allowed_origins: Vec<String>,
    /// Limit of one call to the provider.
    pub timeout: Duration,
    /// How long a request waits for the first discovery before it gets 503.
    pub startup_wait: Duration,
    /// How often metadata and keys are fetched anew (before they expire), 30 s to 24 h.
    pub refresh_interval: Duration,
    /// How long the last good keys serve while the provider cannot be reached.
    pub max_stale: Duration,
    /// What marks its access tokens; any one of these, and never empty.
    pub access_token_marks: Vec<AccessTokenMark>,
}

/// An origin of the provider, in the form that `Url::origin` prints, and the Envoy cluster that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedOrigin {
    /// `https://host[:port]`
    pub origin: String,
    /// Its cluster.
    pub cluster: String,
}

/// Our registration at the provider.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`; absent only in a bearer-only gate.
    pub secret: Option<Secret>,
    /// How the client authenticates at the token endpoint (OIDC Core 9).
    pub authentication: ClientAuthentication,
}

/// OIDC Core 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
}

/// How much strangers can have done, in each worker. An operator has nothing to set here, and docs/production.md says
/// what it comes to; a test may want other numbers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Looking in Redis for the session of a ticket without a signature of ours, where none is found.
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
    /// Space-separated scopes, `openid` among them.
    pub scope: String,
    /// Ask UserInfo after the code exchange and merge its claims.
    pub userinfo: bool,
    /// How long a login may take from redirect to callback; 10 min at most.
    pub timeout: Duration,
    /// Signature algorithms accepted for ID tokens.
    pub id_token_algorithms: Vec<Algorithm>,
    /// Audiences besides our client that an ID token or a logout token may name; compared whole.
    pub trusted_audiences: Vec<String>,
    /// Where sign-out may lead besides our own page; compared whole.
    pub logout_return_urls: Vec<String>,
}

/// Browser sessions.
#[derive(Clone, Debug)]
pub struct Session {
    /// Sealing keys, newest first; at least 32 bytes each.
    pub keys: Vec<Secret>,
    /// A session unused for this long ends.
    pub idle_timeout: Duration,
    /// A session ends this long after login, whatever happens.
    pub absolute_timeout: Duration,
    /// How long a worker may answer from its own memory.
    pub cache_ttl: Duration,
    /// How long before its end an access token is refreshed in the background; half of its life at most.
    pub refresh_ahead: Duration,
    /// A session is refreshed at least this often while it is used, whatever its access token says.
    pub check_interval: Option<Duration>,
    /// What becomes of a session when the provider gives no refresh token.
    pub without_refresh_token: WithoutRefreshToken,
    /// Cookie name without the `__Host-` prefix.
    pub cookie_name: String,
    /// Where records are kept.
    pub redis: Redis,
}

/// What becomes of a session when the provider gives no refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutRefreshToken {
    /// It ends with its access token: the provider can't be asked any more.
    End,
    /// It goes on until its timeouts, whatever the provider does.
    Keep,
}

/// The Redis behind an Envoy cluster with a TCP connection pool.
#[derive(Clone, Debug)]
pub struct Redis {
    /// The Envoy cluster.
    pub cluster: String,
    /// Redis Cluster: the Envoy cluster (ORIGINAL_DST by header) that reaches the nodes named in redirections.
    pub nodes: Option<String>,
    /// ACL user; absent for `requirepass`.
    pub username: Option<String>,
    /// Password, when Redis asks for one.
    pub password: Option<Secret>,
    /// Key prefix: the tenant.
    pub prefix: String,
    /// Limit of one call.
    pub timeout: Duration,
}

/// Bearer tokens.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Accepted audiences; never empty.
    pub audiences: Vec<String>,
    /// Accepted signature algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// A token that lives longer than this (exp − iat) is refused.
    pub max_lifetime: Option<Duration>,
    /// The provider is asked about a token at least this often while it is used (RFC 7662).
    pub check_interval: Option<Duration>,
}

/// Where group names come from.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The claim, as a path of member names (`realm_access.roles` is two).
    pub claim: Vec<String>,
    /// What the claim looks like.
    pub format: GroupsFormat,
}

/// What the claim with the groups looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupsFormat {
    /// A list of texts, or one text that is one group.
    #[default]
    List,
    /// One text with spaces between the groups.
    SpaceSeparated,
    /// An object whose keys are the groups.
    ObjectKeys,
}

/// What the application is told about a request.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Whether an email address counts when the provider does not say that it has verified it.
    pub email_verified: EmailVerified,
    /// Names, in lower case, of headers that would be taken out and are passed on.
    pub trusted_headers: Vec<String>,
}

/// Whether an email address counts when the provider does not say that it has verified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailVerified {
    /// It counts unless `email_verified` is false.
    Optional,
    /// It counts only if `email_verified` is true.
    Required,
}

/// Who may do what.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Rules shipped for a known application, checked after `rules`.
    pub preset: Option<Preset>,
    /// Groups of administrators; any one of them suffices. `mlflow_admins` means exactly the top-level group, with or
    /// without one leading slash; `/dept/mlflow_admins` is another group.
    pub admins: Vec<String>,
    /// Groups of users; any one of them suffices. Named as in `admins`.
    pub users: Vec<String>,
    /// Checked in order, first match decides; nothing matched: refused.
    pub rules: Vec<Rule>,
}

/// Rules shipped for a known application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// MLflow 3.
    Mlflow,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called.
    pub name: RuleName,
    /// Which paths (canonical form) it is about.
    pub path: PathMatch,
    /// Which methods; empty means all.
    pub methods: Vec<String>,
    /// What it says of them.
    pub access: Access,
}

/// How a rule selects paths; always on the canonical form, never on query or fragment.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// This very path.
    Exact(String),
    /// This path and whatever lies below it, at a segment border: `/api` matches `/api` and `/api/x`, not `/apix`.
    Prefix(String),
    /// The whole path: compiled with anchors at both ends, so `is_match` decides; linear time.
    Regex(regex_lite::Regex),
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without signing in.
    Public,
    /// Whoever is signed in.
    SignedIn,
    /// Members of one of `policy.admins`.
    Admins,
    /// Members of one of `policy.users` or `policy.admins`.
    Users,
    /// Members of one of these groups.
    Groups(Vec<String>),
    /// Nobody; 403.
    Deny,
    /// Nobody; 404, as if it did not exist.
    NotFound,
}

impl Access {
    /// The reason of a refusal by a rule that says this; `None` when it refuses nobody who is signed in.
    pub const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Public | Self::SignedIn => None,
            Self::Admins | Self::Users | Self::Groups(_) | Self::Deny => Some("not_allowed"),
            Self::NotFound => Some("not_found"),
        }
    }
}

impl Policy {
    /// The reasons that rules with a name give to refusals, each once, in the order of the rules.
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
