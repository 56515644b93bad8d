//! What providers do differently: back-dated tokens, marks of access tokens, who is a person, more than one audience.

use std::time::Duration;

use serde_json::{Value, json};
use vec1::vec1;

use super::back_channel::logout;
use super::{OWN_FORM, forwarded, log_in, said, upstream};
use crate::config::{Config, ServedOrigin};
use crate::gate::Decision;
use crate::jose::algorithm::Algorithm;
use crate::jose::mark::{AccessTokenMark, ClaimRule, RequiredClaim};
use crate::jose::testing::{TestKey, sign};
use crate::testing::provider::{ISSUER, reply};
use crate::testing::world::{World, config, header, replied};

/// Presents a bearer token with this header and these additional claims.
fn present(world: &World, header: &Value, members: &Value) -> Decision {
    let now = world.now();
    let mut claims = json!({
        "iss": ISSUER, "sub": "88421113", "aud": "mlflow", "iat": now, "exp": now + 300, "groups": ["/mlflow_users"],
    });
    claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let token = sign(Algorithm::Rs256, Some(TestKey::Rsa.key_id()), header.clone(), claims);
    world.send("GET", "/api", &[("authorization", &format!("Bearer {token}"))])
}

#[test]
fn f301_an_id_token_that_is_back_dated_by_minutes_signs_in_and_one_of_yesterday_does_not() {
    for (back, status) in
        [(0, 303), (300, 303), (301, 303), (900, 303), (4_000, 503), (86_400, 503), (604_800, 503)]
    {
        let world = World::new();
        let at = world.now() - back;
        let reply = log_in(&world, &json!({"iat": at, "nbf": at, "exp": world.now() + 300}));
        assert_eq!(reply.status, status, "{back} s: {:#?}", world.host.log_lines());
        assert_eq!(said(&world, "issued_before_login"), status == 503, "{back} s");
    }
    // The nonce binds it to this login.
    let world = World::new();
    let at = world.now() - 300;
    assert_eq!(log_in(&world, &json!({"iat": at, "nbf": at, "nonce": "another"})).status, 400);
    assert!(said(&world, "wrong_nonce"));
    // A session goes on with back-dated tokens, too.
    let world = World::new();
    assert_eq!(log_in(&world, &json!({"iat": at, "nbf": at})).status, 303);
    world.host.advance(Duration::from_secs(301));
    let at = world.now() - 300;
    *world.provider.refreshed.borrow_mut() = json!({"iat": at, "nbf": at});
    forwarded(world.navigate("/"));
    assert_eq!(world.provider.refreshes(), 1);
    // Signing out everywhere ends the session and whatever is dated before that, so for some minutes new logins end at
    // once.
    let before = world.cookies.borrow().clone();
    let path = "/oauth2/account/sign-out?everywhere=true";
    assert_eq!(replied(world.browse("POST", path, OWN_FORM)).status, 303);
    let after = world.cookies.replace(before);
    assert_eq!(world.status(), 401);
    world.cookies.replace(after);
    let at = world.now() - 300;
    assert_eq!(
        log_in(&world, &json!({"iat": at, "nbf": at, "exp": at + 600})).status,
        302,
        "the login begins again"
    );
    world.host.advance(Duration::from_secs(300));
    let at = world.now() - 300;
    assert_eq!(log_in(&world, &json!({"iat": at, "nbf": at, "exp": at + 600})).status, 303);
    forwarded(world.navigate("/"));
}

