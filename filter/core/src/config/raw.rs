//! The configuration as an operator writes it. The JSON Schema is generated from these types, and editors show the
//! comments of the fields. Fields without `default` are required.

use serde::Deserialize;

use super::scalar::{ClaimPath, Flag, List, SecretText, Span, Text};
use super::setting::Setting;

/// Configuration of oidc-gate, an OpenID Connect gate inside Envoy.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", schemars(title = "oidc-gate"))]
pub(super) struct Config {
    /// The origin at which browsers reach the gate: scheme, host and port only.
    pub public_url: Setting<Text>,
    /// Accept plain http for hosts other than loopback. Cookies and tokens can then be read in transit.
    #[serde(default)]
    pub allow_insecure_http: Setting<Flag>,
    /// The OpenID provider.
    pub issuer: Setting<Issuer>,
    /// The gate's registration at the provider.
    pub client: Setting<Client>,
    /// Browser login. Leave it out for a gate that accepts only bearer tokens.
    #[serde(default)]
    pub login: Setting<Login>,
    /// Browser sessions. Required with `login`.
    #[serde(default)]
    pub session: Setting<Session>,
    /// Bearer tokens. Leave it out to accept none.
    #[serde(default)]
    pub bearer: Setting<Bearer>,
    /// Where groups are read from.
    #[serde(default)]
    pub groups: Setting<Groups>,
    /// Which identity headers the application gets.
    #[serde(default)]
    pub identity: Setting<Identity>,
    /// Who may access what.
    pub policy: Setting<Policy>,
    /// Clock difference that is tolerated in the times of a token.
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
    /// Further origins to which browsers may be redirected.
    #[serde(default)]
    pub allowed_origins: Setting<List<Text>>,
    /// Time limit of one call to the provider.
    #[serde(default)]
    pub timeout: Setting<Span>,
    /// How long a request waits for the provider's metadata after a start before it gets 503.
    #[serde(default)]
    pub startup_wait: Setting<Span>,
    /// How often metadata and keys are fetched.
    #[serde(default)]
    pub refresh_interval: Setting<Span>,
    /// How long the last good keys are used while the provider is unreachable.
    #[serde(default)]
    pub max_stale: Setting<Span>,
    /// What marks an access token. A token needs any one of these marks.
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
    /// The Envoy cluster that serves this origin.
    pub cluster: Setting<Text>,
}

/// What marks an access token.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum AccessTokenMark {
    /// The header's `typ: at+jwt`, which RFC 9068 requires.
    Rfc9068,
    /// The claim `typ: Bearer`, which Keycloak sets.
    Keycloak,
    /// Claims that distinguish the provider's access tokens from its other tokens.
    Claims(ClaimRule),
}

/// Claims that distinguish access tokens from other tokens.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct ClaimRule {
    /// Claims that must be present. At least one of them must be a claim that ID tokens do not have.
    pub present: Setting<Vec<Setting<RequiredClaim>>>,
    /// Claims that must be absent. `nonce`, `at_hash`, `c_hash`, `s_hash` and `events` are never allowed.
    #[serde(default)]
    pub absent: Setting<Vec<Setting<ClaimPath>>>,
}

/// A claim that must be present.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RequiredClaim {
    /// Its name: text whose dots lead into nested claims, or a list of names that are used unchanged.
    pub claim: Setting<ClaimPath>,
    /// The accepted values. The claim must be one of them, or a list that contains one. If left out, any value will do.
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
    /// The client secret. Required for login.
    #[serde(default)]
    pub secret: Setting<SecretText>,
    /// How the client authenticates at the token endpoint.
    #[serde(default)]
    pub authentication: Setting<ClientAuthentication>,
}

/// How the client authenticates at the token endpoint (OpenID Connect Core 9).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
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
    /// Scopes to request, separated by spaces. `openid` must be among them.
    #[serde(default)]
    pub scope: Setting<Text>,
    /// Call the UserInfo endpoint after login and merge its claims.
    #[serde(default)]
    pub userinfo: Setting<Flag>,
    /// How long a login may take.
    #[serde(default)]
    pub timeout: Setting<Span>,
    /// Signature algorithms accepted for ID tokens.
    #[serde(default)]
    pub id_token_algorithms: Setting<List<Text>>,
    /// Audiences that ID tokens and logout tokens may name besides the client.
    #[serde(default)]
    pub trusted_audiences: Setting<List<Text>>,
    /// URLs to which a sign-out may lead, besides the gate's own page. Compared exactly.
    #[serde(default)]
    pub logout_return_urls: Setting<List<Text>>,
    /// Keep the fragment of the address (`#…`) over a login, by a small page with a script.
    #[serde(default)]
    pub keep_fragment: Setting<Flag>,
}

/// Browser sessions.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Session {
    /// Keys that encrypt cookies and session records, newest first. Each has at least 32 random bytes.
    pub keys: Setting<List<SecretText>>,
    /// How long a session may stay unused.
    #[serde(default)]
    pub idle_timeout: Setting<Span>,
    /// How long a session may last after login, whether it is used or not.
    #[serde(default)]
    pub absolute_timeout: Setting<Span>,
    /// How long a worker answers from its own memory before it asks Redis again.
    #[serde(default)]
    pub cache_ttl: Setting<Span>,
    /// How long before its expiry an access token is refreshed in the background. At most half of its lifetime.
    #[serde(default)]
    pub refresh_ahead: Setting<Span>,
    /// Refresh a session in use at least this often, however long its access token lives.
    #[serde(default)]
    pub check_interval: Setting<Span>,
    /// What happens to a session if the provider sends no refresh token.
    #[serde(default)]
    pub without_refresh_token: Setting<WithoutRefreshToken>,
    /// Name of the session cookie, without the `__Host-` that the gate adds over https.
    #[serde(default)]
    pub cookie_name: Setting<Text>,
    /// Where session records are stored.
    pub redis: Setting<Redis>,
}

