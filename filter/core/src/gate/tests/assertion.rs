//! The assertion that tells the application who the user is, and tokens in Basic authentication.

use std::time::Duration;

use serde_json::{Value, json};

use super::{forwarded, mlflow, upstream};
use crate::config::{Assertion, Config};
use crate::encoding::from_base64url;
use crate::gate::Decision;
use crate::policy::HeaderChange;
use crate::secret::Secret;
use crate::testing::world::{World, header, replied};

const HEADER: &str = "x-mlflow-authorization";
const KEY: &str = "an assertion key of the unit tests, 44 bytes";

/// MLflow with users: the preset, the assertion, and tokens as passwords.
fn with_users() -> Config {
    let mut config = mlflow();
    config.identity.assertion = Some(Assertion {
        keys: vec1::vec1![Secret::new(KEY)],
        audience: "mlflow".into(),
        issuer: "oidc-gate".into(),
        header: HEADER.into(),
    });
    if let Some(bearer) = &mut config.bearer {
        bearer.basic = true;
    }
    config
}

fn token(decision: Decision) -> String {
    let value = upstream(decision, HEADER).unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

fn claims(decision: Decision) -> Value {
    let token = token(decision);
    serde_json::from_slice(&from_base64url(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn a_session_and_a_token_are_told_to_the_application_and_a_public_request_is_not() {
    let world = World::with(with_users());
    world.log_in("/");
    let session = claims(world.navigate("/"));
    let bearer =
        claims(world.bearer(json!({"preferred_username": "bob", "sub": "s-2", "groups": ["mlflow_admins"]})));
    assert_eq!((&session["aud"], &bearer["aud"]), (&json!("mlflow"), &json!("mlflow")));
    assert_eq!(bearer["name"], "bob");
    assert_eq!((&bearer["sub"], &bearer["groups"]), (&json!("s-2"), &json!(["mlflow_admins"])));
    assert_ne!(session["sub"], bearer["sub"]);
    assert_eq!(session["exp"].as_u64().unwrap() - session["iat"].as_u64().unwrap(), 60);

    let public = forwarded(world.send("GET", "/health", &[(HEADER, "Bearer forged")]));
    assert_eq!(
        public
            .changes()
            .iter()
            .filter(|change| matches!(change, HeaderChange::Set(name, _) if name == HEADER))
            .count(),
        0
    );
    assert!(public.changes().contains(&HeaderChange::Remove(HEADER.to_owned())));
}

#[test]
fn what_a_client_says_of_itself_is_removed_in_every_spelling() {
    let world = World::with(with_users());
    let token = format!("Bearer {}", world.provider.access_token(world.now(), json!({})));
    for spelling in [HEADER, "x_mlflow_authorization", "x-mlflow_authorization", "x.mlflow.authorization"] {
        let permit =
            forwarded(world.send("GET", "/", &[("authorization", &token), (spelling, "Bearer forged")]));
        let changes = permit.changes();
        assert!(changes.contains(&HeaderChange::Remove(spelling.to_owned())), "{spelling}");
        assert!(!format!("{changes:?}").contains("forged"), "{spelling}");
    }
}

#[test]
fn an_assertion_is_used_again_for_half_a_minute_and_belongs_to_one_user() {
    let world = World::with(with_users());
    world.log_in("/");
    let first = token(world.navigate("/"));
    world.host.advance(Duration::from_secs(4));
    assert_eq!(token(world.navigate("/")), first);
    let other = world.provider.access_token(world.now(), json!({"sub": "s-2"}));
    let of_other = token(world.present(&other));
    assert_ne!(of_other, first);
    world.host.advance(Duration::from_secs(29));
    assert_eq!(token(world.present(&other)), of_other);
    world.host.advance(Duration::from_secs(2));
    assert_ne!(token(world.present(&other)), of_other);
}

#[test]
fn two_tokens_of_one_person_tell_the_groups_of_each() {
    let world = World::with(with_users());
    let groups =
        |groups: Value| claims(world.bearer(json!({"sub": "s-2", "groups": groups})))["groups"].clone();
    assert_eq!(groups(json!(["mlflow_users", "mlflow_admins"])), json!(["mlflow_users", "mlflow_admins"]));
    assert_eq!(groups(json!(["mlflow_users"])), json!(["mlflow_users"]));
}

#[test]
fn no_log_line_has_an_assertion() {
    let world = World::with(with_users());
    world.log_in("/");
    let token = token(world.navigate("/"));
    assert_eq!(world.said(&token), 0);
    assert!(!format!("{:?}", forwarded(world.navigate("/"))).contains(&token));
}

#[test]
fn a_token_is_also_accepted_as_a_password_with_any_user_name() {
    let world = World::with(with_users());
    let token = world.provider.access_token(world.now(), json!({"preferred_username": "bob"}));
    for user in ["", "bob", "anything", "caf\u{e9}"] {
        let value = basic(user, &token);
        assert_eq!(claims(world.send("GET", "/", &[("authorization", &value)]))["name"], "bob", "{user}");
    }
    // As in every request that a browser could have been made to send.
    let value = basic("bob", &token);
    let from_elsewhere = [
        ("authorization", value.as_str()),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    assert_eq!(replied(world.send("POST", "/api/2.0/mlflow/runs/create", &from_elsewhere)).status, 403);
    // RFC 7235 2.1: the scheme is case-insensitive.
    let value = basic("bob", &token).replacen("Basic", "bAsIc", 1);
    forwarded(world.send("GET", "/", &[("authorization", &value)]));
}

#[test]
fn a_wrong_password_is_401_and_asks_for_no_password() {
    let world = World::with(with_users());
    world.log_in("/");
    let id_token = world.provider.access_token(world.now(), json!({"typ": "ID"}));
    let good = world.provider.access_token(world.now(), json!({}));
    for value in [
        basic("bob", "hunter2"),
        basic("bob", ""),
        basic("bob", &id_token),
        basic("bob", &format!("{good} ")),
        basic("bob", &format!(" {good}")),
        // No colon: no password (RFC 7617 2).
        "Basic Ym9i".to_owned(),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        format!("Basic {good}"),
        format!("{}, Bearer {good}", basic("bob", &good)),
        format!("Digest {good}"),
    ] {
        let reply = replied(world.browse("GET", "/", &[("authorization", &value)]));
        assert_eq!(reply.status, 401, "{value}");
        let challenge = header(&reply, "www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{value}: {challenge}");
        assert!(!reply.body.contains("hunter2") && !challenge.contains("hunter2"));
    }
    let reply = replied(world.send("GET", "/", &[("authorization", "Digest x")]));
    assert!(reply.body.contains("as the password"), "{}", reply.body);
    let off = World::new();
    let token = off.provider.access_token(off.now(), json!({}));
    assert_eq!(replied(off.send("GET", "/", &[("authorization", &basic("bob", &token))])).status, 401);
}

#[test]
fn below_the_gateway_the_provider_gets_its_key_and_nothing_of_ours() {
    let world = World::with(with_users());
    let token = world.provider.access_token(world.now(), json!({}));
    let ours = format!("Bearer {token}");
    let target = "/gateway/openai/v1/chat/completions";
    let sent = [("authorization", "Bearer key-of-the-provider"), (HEADER, &ours), ("cookie", "a=1")];
    let permit = forwarded(world.send("POST", target, &sent));
    let said = format!("{:?}", permit.changes());
    assert!(permit.changes().contains(&HeaderChange::Remove("cookie".into())));
    assert!(!permit.changes().contains(&HeaderChange::Remove("authorization".into())), "{said}");
    let set = |wanted: &str| {
        permit.changes().iter().find_map(|change| match change {
            HeaderChange::Set(name, value) if name == wanted => Some(value.clone()),
            _ => None,
        })
    };
    // The gate's own credential in both headers is not the provider's.
    let twice = [("authorization", ours.as_str()), (HEADER, &ours)];
    let changes = forwarded(world.send("POST", target, &twice));
    assert!(changes.changes().contains(&HeaderChange::Remove("authorization".into())));
    assert!(set(HEADER).is_some_and(|value| value != ours.as_bytes()), "{said}");
    assert_eq!(set("x-forwarded-user"), None);
    // Without a credential of ours, the provider's key is none.
    let reply = replied(world.send("POST", target, &[("authorization", "Bearer key-of-the-provider")]));
    assert_eq!(reply.status, 401);
    // Nor does the other header count elsewhere.
    assert_eq!(replied(world.send("GET", "/", &[(HEADER, &ours)])).status, 401);
}