fn with_rule() -> Config {
    let required = |claim: &str, values: &[&str]| RequiredClaim {
        claim: vec![claim.to_owned()],
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let mut config = config();
    let present = vec1![required("token_use", &["access"]), required("scp", &[])];
    config.issuer.access_token_marks =
        vec1![AccessTokenMark::Claims(ClaimRule { present, absent: vec![vec!["hint".into()]] })];
    config
}

#[test]
fn f302_an_access_token_without_a_standard_mark_needs_the_operators_rule() {
    let claims = json!({"token_use": "access", "scp": "read"});
    for header in [json!({"typ": "JWT"}), json!({})] {
        assert_eq!(replied(present(&World::new(), &header, &claims)).status, 401, "safe by default");
        forwarded(present(&World::with(with_rule()), &header, &claims));
    }
    let world = World::with(with_rule());
    let plain = json!({"typ": "JWT"});
    for (what, header, claims) in [
        ("a claim is missing", &plain, json!({"token_use": "access"})),
        ("another value", &plain, json!({"token_use": "id", "scp": "read"})),
        ("a claim that must be absent", &plain, json!({"token_use": "access", "scp": "read", "hint": 1})),
        ("an ID token", &plain, json!({"token_use": "access", "scp": "read", "nonce": "n"})),
        ("an ID token", &plain, json!({"token_use": "access", "scp": "read", "at_hash": "h"})),
        ("a logout token", &plain, json!({"token_use": "access", "scp": "read", "events": {}})),
        ("a logout token", &json!({"typ": "logout+jwt"}), json!({"token_use": "access", "scp": "read"})),
        ("a refresh token", &plain, json!({"token_use": "access", "scp": "read", "typ": "Refresh"})),
        ("Keycloak's mark, which is not in the list", &plain, json!({"typ": "Bearer"})),
        ("the header of RFC 9068, which is not in the list", &json!({"typ": "at+jwt"}), json!({})),
    ] {
        assert_eq!(replied(present(&world, header, &claims)).status, 401, "{what}: {claims}");
        assert!(said(&world, "wrong_token_kind"), "{what}");
    }
}

#[test]
fn f302_what_is_an_access_token_by_the_rule_is_no_id_token() {
    let world = World::with(with_rule());
    world.log_in("/");
    *world.provider.refreshed.borrow_mut() = json!({"typ": null, "token_use": "access", "scp": "read"});
    world.host.advance(Duration::from_secs(301));
    assert_eq!(world.status(), 401, "at a refresh, which has no nonce");
    assert!(said(&world, "wrong_token_kind"));
}

#[test]
fn f303_a_person_is_a_person_whichever_client_the_token_names() {
    let person = json!({
        "client_id": "spa", "azp": "spa", "preferred_username": "mona", "email": "mona@example.com",
        "email_verified": true,
    });
    let world = World::new();
    let header = json!({"typ": "at+jwt"});
    let names = |claims: &Value| {
        ["x-forwarded-preferred-username", "x-forwarded-email"]
            .map(|name| upstream(present(&world, &header, claims), name))
    };
    let both = [Some("mona".to_owned()), Some("mona@example.com".to_owned())];
    assert_eq!(names(&person), both);
    // The same in an ID token.
    let mut claims = person.clone();
    claims["azp"] = json!("mlflow");
    claims["sid"] = json!(null);
    assert_eq!(log_in(&world, &claims).status, 303);
    assert_eq!(upstream(world.navigate("/"), "x-forwarded-preferred-username").as_deref(), Some("mona"));
    // RFC 9068 2.2, 5: a client that acts for itself must not pass for a user.
    for of_a_client in [
        json!({"sub": "spa"}),
        json!({"sub": "spa", "client_id": null}),
        json!({"sub": "spa", "azp": null, "sid": "x"}),
        json!({"preferred_username": "service-account-spa"}),
    ] {
        let mut claims = person.clone();
        claims.as_object_mut().unwrap().extend(of_a_client.as_object().unwrap().clone());
        assert_eq!(names(&claims), [None, None], "{of_a_client}");
    }
}

#[test]
fn f305_another_audience_is_named_in_the_log_and_allowed_where_the_operator_trusts_it() {
    let several = json!({"aud": ["mlflow", "327683"], "azp": "mlflow"});
    let world = World::new();
    assert_eq!(log_in(&world, &several).status, 503);
    assert!(said(&world, "foreign_audience: 327683"), "{:#?}", world.host.log_lines());

    let mut config = config();
    config.browser.as_mut().unwrap().login.trusted_audiences = vec!["327683".into(), "other".into()];
    for (members, status) in [
        (several.clone(), 303),
        (json!({"aud": ["327683", "mlflow", "other"], "azp": "mlflow"}), 303),
        (json!({"aud": "mlflow"}), 303),
        (json!({"aud": ["mlflow", "327683", "evil"], "azp": "mlflow"}), 503),
        (json!({"aud": ["327683"], "azp": "mlflow"}), 400),
        (json!({"aud": "327683", "azp": "mlflow"}), 400),
        // OIDC Core 3.1.3.7 (4): with several audiences, azp names the client that the token was issued to.
        (json!({"aud": ["mlflow", "327683"], "azp": "327683"}), 400),
        (json!({"aud": ["mlflow", "327683"], "azp": null}), 503),
        (json!({"aud": ["mlflow", "327683"], "azp": 7}), 503),
    ] {
        let world = World::with(config.clone());
        assert_eq!(log_in(&world, &members).status, status, "{members}");
    }

    // The same at a refresh and in a logout token.
    let world = World::with(config.clone());
    assert_eq!(log_in(&world, &several).status, 303);
    *world.provider.refreshed.borrow_mut() = several.clone();
    world.host.advance(Duration::from_secs(301));
    forwarded(world.navigate("/"));
    let announce = |world: &World, aud: Value| logout(world, json!({ "aud": aud })).status;
    assert_eq!(announce(&world, json!(["mlflow", "evil"])), 400);
    forwarded(world.navigate("/"));
    assert_eq!(announce(&world, json!(["mlflow", "327683"])), 200);
    assert_eq!(world.status(), 401);
    assert_eq!(announce(&World::new(), json!(["mlflow", "327683"])), 400, "not by default");

    // An untrusted audience at a refresh ends the session. Its name is escaped and cut in the log.
    let world = World::with(config);
    assert_eq!(log_in(&world, &several).status, 303);
    let long = format!("\n\u{202e}{}", "x".repeat(500));
    *world.provider.refreshed.borrow_mut() = json!({"aud": ["mlflow", long]});
    world.host.advance(Duration::from_secs(301));
    assert_eq!(world.status(), 401);
    let lines = world.host.log_lines();
    let line = lines.iter().find(|line| line.contains("foreign_audience")).unwrap();
    assert!(line.contains("\\n\\u{202e}xxx") && !line.contains(&"x".repeat(100)), "{line}");
}

/// Sets these members of the metadata; null removes one.
fn with_metadata(world: World, members: &Value) -> World {
    world
        .provider
        .metadata
        .borrow_mut()
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    world
}

#[test]
fn f201_an_endpoint_that_is_not_used_keeps_nobody_out_and_is_spoken_of_once() {
    let elsewhere = "https://elsewhere.example/x";
    for odd in [json!(elsewhere), json!("urn:none"), json!(7)] {
        let world = with_metadata(
            World::new(),
            &json!({"userinfo_endpoint": odd, "introspection_endpoint": odd, "end_session_endpoint": odd}),
        );
        world.log_in("/");
        forwarded(world.navigate("/"));
        // The endpoint is needed only at a sign-out and is ignored: it must not choose where the ID token goes.
        let left = replied(world.browse("POST", "/oauth2/logout", &[("origin", "https://mlflow.example")]));
        assert_eq!(header(&left, "location"), Some("/oauth2/signed-out"), "{odd}");
        world.host.advance(Duration::from_secs(301));
        world.other_worker().begin_login("/");
        assert!(world.provider.discovery_requests.get() >= 2, "{odd}");
        let lines = world.host.log_lines();
        for name in ["userinfo_endpoint", "introspection_endpoint", "end_session_endpoint"] {
            let spoken =
                lines.iter().filter(|line| line.contains(name) && line.contains("is ignored")).count();
            assert_eq!(spoken, 1, "{name} {odd}: {lines:#?}");
        }
    }
    for none in [json!(null), json!("")] {
        let world =
            with_metadata(World::new(), &json!({"userinfo_endpoint": none, "end_session_endpoint": none}));
        world.log_in("/");
        assert!(!said(&world, "is ignored"), "{none}");
    }
}

fn that_asks_userinfo() -> Config {
    let mut config = config();
    config.browser.as_mut().unwrap().login.userinfo = true;
    config
}

fn that_checks_tokens() -> Config {
    let mut config = config();
    config.bearer.as_mut().unwrap().check_interval = Some(Duration::from_secs(1));
    config
}

#[test]
fn f201_an_endpoint_that_is_used_is_refused_where_it_would_be_used() {
    let elsewhere = json!("https://elsewhere.example/x");
    for (config, name, logs_in, takes_tokens) in [
        (config(), "token_endpoint", false, true),
        (config(), "authorization_endpoint", false, true),
        (that_asks_userinfo(), "userinfo_endpoint", false, true),
        (that_checks_tokens(), "introspection_endpoint", true, false),
    ] {
        let world = with_metadata(World::with(config), &json!({ name: elsewhere }));
        let bearer = present(&world, &json!({"typ": "at+jwt"}), &json!({}));
        match takes_tokens {
            true => drop(forwarded(bearer)),
            false => assert_eq!(replied(bearer).status, 503, "{name}"),
        }
        assert_eq!(replied(world.navigate("/")).status, if logs_in { 302 } else { 503 }, "{name}");
        let line = format!("{name} \"https://elsewhere.example/x\" is not within the issuer's origin");
        assert!(said(&world, &line), "{name}: {:#?}", world.host.log_lines());
        assert!(world.provider.token_requests.borrow().is_empty(), "{name}: nobody is asked there");
    }
}

#[test]
fn f706_an_introspection_that_refuses_these_tokens_is_logged_with_its_words() {
    let world = World::with(that_checks_tokens());
    let token = world.provider.access_token(world.now(), json!({}));
    let long = "y".repeat(5000);
    let description = format!("JWT is not supported: {token} mlflow:client-s3cret {long}");
    let answer = json!({"error": "unsupported_token_type", "error_description": description});
    *world.provider.introspection_override.borrow_mut() = Some(reply(400, &answer));
    let refused = replied(world.send("GET", "/api", &[("authorization", &format!("Bearer {token}"))]));
    assert_eq!((refused.status, header(&refused, "retry-after")), (503, None), "{refused:?}");
    assert!(refused.body.contains("INTERNAL_ERROR") && !refused.body.contains("JWT"), "{}", refused.body);
    let log = world.host.log_lines().join("\n");
    let words =
        "introspection endpoint: status 400, unsupported_token_type: JWT is not supported: [redacted]";
    assert!(log.contains(words) && log.contains("reason=misconfigured"), "{log}");
    assert!(
        !log.contains(&token) && !log.contains("client-s3cret") && !log.contains(&"y".repeat(500)),
        "{log}"
    );
    // Without introspection the token is valid until it expires.
    forwarded(World::new().send("GET", "/api", &[("authorization", &format!("Bearer {token}"))]));
}

#[test]
fn f702_each_endpoint_is_called_through_the_cluster_of_its_origin() {
    let mut config = config();
    config.browser.as_mut().unwrap().login.userinfo = true;
    config.bearer.as_mut().unwrap().check_interval = Some(Duration::from_secs(1));
    let served = ["token", "keys", "users"].map(|name| ServedOrigin {
        origin: format!("https://{name}.example"),
        cluster: format!("{name}-cluster"),
    });
    config.issuer.origins = served.to_vec();
    let world = World::with(config);
    for name in ["token", "keys", "users"] {
        let (provider, clock) = (world.provider.clone(), std::rc::Rc::downgrade(&world.host));
        world.host.on(&format!("{name}-cluster"), move |callout| {
            provider.answer(callout, clock.upgrade().unwrap().now_millis() / 1000)
        });
    }
    let world = with_metadata(
        world,
        &json!({
            "token_endpoint": "https://token.example/token",
            "introspection_endpoint": "https://token.example/introspect",
            "jwks_uri": "https://keys.example/certs", "userinfo_endpoint": "https://users.example/userinfo",
        }),
    );
    world.log_in("/");
    forwarded(world.navigate("/"));
    forwarded(present(&world, &json!({"typ": "at+jwt"}), &json!({})));
    for callout in world.host.calls() {
        let header = |name: &str| callout.headers.iter().find(|(known, _)| known == name).unwrap().1.as_str();
        let expected = match header(":authority") {
            "idp.example" => "keycloak",
            "token.example" => "token-cluster",
            "keys.example" => "keys-cluster",
            "users.example" => "users-cluster",
            _ => continue,
        };
        assert_eq!(callout.cluster, expected, "{}", header(":path"));
    }
    let clusters: std::collections::BTreeSet<_> =
        world.host.calls().into_iter().map(|callout| callout.cluster).collect();
    assert!(
        ["keycloak", "token-cluster", "keys-cluster", "users-cluster"]
            .iter()
            .all(|name| clusters.contains(*name))
    );
}

#[test]
fn f702_nothing_is_sent_where_no_cluster_serves_the_origin() {
    let elsewhere = json!("https://login.example/x");
    for (mut config, name, logs_in, takes_tokens) in [
        (config(), "token_endpoint", false, true),
        (that_asks_userinfo(), "userinfo_endpoint", false, true),
        (that_checks_tokens(), "introspection_endpoint", true, false),
        (config(), "jwks_uri", false, false),
        (config(), "revocation_endpoint", true, true),
        (config(), "authorization_endpoint", true, true),
    ] {
        config.issuer.allowed_origins = vec!["https://login.example".into()];
        let world = with_metadata(World::with(config), &json!({ name: elsewhere }));
        match present(&world, &json!({"typ": "at+jwt"}), &json!({})) {
            Decision::Forward { .. } => assert!(takes_tokens, "{name}"),
            refused => {
                let reply = replied(refused);
                assert!(!takes_tokens && reply.status == 503, "{name}: {reply:?}");
                assert_eq!(header(&reply, "retry-after"), None, "{name}");
            }
        }
        assert_eq!(replied(world.navigate("/")).status, if logs_in { 302 } else { 503 }, "{name}");
        let line = format!("{name} can't be called: its origin https://login.example has no cluster");
        assert_eq!(
            said(&world, &line),
            name != "authorization_endpoint",
            "{name}: {:#?}",
            world.host.log_lines()
        );
        let calls = world.host.calls();
        let authority = |(name, value): &(String, String)| name == ":authority" && value == "login.example";
        assert!(!calls.iter().any(|callout| callout.headers.iter().any(authority)), "{name}");
    }
}

#[test]
fn f702_what_differs_only_inside_goes_by_the_issuers_name_through_its_cluster() {
    // Keycloak at an internal address: requests carry the public host name, so its metadata shows the public origin.
    let world = World::signed_in();
    let calls = world.host.calls();
    let to_provider: Vec<_> = calls.iter().filter(|callout| callout.cluster == "keycloak").collect();
    assert!(to_provider.len() >= 3);
    for callout in to_provider {
        assert!(callout.headers.contains(&(":authority".into(), "idp.example".into())));
    }
    // If the metadata shows an internal origin all the same, that origin must be configured.
    let internal = "http://keycloak:8080";
    let metadata =
        json!({"token_endpoint": format!("{internal}/token"), "jwks_uri": format!("{internal}/certs")});
    assert_eq!(replied(with_metadata(World::new(), &metadata).navigate("/")).status, 503);
    let mut named = config();
    named.issuer.origins = vec![ServedOrigin { origin: internal.into(), cluster: "keycloak".into() }];
    with_metadata(World::with(named), &metadata).log_in("/");
}

#[test]
fn f202_a_gate_for_bearer_tokens_needs_nothing_but_keys() {
    let bearer_only = || {
        let mut config = config();
        (config.browser, config.client.secret) = (None, None);
        World::with(config)
    };
    for members in [
        json!({"authorization_endpoint": null, "token_endpoint": null, "userinfo_endpoint": null}),
        json!({"authorization_endpoint": "urn:none", "token_endpoint": "https://elsewhere.example/x"}),
        json!({"code_challenge_methods_supported": ["plain"]}),
        json!({"require_pushed_authorization_requests": true}),
    ] {
        let world = with_metadata(bearer_only(), &members);
        forwarded(present(&world, &json!({"typ": "at+jwt"}), &json!({})));
        assert!(!world.host.log_lines().iter().any(|line| line.starts_with("Error")), "{members}");
    }
    let world = bearer_only();
    *world.provider.metadata.borrow_mut() = json!({
        "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/certs"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
    });
    forwarded(present(&world, &json!({"typ": "at+jwt"}), &json!({})));
    assert_eq!(replied(present(&world, &json!({"typ": "JWT"}), &json!({}))).status, 401);
}