/// What happens to a session if the provider sends no refresh token.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WithoutRefreshToken {
    /// It ends with its access token.
    End,
    /// It continues until its timeouts, whatever happens at the provider.
    Keep,
}

/// The Redis that stores session records.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Redis {
    /// The Envoy cluster, with the TCP connection pool.
    pub cluster: Setting<Text>,
    /// For Redis Cluster: the Envoy cluster of type ORIGINAL_DST that reaches the nodes in redirections.
    #[serde(default)]
    pub nodes: Setting<Text>,
    /// ACL user. Leave it out if Redis has only a password.
    #[serde(default)]
    pub username: Setting<Text>,
    /// Password.
    #[serde(default)]
    pub password: Setting<SecretText>,
    /// The prefix of all keys. Gates that share a Redis need different prefixes.
    #[serde(default)]
    pub prefix: Setting<Text>,
    /// Time limit of one call.
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
    /// Longest accepted lifetime of a token (`exp` − `iat`). Unlimited if left out.
    #[serde(default)]
    pub max_lifetime: Setting<Span>,
    /// Introspect a token in use at least this often.
    #[serde(default)]
    pub check_interval: Setting<Span>,
    /// Also accept a token as the password of Basic authentication, with any user name.
    #[serde(default)]
    pub basic: Setting<Flag>,
}

/// Where groups are read from.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Groups {
    /// The claim with the groups: text whose dots lead into nested claims (`realm_access.roles`), or a list of names
    /// that are used unchanged (`[resource_access, my.app, roles]`).
    #[serde(default)]
    pub claim: Setting<ClaimPath>,
    /// The form of the claim.
    #[serde(default)]
    pub format: Setting<GroupsFormat>,
}

/// The form of the claim with the groups.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GroupsFormat {
    /// A list of strings. A single string is one group, whatever it contains.
    #[default]
    List,
    /// One string with spaces between the groups.
    SpaceSeparated,
    /// An object whose keys are the groups. A key whose value is false or null is not a group.
    ObjectKeys,
}

/// Which identity headers the application gets.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Identity {
    /// Whether an email address is used if the provider does not say that it is verified.
    #[serde(default)]
    pub email_verified: Setting<EmailVerified>,
    /// Headers that are forwarded unchanged, because Envoy or a proxy in front of it always sets them itself.
    #[serde(default)]
    pub trusted_headers: Setting<List<Text>>,
    /// A signed statement about the user, which the application can verify. Leave it out to send none.
    #[serde(default)]
    pub assertion: Setting<Assertion>,
}

/// A signed statement to the application about the user of a request.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Assertion {
    /// The keys that the application knows, each with at least 32 random bytes. The first one signs.
    pub keys: Setting<List<SecretText>>,
    /// The application, `aud`.
    pub audience: Setting<Text>,
    /// The gate, `iss`.
    #[serde(default)]
    pub issuer: Setting<Text>,
    /// The header, whose value is `Bearer` and the assertion. With the preset `mlflow` it is X-MLflow-Authorization.
    #[serde(default)]
    pub header: Setting<Text>,
}

/// Whether an email address is used if the provider does not say that it is verified.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EmailVerified {
    /// It is used unless `email_verified` is false.
    Optional,
    /// It is used only if `email_verified` is true.
    Required,
}

/// Who may access what. Requests that no rule allows are refused.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Policy {
    /// Built-in rules for a known application. They are checked after `rules`.
    #[serde(default)]
    pub preset: Setting<Preset>,
    /// The `--static-prefix` of MLflow, for the preset `mlflow`.
    #[serde(default)]
    pub static_prefix: Setting<Text>,
    /// Groups of administrators. `mlflow_admins` is exactly the top-level group, with or without a leading slash.
    #[serde(default)]
    pub admins: Setting<List<Text>>,
    /// Groups of users. `mlflow_users` is exactly the top-level group, with or without a leading slash.
    #[serde(default)]
    pub users: Setting<List<Text>>,
    /// Groups of users who may only read.
    #[serde(default)]
    pub viewers: Setting<List<Text>>,
    /// Checked in order. The first match decides.
    #[serde(default)]
    pub rules: Setting<Vec<Setting<Rule>>>,
}

/// Built-in rules for a known application.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// MLflow 3.
    Mlflow,
}

/// One rule: who may access some paths.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Rule {
    /// The name in the log, in the metric's reason and in the refusal.
    #[serde(default)]
    pub name: Setting<Text>,
    /// The paths.
    pub path: Setting<PathMatch>,
    /// The methods; all if left out. GET includes HEAD.
    #[serde(default)]
    pub methods: Setting<List<Text>>,
    /// Who has access.
    pub access: Setting<Access>,
}

/// The paths of a rule, compared with the decoded path without the query.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum PathMatch {
    /// Exactly this path.
    Exact(Text),
    /// This path and all paths below it, by whole segments: `/api` matches `/api` and `/api/x`, but not `/apix`.
    Prefix(Text),
    /// A regular expression that must match the whole path.
    Regex(Text),
}

/// Who has access.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum Access {
    /// Everyone, without signing in.
    Public,
    /// Everyone who is signed in.
    SignedIn,
    /// Members of a group in `policy.admins`.
    Admins,
    /// Members of a group in `policy.users` or `policy.admins`.
    Users,
    /// Members of a group in `policy.viewers`, `policy.users` or `policy.admins`.
    Viewers,
    /// No one; the reply is 403.
    Deny,
    /// No one; the reply is 404, as if the path did not exist.
    NotFound,
    /// Members of one of these groups.
    Groups(List<Text>),
}
