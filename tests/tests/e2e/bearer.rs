//! API clients with a bearer token.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::{Endpoint, Forgery, OldKeys, SigningKey};
use oidc_gate_tests::forge::{claim, header, spoiled, without_claim, without_header};
use oidc_gate_tests::{Gate, assert_allowed, assert_refused, assert_stopped};
use serde_json::json;

const API: &str = "/api/2.0/mlflow/experiments/search";

#[test]
fn tokens_under_rs256_and_es256_use_the_api() {
    let gate = Gate::start();
    for algorithm in ["RS256", "ES256"] {
        gate.provider.sign_with(algorithm);
        let token = gate.provider.access_token("mlflow_user");
        let body = json!({"max_results": 1});
        let received = assert_allowed(&gate, || {
            Client::new().request("POST", &gate.url(API)).bearer(&token).json(&body).send()
        });
        assert_eq!(received.target, API, "{algorithm}");
        assert_eq!(received.body_bytes, body.to_string().len() as u64, "{algorithm}");
        assert_eq!(received.header("authorization"), None, "{algorithm}");
        assert_eq!(received.header("x-forwarded-preferred-username"), Some("mlflow_user"), "{algorithm}");
    }
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
}

#[test]
fn a_token_from_the_password_grant_uses_the_api() {
    let gate = Gate::start();
    let token_endpoint = format!("{}/protocol/openid-connect/token", gate.provider.issuer());
    let secret = gate.provider.client_secret();
    let response = Client::new()
        .request("POST", &token_endpoint)
        .form(&[
            ("grant_type", "password"),
            ("client_id", "mlflow"),
            ("client_secret", secret),
            ("username", "mlflow_user"),
            ("password", "password123"),
        ])
        .send()
        .unwrap();
    let token = response.json()["access_token"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned();
    assert_allowed(&gate, || gate.with_token(API, &token).send());
}

#[test]
fn bt03_to_bt08_tokens_that_are_not_good_in_every_respect_are_refused_alike() {
    let gate = Gate::start();
    let provider = &gate.provider;
    let now = provider.now();
    let foreign = SigningKey::rsa(7);
    let cases: Vec<(&str, Forgery)> = vec![
        ("another issuer", claim("iss", "http://localhost:1/realms/mlflow")),
        ("issuer with a slash", claim("iss", format!("{}/", provider.issuer()))),
        ("no issuer", without_claim("iss")),
        ("another audience", claim("aud", "other")),
        ("audience in a list of others", claim("aud", json!(["account", "other"]))),
        ("audience by prefix", claim("aud", "mlflow2")),
        ("audience in capitals", claim("aud", "MLFLOW")),
        ("audience as an object", claim("aud", json!({"mlflow": 1}))),
        ("no audience", without_claim("aud")),
        ("no expiry", without_claim("exp")),
        ("expired", claim("exp", now - 3600)),
        ("expiry as text", claim("exp", "9999999999")),
        ("negative expiry", claim("exp", -1)),
        (
            "huge expiry",
            Forgery::new().payload_text(|text| text.replacen("\"exp\":", "\"exp\":1e300,\"exp_was\":", 1)),
        ),
        ("not yet valid", claim("nbf", now + 3600)),
        ("not-before as text", claim("nbf", "x")),
        ("no subject", without_claim("sub")),
        ("subject as a number", claim("sub", 123)),
        ("empty subject", claim("sub", "")),
        ("an ID token", claim("typ", "ID")),
        ("a refresh token", claim("typ", "Refresh")),
        ("a logout token", header("typ", "logout+jwt")),
        (
            "bound to a key by DPoP",
            claim("cnf", json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})),
        ),
        ("critical header", header("crit", json!(["exp"]))),
        ("empty critical header", header("crit", json!([]))),
        ("another kid", header("kid", "unknown")),
        ("alg none", header("alg", "none")),
        ("alg in capitals", header("alg", "NONE")),
        ("alg missing", without_header("alg")),
        ("alg a number", header("alg", 256)),
        ("alg of another key", header("alg", "ES256")),
        ("unsigned", Forgery::new().key(SigningKey::Unsigned)),
        ("a foreign key under our kid", {
            let kid = provider.key("RS256").kid();
            Forgery::new().key(foreign.clone()).header(move |header| header["kid"] = json!(kid))
        }),
        ("a foreign key", Forgery::new().key(foreign)),
        (
            "the client secret as HMAC key",
            Forgery::new().key(SigningKey::Hs256(provider.client_secret().into())),
        ),
        ("the public key as HMAC key", {
            Forgery::new().key(SigningKey::Hs256(provider.key("RS256").jwk().to_string().into()))
        }),
        ("a changed signature", Forgery::new().token(|token| spoiled(&token))),
        ("an empty signature", Forgery::new().token(|token| token[..=token.rfind('.').unwrap()].to_owned())),
        ("two parts", Forgery::new().token(|token| token[..token.rfind('.').unwrap()].to_owned())),
        ("four parts", Forgery::new().token(|token| format!("{token}.x"))),
        ("five parts", Forgery::new().token(|token| format!("{token}.x.y"))),
        ("padding", Forgery::new().token(|token| format!("{token}="))),
        (
            "duplicate subject",
            Forgery::new().payload_text(|text| text.replacen('{', "{\"sub\":\"admin\",", 1)),
        ),
        (
            "duplicate subject, escaped",
            Forgery::new().payload_text(|text| text.replacen('{', "{\"\\u0073ub\":\"x\",", 1)),
        ),
        ("payload is a list", Forgery::new().payload_text(|text| format!("[{text}]"))),
        ("payload is no JSON", Forgery::new().payload_text(|_| "hello".to_owned())),
        ("payload is nested deeply", Forgery::new().payload_text(|_| "[".repeat(20_000))),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for (name, forgery) in cases {
        let token = provider.forged_access_token("mlflow_user", &forgery);
        gate.plant_secret(&token);
        let response = assert_refused(&gate, 401, || {
            let answer = gate.with_token(API, &token).send()?;
            eprintln!("{name}: {}", answer.status);
            Ok(answer)
        });
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""),
            "{name}: {response}"
        );
        assert_eq!(response.json()["error_code"], "UNAUTHENTICATED", "{name}: {response}");
        // Everything except the request id, which is also in the header (F407).
        let id = response.header("x-request-id").unwrap_or_default().to_owned();
        assert!(!id.is_empty() && response.json()["request_id"] == id.as_str(), "{name}: {response}");
        answers.insert(response.text().replace(&id, "ID"));
    }
    // CF05: the response does not reveal which check failed.
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

