//! The configuration as an operator writes it. The JSON Schema comes from these types, so what stands above a field
//! here is what an editor shows. Fields without `default` are required.

use serde::Deserialize;

use super::leaf::{ClaimPath, Flag, List, SecretText, Span, Text};
use super::setting::Setting;

/// Configuration of oidc-gate, an OpenID Connect gate inside Envoy.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", schemars(title = "oidc-gate"))]
pub(super) struct Config {
    /// Where browsers reach the gate: scheme, host and port, nothing else.
    pub public_url: Setting<Text>,
    /// Accept plain http for hosts that are not loopback. Cookies and tokens can then be read on the way.
    #[serde(default)]
    pub allow_insecure_http: Setting<Flag>,
    /// The OpenID provider.
    pub issuer: Setting<Issuer>,
    /// The gate's registration at the provider.
    pub client: Setting<Client>,
    /// Browser login; leave it out for a gate that accepts bearer tokens only.
    #[serde(default)]
    pub login: Setting<Login>,
    /// Browser sessions; goes with `login`.
    #[serde(default)]
    pub session: Setting<Session>,
    /// Bearer tokens; leave it out to accept none.
    #[serde(default)]
    pub bearer: Setting<Bearer>,
    /// Where group names come from.
    #[serde(default)]
    pub groups: Setting<Groups>,
    /// What the application is told about a request.
    #[serde(default)]
    pub identity: Setting<Identity>,
    /// Who may do what.
    pub policy: Setting<Policy>,
    /// Clock difference tolerated when a token's times are checked.
    #[serde(default)]
    pub clock_leeway: Setting<Span>,
}

/// The OpenID provider and how Envoy reaches it.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Issuer {
    /// The issuer identifier, exactly as the provider writes it in its metadata and tokens.
    pub url: Setting<Text>,
    /// The Envoy cluster for calls to the provider at the issuer's own origin.
    pub cluster: Setting<Text>,
    /// Other origins at which the gate calls endpoints of the provider, each with its cluster.
    #[serde(default)]
    pub origins: Setting<Vec<Setting<ServedOrigin>>>,
    /// Origins, besides these, to which browsers may be sent.
    #[serde(default)]
    pub allowed_origins: Setting<List<Text>>,
    /// Limit of one call to the provider.
    #[serde(default)]
    pub timeout: Setting<Span>,
    /// How long a request waits for the provider's metadata after a start before it is answered with 503.
    #[serde(default)]
    pub startup_wait: Setting<Span>,
    /// How often metadata and keys are fetched anew.
    #[serde(default)]
    pub refresh_interval: Setting<Span>,
    /// How long the last good keys serve while the provider cannot be reached.
    #[serde(default)]
    pub max_stale: Setting<Span>,
    /// What marks a token as an access token; any one of these suffices.
    #[serde(default)]
    pub access_token_marks: Setting<Vec<Setting<AccessTokenMark>>>,
}

/// An origin of the provider, and the Envoy cluster that serves it.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct ServedOrigin {
    /// Scheme, host and port.
    pub origin: Setting<Text>,
    /// The Envoy cluster whose hosts are this origin.
    pub cluster: Setting<Text>,
}

/// What marks a token as an access token.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum AccessTokenMark {
    /// The header's `typ: at+jwt`, which RFC 9068 demands.
    Rfc9068,
    /// The claim `typ: Bearer`, which Keycloak writes.
    Keycloak,
    /// Claims that tell the provider's access tokens from its other tokens.
    Claims(ClaimRule),
}

/// Claims that tell access tokens from other tokens.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct ClaimRule {
    /// Claims that must be there; one of them at least has to be one that ID tokens do not have.
    pub present: Setting<Vec<Setting<RequiredClaim>>>,
    /// Claims that must not be there. `nonce`, `at_hash`, `c_hash`, `s_hash` and `events` never may.
    #[serde(default)]
    pub absent: Setting<Vec<Setting<ClaimPath>>>,
}

/// A claim that must be there.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RequiredClaim {
    /// Its name: text in which dots lead into nested claims, or a list of names that are taken whole.
    pub claim: Setting<ClaimPath>,
    /// It must be one of these, or a list that has one of them; whatever it is when left out.
    #[serde(default)]
    pub values: Setting<List<Text>>,
}

/// The gate's registration at the provider.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Client {
    /// The client identifier.
    pub id: Setting<Text>,
    /// The client secret; needed for login.
    #[serde(default)]
    pub secret: Setting<SecretText>,
    /// How the client authenticates at the token endpoint.
    #[serde(default)]
    pub authentication: Setting<ClientAuthentication>,
}

/// How the client authenticates at the token endpoint (OpenID Connect Core 9).
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientAuthentication {
    /// In the Authorization header.
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

/// Browser login.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Login {
    /// Scopes to ask for, separated by spaces; `openid` among them.
    #[serde(default)]
    pub scope: Setting<Text>,
    /// Ask the UserInfo endpoint after login and merge its claims.
    #[serde(default)]
    pub userinfo: Setting<Flag>,
    /// How long a login may take.
    #[serde(default)]
    pub timeout: Setting<Span>,
    /// Signature algorithms accepted for ID tokens.
    #[serde(default)]
    pub id_token_algorithms: Setting<List<Text>>,
    /// Audiences, besides the client, that ID tokens and logout tokens may name.
    #[serde(default)]
    pub trusted_audiences: Setting<List<Text>>,
    /// URLs that sign-out may lead to, besides the gate's own page; compared whole.
    #[serde(default)]
    pub logout_return_urls: Setting<List<Text>>,
}

