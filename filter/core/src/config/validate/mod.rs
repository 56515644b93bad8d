//! Validates the configuration as written. The checks that involve two fields are in this file.
//!
//! Each check returns a value or [`Reported`]. All fields of a section are checked before the first `?`, so that no
//! error hides another. Checks that depend on a refused field are skipped.

pub(super) mod access_token;
mod algorithm;
pub(super) mod bearer;
mod client;
mod entries;
pub(super) mod groups;
pub(super) mod identity;
mod issuer;
pub(super) mod login;
mod path;
mod policy;
mod secret_key;
pub(super) mod session;
mod text;
pub(super) mod timing;
mod url;

use self::timing::limits;
use self::url::Transport;
use super::error::{Place, Reported};
use super::field::field;
use super::model::{BrowserLogin, Config, Identity, Limits, Session};
use super::raw;
use super::scalar::{Flag, Text};
use super::setting::Setting;

/// Checks the whole configuration. `place` is its root.
pub(super) fn config(raw: raw::Config, place: &Place<'_>) -> Result<Config, Reported> {
    // If the flag itself is refused, no error is reported that depends on it.
    let insecure = raw.allow_insecure_http.or_else(|| Ok(Flag(false)));
    let transport = Transport { allow_insecure: insecure.as_ref().map_or(true, |flag| flag.0) };

    // Checks across sections come first: a refused field makes its whole section unavailable later.
    let signs_in = signs_in(&raw.login, &raw.session, &raw.bearer, place);
    let clusters_differ = clusters_differ(&raw.issuer, &raw.session, place);

    let public_url =
        field!(raw.public_url, place).text().required(|url, at| url::public_url(&url, at, transport));
    let issuer = field!(raw.issuer, place);
    let issuer_place = issuer.place.clone();
    let issuer = issuer.required(|raw, at| issuer::issuer(raw, at, transport));

    let asks_about_tokens = raw.bearer.given().is_some_and(|bearer| !bearer.check_interval.is_absent());
    let authenticates = asks_about_tokens || !raw.login.is_absent();
    let secret = if authenticates { client::Secret::Required } else { client::Secret::Optional };
    let client = field!(raw.client, place).required(|raw, at| client::client(raw, secret, at));
    let login = field!(raw.login, place).optional(|raw, at| login::login(raw, at, transport));
    let session = field!(raw.session, place).optional(session::session);
    let bearer = field!(raw.bearer, place).optional(bearer::bearer);
    let groups = field!(raw.groups, place).optional(groups::groups);
    let preset = raw.policy.given().and_then(|policy| policy.preset.given().copied());
    let identity = field!(raw.identity, place).optional(|raw, at| identity::identity(raw, preset, at));
    let policy = field!(raw.policy, place).required(policy::policy);
    let clock_leeway = limits::CLOCK_LEEWAY.read(field!(raw.clock_leeway, place));

    let keys_differ = match (&session, &identity) {
        (Ok(Some(session)), Ok(Some(identity))) => keys_differ(session, identity, place),
        _ => Ok(()),
    };
    let marks_tell = match (&issuer, &groups) {
        (Ok(issuer), Ok(groups)) => {
            let groups =
                groups.as_ref().map_or_else(|| groups::default().claim, |groups| groups.claim.clone());
            let at = issuer_place.field("access_token_marks");
            access_token::require_that_marks_tell(&issuer.access_token_marks, &groups, &at)
        }
        _ => Ok(()),
    };

    let config = Config {
        public_url: public_url?,
        issuer: issuer?,
        client: client?,
        browser: login?.zip(session?).map(|(login, session)| BrowserLogin { login, session }),
        bearer: bearer?,
        groups: groups?.unwrap_or_else(groups::default),
        identity: identity?.unwrap_or_else(identity::default),
        policy: policy?,
        clock_leeway: clock_leeway?,
        limits: Limits::default(),
        warnings: Vec::new(),
    };
    insecure?;
    signs_in?;
    clusters_differ?;
    keys_differ?;
    marks_tell?;
    Ok(config)
}

/// Checks that there is a way to sign in, and that browser login has all it needs.
fn signs_in(
    login: &Setting<raw::Login>,
    session: &Setting<raw::Session>,
    bearer: &Setting<raw::Bearer>,
    place: &Place<'_>,
) -> Result<(), Reported> {
    match (login.is_absent(), session.is_absent(), bearer.is_absent()) {
        (true, true, true) => {
            Err(place.refuse("has neither login (with session) nor bearer: nobody could sign in"))
        }
        (false, true, _) => Err(place.field("session").refuse("is missing; login needs it")),
        (true, false, _) => {
            Err(place.field("session").refuse("has no effect without login; add login or remove session"))
        }
        _ => Ok(()),
    }
}

/// The application knows the keys of assertions, and must not be able to make sessions.
fn keys_differ(session: &Session, identity: &Identity, place: &Place<'_>) -> Result<(), Reported> {
    let Some(assertion) = &identity.assertion else { return Ok(()) };
    if assertion.keys.iter().any(|key| session.keys.contains(key)) {
        return Err(place.field("identity").field("assertion").field("keys").refuse(
            "has a key of session.keys: the application could make sessions; make another one with: openssl rand \
             -base64 32",
        ));
    }
    Ok(())
}

/// The Redis cluster sends raw bytes to its peer, which no provider understands.
fn clusters_differ(
    issuer: &Setting<raw::Issuer>,
    session: &Setting<raw::Session>,
    place: &Place<'_>,
) -> Result<(), Reported> {
    let redis = session.given().and_then(|session| session.redis.given());
    let Some(Text(redis)) = redis.and_then(|redis| redis.cluster.given()) else { return Ok(()) };
    let is_it = |cluster: &Setting<Text>| cluster.given().is_some_and(|Text(cluster)| cluster == redis);
    let Some(issuer) = issuer.given().filter(|_| !redis.trim().is_empty()) else { return Ok(()) };
    let origins = issuer.origins.given().map(Vec::as_slice).unwrap_or_default();
    let origin =
        origins.iter().position(|origin| origin.given().is_some_and(|origin| is_it(&origin.cluster)));
    let which = match origin {
        _ if is_it(&issuer.cluster) => "issuer.cluster".to_owned(),
        Some(index) => format!("the cluster of issuer.origins[{index}]"),
        None => return Ok(()),
    };
    Err(place
        .field("session")
        .field("redis")
        .field("cluster")
        .refuse(format!("is also {which}; Redis needs a separate cluster with the TCP connection pool")))
}