#[test]
fn bt10_only_a_well_formed_bearer_credential_counts() {
    let gate = Gate::start();
    let token = gate.provider.access_token("mlflow_user");
    for good in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER {token}")] {
        assert_allowed(&gate, || {
            Client::new().request("GET", &gate.url(API)).header("authorization", &good).send()
        });
    }
    for bad in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {token} {token}"),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer \"{token}\""),
        format!("BearerX {token}"),
        format!("Token {token}"),
        format!("DPoP {token}"),
        "Basic bWxmbG93OnBhc3N3b3Jk".to_owned(),
        token.clone(),
    ] {
        let request = || Client::new().request("GET", &gate.url(API)).header("authorization", &bad).send();
        assert_refused(&gate, 401, request);
    }
}

#[test]
fn bt10_two_authorization_headers_are_refused() {
    let gate = Gate::start();
    let token = format!("Bearer {}", gate.provider.access_token("mlflow_user"));
    assert_refused(&gate, 401, || {
        let client = Client::new();
        let request = client.request("GET", &gate.url(API));
        request.header("authorization", &token).header("authorization", &token).send()
    });
}

#[test]
fn bt11_a_token_anywhere_but_in_the_authorization_header_is_not_accepted() {
    let gate = Gate::start();
    let token = gate.provider.access_token("mlflow_user");
    gate.plant_secret(&token);
    assert_refused(&gate, 400, || Client::new().fetch(&gate.url(&format!("{API}?access_token={token}"))));
    for name in ["x-forwarded-access-token", "x-auth-request-access-token", "x-access-token", "cookie"] {
        let value = if name == "cookie" { format!("access_token={token}") } else { token.clone() };
        assert_refused(&gate, 401, || {
            Client::new().request("GET", &gate.url(API)).header(name, &value).send()
        });
    }
    let form = [("access_token", token.as_str())];
    assert_refused(&gate, 401, || Client::new().request("POST", &gate.url(API)).form(&form).send());
}

#[test]
fn bt12_a_bad_token_is_refused_even_when_a_good_session_comes_along() {
    let (gate, browser) = Gate::with_browser();
    assert_refused(&gate, 401, || browser.fetching("GET", &gate.url(API)).bearer("not.a.token").send());
    let admin = gate.provider.access_token("mlflow_admin");
    let received = assert_allowed(&gate, || browser.fetching("GET", &gate.url(API)).bearer(&admin).send());
    assert_eq!(received.header("x-forwarded-preferred-username"), Some("mlflow_admin"));
}

#[test]
fn a_member_of_no_group_gets_403_and_json() {
    let gate = Gate::start();
    let token = gate.provider.access_token("outsider");
    let response = assert_refused(&gate, 403, || gate.with_token(API, &token).send());
    assert_eq!(response.json()["error_code"], "PERMISSION_DENIED", "{response}");
}

