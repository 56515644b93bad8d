//! Tables of invalid logout tokens and callbacks. Each is wrong in one respect.

use oidc_gate_provider_model::mint::LOGOUT_EVENT;
use serde_json::{Value, json};

use super::{Forgery, Provider, SigningKey};

/// A description, and the forgery.
pub type Wrong = (&'static str, Forgery);

/// Logout tokens that must have no effect (OpenID Connect Back-Channel Logout 1.0 2.4 and 2.6).
pub fn wrong_logout_tokens(provider: &Provider) -> Vec<Wrong> {
    let now = provider.now();
    let mut wrong = wrong_signatures(provider);
    wrong.push(("the realm's key of another algorithm", Forgery::new().key(provider.key("ES256"))));
    wrong.extend(wrong_types(&["at+jwt", "dpop+jwt", "secevent+jwt", "logout"]));
    for (name, claim, value) in [
        ("another issuer", "iss", json!("http://evil.example/realms/mlflow")),
        ("the issuer with a slash", "iss", json!(format!("{}/", provider.issuer()))),
        ("the issuer in a list", "iss", json!([provider.issuer()])),
        ("another audience", "aud", json!("other")),
        ("an audience that begins like ours", "aud", json!(format!("{}2", provider.client_id()))),
        ("several audiences", "aud", json!([provider.client_id(), "other"])),
        ("no audience in the list", "aud", json!([])),
        ("an audience that is a number", "aud", json!([1])),
        ("an audience that is an object", "aud", json!({provider.client_id(): 1})),
        ("events that are empty", "events", json!({})),
        ("another event", "events", json!({"http://schemas.openid.net/event/other": {}})),
        ("the event in capitals", "events", json!({LOGOUT_EVENT.to_uppercase(): {}})),
        ("an event that is null", "events", json!({LOGOUT_EVENT: null})),
        ("an event that is a flag", "events", json!({LOGOUT_EVENT: true})),
        ("an event that is a text", "events", json!({LOGOUT_EVENT: "{}"})),
        ("an event that is a list", "events", json!({LOGOUT_EVENT: []})),
        ("events in a list", "events", json!([LOGOUT_EVENT])),
        ("events that are a text", "events", json!(LOGOUT_EVENT)),
        ("events that are null", "events", json!(null)),
        // 2.4: a logout token must not contain a nonce, so that it cannot pass as an ID token.
        ("a nonce", "nonce", json!("n")),
        ("a nonce that is empty", "nonce", json!("")),
        ("a null nonce", "nonce", json!(null)),
        ("an expiry of a minute and an hour ago", "exp", json!(now - 3660)),
        ("an expiry that is a text", "exp", json!((now + 120).to_string())),
        ("an expiry that is no number of seconds", "exp", json!("soon")),
        ("an expiry before 1970", "exp", json!(-1)),
        ("an expiry that is null", "exp", json!(null)),
        ("issued an hour ago", "iat", json!(now - 3600)),
        ("issued in an hour", "iat", json!(now + 3600)),
        ("issued at a text", "iat", json!(now.to_string())),
        ("issued at an object", "iat", json!({})),
        ("issued at null", "iat", json!(null)),
        ("a jti that is a number", "jti", json!(1)),
        ("an empty jti", "jti", json!("")),
        ("a null jti", "jti", json!(null)),
        ("a sid that is a number", "sid", json!(1)),
        ("a sid that is a list", "sid", json!(["x"])),
        ("an empty sid", "sid", json!("")),
        ("a null sid", "sid", json!(null)),
        ("a sub that is a number", "sub", json!(1)),
        ("a sub that is an object", "sub", json!({})),
        ("an empty sub", "sub", json!("")),
        ("a null sub", "sub", json!(null)),
    ] {
        wrong.push((name, with(claim, value)));
    }
    for (name, claims) in [
        ("no issuer", &["iss"][..]),
        ("no audience", &["aud"]),
        ("no issuing time", &["iat"]),
        ("no expiry", &["exp"]),
        ("no jti", &["jti"]),
        ("no events", &["events"]),
        ("neither sub nor sid", &["sub", "sid"]),
    ] {
        wrong.push((name, without(claims)));
    }
    wrong.push(("sid twice", twice("sid")));
    wrong.push(("events twice", twice("events")));
    wrong.extend(wrong_payloads());
    wrong
}

/// Callbacks to the `adminUrl` that must have no effect. They contain neither issuer nor audience. Only the key, the
/// client in `resource`, the `action` of the path, the expiry and a new `id` can be checked.
pub fn wrong_callbacks(provider: &Provider) -> Vec<Wrong> {
    let now = provider.now();
    let mut wrong = wrong_signatures(provider);
    wrong.extend(wrong_types(&["logout+jwt", "at+jwt"]));
    for (name, claim, value) in [
        ("another client", "resource", json!("other")),
        ("a client in a list", "resource", json!([provider.client_id()])),
        ("a client that is null", "resource", json!(null)),
        ("another action", "action", json!("TEST_AVAILABILITY")),
        ("an action in small letters", "action", json!("logout")),
        ("an action that is null", "action", json!(null)),
        ("expired", "expiration", json!(now - 3660)),
        ("an expiry that is a text", "expiration", json!((now + 30).to_string())),
        ("an expiry that is null", "expiration", json!(null)),
        ("an id that is a number", "id", json!(1)),
        ("an empty id", "id", json!("")),
        ("a null id", "id", json!(null)),
        ("a time that is a text", "notBefore", json!(now.to_string())),
        ("a time in a list", "notBefore", json!([now])),
    ] {
        wrong.push((name, with(claim, value)));
    }
    for (name, claims) in [
        ("no client", &["resource"][..]),
        ("no action", &["action"]),
        ("no expiry", &["expiration"]),
        ("no id", &["id"]),
    ] {
        wrong.push((name, without(claims)));
    }
    wrong.push(("resource twice", twice("resource")));
    wrong.push(("action twice", twice("action")));
    wrong.extend(wrong_payloads());
    wrong
}

/// "Logout" messages of Keycloak with a malformed list of sessions. If it counted as absent, it would mean all users.
pub fn wrong_lists() -> Vec<Wrong> {
    let values = [json!("abc"), json!({}), json!(null), json!(1), json!(false), json!([1]), json!([null])];
    let of = |claim: &'static str| values.clone().into_iter().map(move |value| (claim, with(claim, value)));
    of("keycloakSessionIds").chain(of("adapterSessionIds")).collect()
}

fn wrong_signatures(provider: &Provider) -> Vec<Wrong> {
    let secret = provider.client_secret().as_bytes().to_vec();
    let public = provider.key("RS256").jwk();
    let (kid, named) = (provider.key("RS256").kid(), provider.key("RS256").kid());
    let stranger = provider.strangers_key();
    let (jwk, signed) = (stranger.jwk(), Forgery::new().key(stranger));
    vec![
        ("no signature", Forgery::new().key(SigningKey::Unsigned)),
        ("no signature, algorithm in capitals", unsigned("NONE")),
        ("no signature, under the right algorithm", unsigned("RS256")),
        ("the client's secret", Forgery::new().key(SigningKey::Hs256(secret))),
        ("the public key as a secret", Forgery::new().key(SigningKey::Hs256(public.to_string().into()))),
        ("a stranger's key", signed.clone()),
        ("a stranger's key under our key's name", signed.clone().header(move |h| h["kid"] = json!(kid))),
        (
            "a key that comes along",
            signed.header(move |header| {
                header["jwk"] = jwk.clone();
                header["kid"] = json!(named);
            }),
        ),
        ("a critical header", Forgery::new().header(|header| header["crit"] = json!(["exp"]))),
        ("a flipped bit", Forgery::new().token(flip_last_but_one)),
        (
            "no third part",
            Forgery::new().token(|token| token.rsplit_once('.').map_or(token.clone(), |t| t.0.into())),
        ),
        ("a part too many", Forgery::new().token(|token| format!("{token}.e30"))),
        ("padding", Forgery::new().token(|token| format!("{token}="))),
    ]
}

fn unsigned(algorithm: &'static str) -> Forgery {
    Forgery::new().key(SigningKey::Unsigned).header(move |header| header["alg"] = json!(algorithm))
}

/// The last character of base64url may have unused bits. The one before has none.
fn flip_last_but_one(token: String) -> String {
    let mut characters: Vec<char> = token.chars().collect();
    let at = characters.len().saturating_sub(2);
    if let Some(character) = characters.get_mut(at) {
        *character = if *character == 'A' { 'B' } else { 'A' };
    }
    characters.into_iter().collect()
}

fn wrong_types(types: &'static [&'static str]) -> Vec<Wrong> {
    let forgery = |typ: &'static str| Forgery::new().header(move |header| header["typ"] = json!(typ));
    let mut wrong: Vec<Wrong> = types.iter().map(|typ| (*typ, forgery(typ))).collect();
    wrong.push((
        "a type that is a list",
        Forgery::new().header(|header| header["typ"] = json!(["logout+jwt"])),
    ));
    wrong
}

fn wrong_payloads() -> Vec<Wrong> {
    vec![
        ("a list", Forgery::new().payload_text(|text| format!("[{text}]"))),
        ("a text", Forgery::new().payload_text(|text| Value::String(text).to_string())),
        ("half a payload", Forgery::new().payload_text(|text| text.chars().take(text.len() / 2).collect())),
        ("two payloads", Forgery::new().payload_text(|text| format!("{text}{text}"))),
        ("no payload", Forgery::new().payload_text(|_| String::new())),
        ("a deep payload", Forgery::new().payload_text(|_| "[".repeat(10_000))),
    ]
}

fn with(claim: &'static str, value: Value) -> Forgery {
    Forgery::new().claims(move |claims| claims[claim] = value.clone())
}

fn without(names: &'static [&'static str]) -> Forgery {
    Forgery::new().claims(move |claims| {
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|name, _| !names.contains(&name.as_str()));
        }
    })
}

/// Adds a second member of this name, in front of the other.
fn twice(claim: &'static str) -> Forgery {
    Forgery::new().payload_text(move |text| text.replacen('{', &format!("{{\"{claim}\":\"x\","), 1))
}
