//! The ID token of a login. If anything is wrong with it, there is no session.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Forgery, SigningKey, Times, TokenKind, User};
use oidc_gate_tests::forge::{claim, header, remove, spoiled, without_claim};
use oidc_gate_tests::{Gate, assert_allowed};
use serde_json::json;

/// Logs in while ID tokens are forged. Returns whether there is a session.
fn login(gate: &Gate, forgery: Forgery) -> bool {
    gate.provider.forge(TokenKind::Id, forgery);
    let (browser, callback) = gate.at_callback("mlflow_user", "/");
    let reached = gate.echo.count();
    let response = browser.navigate(&callback).unwrap();
    gate.provider.behave();
    let session = gate.session_cookie(&browser);
    if session.is_none() {
        assert!((400..=503).contains(&response.status) && response.status != 500, "{response}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response}");
        assert_eq!(gate.echo.count(), reached);
    }
    session.is_some()
}

#[test]
fn it01_to_it25_an_id_token_with_anything_wrong_makes_no_session() {
    let gate = Gate::start();
    let now = gate.provider.now();
    let issuer = gate.provider.issuer();
    let jwk = gate.provider.key("RS256").jwk().to_string();
    let secret = gate.provider.client_secret().to_owned();
    let access_token = gate.provider.access_token("mlflow_user");
    let for_another = gate.provider.id_token("mlflow_user", "another-nonce");
    let cases: Vec<(&str, Forgery)> = vec![
        ("iss is another", claim("iss", "http://localhost:1/realms/mlflow")),
        ("iss with a slash", claim("iss", json!(format!("{issuer}/")))),
        ("iss is a list", claim("iss", json!([issuer]))),
        ("iss is absent", without_claim("iss")),
        ("aud is another", claim("aud", "other")),
        ("aud is an empty list", claim("aud", json!([]))),
        ("aud is a list of numbers", claim("aud", json!([1]))),
        ("aud is an object", claim("aud", json!({}))),
        ("aud is absent", without_claim("aud")),
        // OIDC Core 3.1.3.7 (3): audiences that are not trusted.
        ("aud has others besides us", claim("aud", json!(["mlflow", "account"]))),
        ("azp is another", claim("azp", "other")),
        ("sub is absent", without_claim("sub")),
        ("sub is empty", claim("sub", "")),
        ("sub is null", claim("sub", json!(null))),
        ("sub is a number", claim("sub", 123)),
        ("iat is absent", without_claim("iat")),
        ("iat is an object", claim("iat", json!({}))),
        ("iat lies ahead", claim("iat", now + 3600)),
        ("iat was yesterday", claim("iat", now - 86_400)),
        ("exp is absent", without_claim("exp")),
        ("exp was six minutes ago", claim("exp", now - 360)),
        ("exp is text", claim("exp", "9999999999")),
        ("exp is negative", claim("exp", -1)),
        ("nbf is text", claim("nbf", "x")),
        ("nbf lies ahead", claim("nbf", now + 3600)),
        ("nonce is another", claim("nonce", "1")),
        ("nonce is absent", without_claim("nonce")),
        ("nonce is null", claim("nonce", json!(null))),
        (
            "exp is huge",
            Forgery::new().payload_text(|text| text.replacen("\"exp\":", "\"exp\":1e300,\"x\":", 1)),
        ),
        ("groups are an object", claim("groups", json!({"/mlflow_users": true}))),
        ("groups are a number", claim("groups", 1)),
        ("a group is null", claim("groups", json!(["/mlflow_users", null]))),
        ("at_hash is a number", claim("at_hash", 7)),
        ("at_hash is empty", claim("at_hash", "")),
        ("at_hash is wrong", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")),
        ("signature is changed", Forgery::new().token(|token| spoiled(&token))),
        ("unsigned, alg none", Forgery::new().key(SigningKey::Unsigned)),
        (
            "unsigned with a junk signature",
            Forgery::new().key(SigningKey::Unsigned).token(|token| format!("{token}AAAA")),
        ),
        ("another algorithm of the same key set", Forgery::new().key(gate.provider.key("ES256"))),
        ("a foreign key", Forgery::new().key(SigningKey::rsa(7))),
        ("HMAC with the client secret", Forgery::new().key(SigningKey::Hs256(secret.into_bytes()))),
        ("HMAC with the JWK", Forgery::new().key(SigningKey::Hs256(jwk.into_bytes()))),
        ("HMAC with nothing", Forgery::new().key(SigningKey::Hs256(Vec::new()))),
        ("critical header", header("crit", json!(["exp"]))),
        ("an access token instead", Forgery::new().token(move |_| access_token.clone())),
        ("the ID token of another login", Forgery::new().token(move |_| for_another.clone())),
        ("typ of a logout token", header("typ", "logout+jwt")),
        ("a member twice", Forgery::new().payload_text(|text| text.replacen('{', "{\"sub\":\"admin\",", 1))),
        (
            "a member twice, escaped",
            Forgery::new().payload_text(|text| text.replacen('{', "{\"\\u0073ub\":\"x\",", 1)),
        ),
        ("a list", Forgery::new().payload_text(|text| format!("[{text}]"))),
        ("a number", Forgery::new().payload_text(|_| "7".to_owned())),
        ("nested 20,000 deep", Forgery::new().payload_text(|_| "[".repeat(20_000))),
        ("no token at all", Forgery::new().token(|_| String::new())),
    ];
    for (name, forgery) in cases {
        assert!(!login(&gate, forgery), "{name} was accepted");
        oidc_gate_tests::assert_workers_alive(&gate);
    }
    assert!(login(&gate, Forgery::new()), "a good one must still do");
}

#[test]
fn what_a_provider_may_do_is_accepted() {
    let gate = Gate::start();
    let five_minutes_ago = gate.provider.now() - 300;
    for (name, forgery) in [
        ("aud is a list with us alone", claim("aud", json!(["mlflow"]))),
        ("no at_hash", without_claim("at_hash")),
        ("no azp", without_claim("azp")),
        ("no typ claim", without_claim("typ")),
        ("clock a little ahead", claim("iat", json!(gate.provider.now() + 30))),
        ("just expired within the leeway", claim("exp", json!(gate.provider.now() - 5))),
        (
            "hashes of what is not used",
            Forgery::new().claims(|claims| {
                claims["c_hash"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
                claims["s_hash"] = json!(7);
            }),
        ),
        (
            "issued and valid five minutes ago",
            Forgery::new().claims(move |claims| {
                for name in ["iat", "nbf"] {
                    claims[name] = json!(five_minutes_ago);
                }
            }),
        ),
        ("a single group as text", claim("groups", "/mlflow_users")),
        ("no groups", claim("groups", json!(null))),
        ("null for what describes", {
            Forgery::new().claims(|claims| {
                for name in ["name", "email", "preferred_username", "sid", "azp", "auth_time", "nbf"] {
                    claims[name] = json!(null);
                }
            })
        }),
        ("auth_time as text", claim("auth_time", json!(gate.provider.now().to_string()))),
        ("the name is a number", claim("preferred_username", 1)),
        ("the address is a list", claim("email", json!(["a@b.c"]))),
        ("sid is a number", claim("sid", 1)),
        ("exp with a fraction", claim("exp", json!(gate.provider.now() as f64 + 60.5))),
        ("unknown claims", claim("unknown", json!({"a": [1, 2, {"b": null}]}))),
    ] {
        assert!(login(&gate, forgery), "{name} was refused");
    }
}

#[test]
fn it28_clocks_may_differ_by_the_leeway_and_no_more() {
    let gate = Gate::builder().set("clock_leeway", "30s").start();
    // A clock that is behind shows only in the token's end. Providers back-date `iat`, so it tells nothing about their
    // clock.
    for (offset, accepted) in [(0, true), (20, true), (-20, true), (-45, true), (45, false), (-340, false)] {
        gate.provider.set_clock_offset(offset);
        assert_eq!(
            login(&gate, Forgery::new()),
            accepted,
            "{offset} s: {}",
            gate.envoy().trouble("is asked why")
        );
    }
}

#[test]
fn it23_userinfo_of_somebody_else_makes_no_session() {
    let gate = Gate::builder().set("login.userinfo", true).start();
    assert!(login(&gate, Forgery::new()));
    assert!(gate.provider.count(Endpoint::UserInfo) >= 1);
    for value in [json!("another"), json!(null), json!(7), json!(""), json!(["another"])] {
        gate.provider.edit_document(Endpoint::UserInfo, move |document| document["sub"] = value.clone());
        assert!(!login(&gate, Forgery::new()), "somebody else");
    }
    gate.provider.edit_document(Endpoint::UserInfo, |document| {
        remove(document, "sub");
    });
    assert!(!login(&gate, Forgery::new()), "nobody");
    let foreign = gate.provider.sign(&json!({"alg": "RS256"}), &json!({"sub": "x"}), &SigningKey::rsa(7));
    let subject = gate.provider.user("mlflow_user").subject;
    for (name, behaviour) in [
        ("401", Behaviour::json(401, "{}")),
        ("500", Behaviour::json(500, "{}")),
        ("a list", Behaviour::json(200, json!([{"sub": subject}]).to_string())),
        ("text", Behaviour::json(200, "\"sub\"")),
        ("a member twice", Behaviour::json(200, format!("{{\"sub\":\"admin\",\"sub\":\"{subject}\"}}"))),
        ("a token of a foreign key", Behaviour::answer(200, "application/jwt", foreign)),
        ("HTML", Behaviour::answer(200, "text/html", json!({"sub": subject}).to_string())),
        ("cut off", Behaviour::CloseMidBody),
        ("no answer", Behaviour::DropAnswer),
    ] {
        gate.provider.misbehave(Endpoint::UserInfo, Times::Next(1), behaviour);
        assert!(!login(&gate, Forgery::new()), "{name} was accepted");
        oidc_gate_tests::assert_workers_alive(&gate);
    }
    assert!(login(&gate, Forgery::new()), "a good one must still do");
}

#[test]
fn it26_people_are_told_apart_by_their_subject_and_by_nothing_else() {
    let gate = Gate::start();
    let admin = gate.provider.user("mlflow_admin");
    // The same claims as the administrator's, except for subject and groups.
    let mut twin = User::new("twin", &[]);
    twin.claims.insert("preferred_username".into(), json!(admin.username));
    twin.claims.insert("email".into(), json!("mlflow_admin@example.com"));
    twin.claims.insert("email_verified".into(), json!(true));
    gate.provider.add_user(twin.clone());
    gate.provider.sign_in_as("twin");
    let browser = Client::new();
    let journey = browser.visit(&gate.url("/")).unwrap();
    assert_eq!(journey.end().status, 403, "{}", journey.end());
    assert_eq!(gate.echo.count(), 0);

    twin.groups = vec!["/mlflow_users".to_owned()];
    for email in [
        "mlflow_admin@example.com",
        "attacker@evil.example@example.com",
        "MLFLOW_ADMIN@Example.com",
        "a@example.com\0",
    ] {
        twin.claims.insert("email".into(), json!(email));
        gate.provider.add_user(twin.clone());
        let browser = gate.signed_in("twin");
        let received = assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
        assert_eq!(received.header("x-forwarded-user"), Some(twin.subject.as_str()), "{email:?}");
        assert_ne!(twin.subject, admin.subject);
        assert_eq!(received.header("x-forwarded-groups"), Some("/mlflow_users"), "{email:?}");
        // Shown unchanged: not trimmed, not folded, not cut at a NUL.
        assert_eq!(
            received.header("x-forwarded-email"),
            Some(email.replace('\0', "%00").as_str()),
            "{email:?}"
        );
    }
}

#[test]
fn it27_metadata_of_another_issuer_leaves_the_gate_closed_and_says_why() {
    let gate = Gate::builder()
        .set("issuer.startup_wait", "500ms")
        .provider(|provider| {
            provider.edit_document(Endpoint::Discovery, |document| {
                document["issuer"] = json!("http://keycloak:8080/realms/mlflow")
            });
        })
        .start();
    let response = Client::new().navigate(&gate.url("/")).unwrap();
    assert_eq!(response.status, 503, "{response}");
    // F410: waiting does not help.
    assert!(response.header("retry-after").is_none(), "{response}");
    assert!(response.text().contains("An administrator has to act"), "{response}");
    assert_eq!(gate.echo.count(), 0);
    gate.envoy()
        .wait_for_log("http://keycloak:8080/realms/mlflow", std::time::Duration::from_secs(10))
        .unwrap();
}