#[test]
fn bt16_only_the_exact_group_counts() {
    let gate = Gate::start();
    for groups in [
        json!(null),
        json!([]),
        json!({}),
        json!(7),
        json!([7]),
        json!(["/x/mlflow_users"]),
        json!(["/mlflow_users2"]),
        json!(["/mlflow_user"]),
        json!(["/MLFLOW_USERS"]),
        json!(["/mlflow_users "]),
        json!(["mlflow.users"]),
        json!([["/mlflow_users"]]),
        json!(["/mlflow_users/sub"]),
        json!(["//mlflow_users"]),
    ] {
        let token = gate.provider.forged_access_token("mlflow_user", &claim("groups", groups.clone()));
        // A claim of the wrong type makes the token invalid, or leaves the person without groups.
        assert_stopped(&gate, &[401, 403], groups, || gate.with_token(API, &token).send());
    }
    for groups in [
        json!(["/mlflow_users"]),
        json!(["mlflow_users"]),
        json!(["/a", "/mlflow_users"]),
        json!(["/mlflow_admins"]),
    ] {
        let token = gate.provider.forged_access_token("mlflow_user", &claim("groups", groups));
        assert_allowed(&gate, || gate.with_token(API, &token).send());
    }
}

#[test]
fn jw09_a_token_under_a_new_key_is_accepted_after_one_look_at_the_keys() {
    let gate = Gate::builder().workers(1).start();
    let client = Client::new();
    let old = gate.provider.access_token("mlflow_user");
    assert_allowed(&gate, || client.request("GET", &gate.url(API)).bearer(&old).send());
    let before = gate.provider.count(Endpoint::Jwks);
    gate.provider.rotate_keys(OldKeys::StayListed);
    let new = gate.provider.access_token("mlflow_user");
    assert_allowed(&gate, || client.request("GET", &gate.url(API)).bearer(&new).send());
    assert_allowed(&gate, || client.request("GET", &gate.url(API)).bearer(&old).send());
    assert_eq!(gate.provider.count(Endpoint::Jwks) - before, 1);
}

#[test]
fn jw04_unknown_key_ids_do_not_make_the_gate_hammer_the_provider() {
    let gate = Gate::start();
    let before = gate.provider.count(Endpoint::Jwks);
    for number in 0..30 {
        let forgery = header("kid", format!("unknown-{number}"));
        let token = gate.provider.forged_access_token("mlflow_user", &forgery);
        let response = gate.with_token(API, &token).send().unwrap();
        assert_eq!(response.status, 401, "{response}");
    }
    let fetches = gate.provider.count(Endpoint::Jwks) - before;
    assert!(fetches <= 2, "{fetches} fetches");
}

#[test]
fn a_bearer_needs_no_redis() {
    let gate = Gate::start();
    let token = gate.provider.access_token("mlflow_user");
    gate.redis().stop();
    for _ in 0..5 {
        assert_allowed(&gate, || gate.with_token(API, &token).send());
    }
}

#[test]
fn bt18_a_client_that_acts_for_itself_is_passed_on_without_a_persons_name() {
    let gate = Gate::start();
    let forgery = Forgery::new().claims(|claims| {
        let claims = claims.as_object_mut().unwrap();
        claims.remove("sid");
        claims.insert("client_id".into(), json!("mlflow"));
        claims.insert("preferred_username".into(), json!("service-account-mlflow"));
        claims.insert("groups".into(), json!(["/mlflow_users"]));
    });
    let token = gate.provider.forged_access_token("mlflow_user", &forgery);
    let received = assert_allowed(&gate, || gate.with_token(API, &token).send());
    assert_eq!(received.values("x-forwarded-preferred-username"), Vec::<&str>::new());
}

/// A bearer-only gate needs neither the login's endpoints nor Redis.
#[test]
fn f202_a_bearer_only_gate_works_with_metadata_that_names_nothing_but_keys() {
    let gate = Gate::builder()
        .plugin(|plugin| {
            let plugin = plugin.as_object_mut().unwrap();
            plugin.remove("login");
            plugin.remove("session");
        })
        .provider(|provider| {
            provider.edit_document(Endpoint::Discovery, |document| {
                *document = json!({
                    "issuer": document["issuer"], "jwks_uri": document["jwks_uri"],
                    "authorization_endpoint": "urn:none", "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                    "code_challenge_methods_supported": ["plain"], "require_pushed_authorization_requests": true,
                });
            });
        })
        .start();
    let token = gate.provider.access_token("mlflow_user");
    assert_allowed(&gate, || gate.with_token(API, &token).send());
    assert_refused(&gate, 401, || gate.with_token(API, "not.a.token").send());
}