/// Browser sessions.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Session {
    /// Keys that seal cookies and session records, newest first; at least 32 random bytes each.
    pub keys: Setting<List<SecretText>>,
    /// A session that is not used for this long ends.
    #[serde(default)]
    pub idle_timeout: Setting<Span>,
    /// A session ends this long after login, used or not.
    #[serde(default)]
    pub absolute_timeout: Setting<Span>,
    /// How long a worker answers from its own memory before it asks Redis again.
    #[serde(default)]
    pub cache_ttl: Setting<Span>,
    /// How long before its end an access token is refreshed in the background; half of its life at most.
    #[serde(default)]
    pub refresh_ahead: Setting<Span>,
    /// Refresh a session that is used at least this often, however long its access token lives.
    #[serde(default)]
    pub check_interval: Setting<Span>,
    /// What becomes of a session when the provider gives no refresh token.
    #[serde(default)]
    pub without_refresh_token: Setting<WithoutRefreshToken>,
    /// Name of the session cookie, without the `__Host-` that the gate adds over https.
    #[serde(default)]
    pub cookie_name: Setting<Text>,
    /// Where session records are kept.
    pub redis: Setting<Redis>,
}

/// What becomes of a session when the provider gives no refresh token.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum WithoutRefreshToken {
    /// It ends with its access token.
    End,
    /// It goes on until its timeouts, whatever happens at the provider.
    Keep,
}

/// The Redis that keeps session records.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Redis {
    /// The Envoy cluster, with the TCP connection pool.
    pub cluster: Setting<Text>,
    /// For Redis Cluster: the Envoy cluster of type ORIGINAL_DST that reaches the nodes which redirections name.
    #[serde(default)]
    pub nodes: Setting<Text>,
    /// ACL user; leave it out where Redis has a password only.
    #[serde(default)]
    pub username: Setting<Text>,
    /// Password.
    #[serde(default)]
    pub password: Setting<SecretText>,
    /// What all keys begin with; gates that share a Redis have different ones.
    #[serde(default)]
    pub prefix: Setting<Text>,
    /// Limit of one call.
    #[serde(default)]
    pub timeout: Setting<Span>,
}

/// Bearer tokens.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Bearer {
    /// A token must name one of these in `aud`.
    pub audiences: Setting<List<Text>>,
    /// Signature algorithms accepted for access tokens.
    #[serde(default)]
    pub algorithms: Setting<List<Text>>,
    /// A token that was issued for longer than this is refused; no limit when left out.
    #[serde(default)]
    pub max_lifetime: Setting<Span>,
    /// Ask the provider about a token that is used at least this often (introspection).
    #[serde(default)]
    pub check_interval: Setting<Span>,
}

/// Where group names come from.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Groups {
    /// The claim with the groups: text in which dots lead into nested claims (`realm_access.roles`), or a list of names
    /// that are taken whole (`[resource_access, my.app, roles]`).
    #[serde(default)]
    pub claim: Setting<ClaimPath>,
    /// What the claim looks like.
    #[serde(default)]
    pub format: Setting<GroupsFormat>,
}

/// What the claim with the groups looks like.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum GroupsFormat {
    /// A list of texts; one text alone is one group, whatever is in it.
    List,
    /// One text with spaces between the groups.
    SpaceSeparated,
    /// An object whose keys are the groups; a key whose value is false or null is none.
    ObjectKeys,
}

/// What the application is told about a request.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Identity {
    /// Whether an email address counts when the provider does not say that it has verified it.
    #[serde(default)]
    pub email_verified: Setting<EmailVerified>,
    /// Headers that are passed on as they come, because Envoy or a proxy in front sets them whatever a client sends.
    #[serde(default)]
    pub trusted_headers: Setting<List<Text>>,
}

/// Whether an email address counts when the provider does not say that it has verified it.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum EmailVerified {
    /// It counts unless `email_verified` is false.
    Optional,
    /// It counts only if `email_verified` is true.
    Required,
}

/// Who may do what. What no rule allows is refused.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Policy {
    /// Rules shipped for a known application; they come after `rules`.
    #[serde(default)]
    pub preset: Setting<Preset>,
    /// Groups of administrators. `mlflow_admins` is exactly the top-level group, with or without a leading slash.
    #[serde(default)]
    pub admins: Setting<List<Text>>,
    /// Groups of users. `mlflow_users` is exactly the top-level group, with or without a leading slash.
    #[serde(default)]
    pub users: Setting<List<Text>>,
    /// Checked in order; the first that matches decides.
    #[serde(default)]
    pub rules: Setting<Vec<Setting<Rule>>>,
}

/// Rules shipped for a known application.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum Preset {
    /// MLflow 3.
    Mlflow,
}

/// What one rule says of some paths.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Rule {
    /// What the log, the metric's reason and the denial call it.
    #[serde(default)]
    pub name: Setting<Text>,
    /// Which paths it is about.
    pub path: Setting<PathMatch>,
    /// Which methods it is about; all when left out. GET includes HEAD.
    #[serde(default)]
    pub methods: Setting<List<Text>>,
    /// Who may pass.
    pub access: Setting<Access>,
}

/// Which paths a rule is about: decoded, without query.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum PathMatch {
    /// This very path.
    Exact(Text),
    /// This path and all below it, at a segment border: `/api` is about `/api` and `/api/x`, not `/apix`.
    Prefix(Text),
    /// A regular expression that the whole path has to match.
    Regex(Text),
}

/// Who may pass.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum Access {
    /// Anyone, without signing in.
    Public,
    /// Whoever is signed in.
    SignedIn,
    /// Members of a group in `policy.admins`.
    Admins,
    /// Members of a group in `policy.users` or `policy.admins`.
    Users,
    /// Nobody; 403.
    Deny,
    /// Nobody; 404, as if it did not exist.
    NotFound,
    /// Members of one of these groups.
    Groups(List<Text>),
}
