//! What an application that verifies the gate's assertion gets, and the preset for MLflow in front of it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::echo::Received;
use oidc_gate_testkit::envoy::Verdict;
use oidc_gate_testkit::provider::{SigningKey, User};
use oidc_gate_tests::forge::claim;
use oidc_gate_tests::{Builder, Gate, assert_allowed, assert_refused, assert_workers_alive};
use serde_json::{Value, json};

const HEADER: &str = "x-mlflow-authorization";
const KEY: &str = "Zt7nKq2WvB9xYc4LrG6hJd8sPf1aUe3oMiTzQwXpEkR=";
const NEXT_KEY: &str = "kT0aWc7yLh4eNf9bGd2PsVoIqXrCtE_4xQmB8nZs5uA=";

/// A gate in front of an MLflow that knows its users.
fn with_users() -> Builder {
    Gate::builder().mlflow_preset().plugin(|plugin| {
        plugin["identity"]["assertion"]["keys"] = json!([KEY]);
    })
}

/// The single assertion that a request has.
fn assertion(received: &Received) -> &str {
    let values = received.values(HEADER);
    let [value] = values[..] else { panic!("{values:?}") };
    value.strip_prefix("Bearer ").unwrap()
}

fn is_signed_with(token: &str, key: &str) -> bool {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    URL_SAFE_NO_PAD.encode(SigningKey::Hs256(key.into()).sign(signed.as_bytes())) == signature
}

/// The claims of the assertion, if one of these keys has signed it.
fn verified(received: &Received, keys: &[&str]) -> Value {
    let token = assertion(received);
    assert!(keys.iter().any(|key| is_signed_with(token, key)), "no key has signed {token}");
    let part = |number| -> Value {
        let text = token.split('.').nth(number).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(part(0)["alg"], "HS256");
    part(1)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn the_application_gets_one_assertion_for_a_session_and_for_a_token() {
    let gate = with_users().start();
    gate.plant_secret(KEY);
    let browser = gate.signed_in("mlflow_user");
    let session = assert_allowed(&gate, || browser.fetch(&gate.url("/")));
    let token = gate.provider.access_token("mlflow_admin");
    let bearer = assert_allowed(&gate, || gate.with_token("/", &token).send());
    for (received, name) in [(session, "mlflow_user"), (bearer, "mlflow_admin")] {
        let claims = verified(&received, &[KEY]);
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("oidc-gate"), &json!("mlflow")));
        assert_eq!(claims["name"], name);
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        assert_eq!(received.header("x-forwarded-user"), claims["sub"].as_str());
    }
    let public = assert_allowed(&gate, || Client::new().fetch(&gate.url("/health")));
    assert_eq!(public.values(HEADER), [""; 0]);
}

#[test]
fn an_assertion_that_a_client_sends_never_reaches_the_application() {
    let gate = with_users().start();
    let token = gate.provider.access_token("mlflow_user");
    let forged = SigningKey::Hs256(KEY.into()).token(r#"{"alg":"HS256"}"#, r#"{"name":"root"}"#);
    let forged = format!("Bearer {forged}");
    for names in [
        &[HEADER][..],
        &["X-MLflow-Authorization"],
        &[HEADER, HEADER],
        // With underscores Envoy refuses the request.
        &["x.mlflow.authorization", HEADER],
    ] {
        for path in ["/", "/health", "/api/2.0/mlflow/runs/get"] {
            let mut request = gate.with_token(path, &token);
            for name in names {
                request = request.header(name, &forged);
            }
            let received = assert_allowed(&gate, || request.send());
            let found = received.headers.iter().find(|(_, value)| value.contains(&forged));
            assert!(found.is_none(), "{names:?} {path}: {found:?}");
            if path != "/health" {
                assert_eq!(verified(&received, &[KEY])["name"], "mlflow_user");
            }
        }
    }
}

#[test]
fn keys_are_exchanged_without_a_moment_in_which_the_application_refuses() {
    let gate = with_users().replaceable().start();
    let browser = gate.signed_in("mlflow_user");
    // The application knows both keys before the gate does.
    let known = [KEY, NEXT_KEY];
    let first = assert_allowed(&gate, || browser.fetch(&gate.url("/")));
    verified(&first, &[KEY]);
    let next = gate.config.clone().plugin(|plugin| {
        plugin["identity"]["assertion"]["keys"] = json!([NEXT_KEY, KEY]);
    });
    assert_eq!(gate.envoy().push_listener(&next).unwrap(), Verdict::Accepted);
    gate.wait_until("does not sign with the new key on each worker", || {
        let all: Vec<Received> = (0..16)
            .map(|_| {
                assert_eq!(browser.fetch(&gate.url("/")).unwrap().status, 200);
                gate.echo.last().unwrap()
            })
            .collect();
        all.iter().all(|received| {
            verified(received, &known);
            is_signed_with(assertion(received), NEXT_KEY)
        })
    });
}

#[test]
fn rights_in_the_assertion_follow_each_token() {
    let gate = with_users().start();
    for groups in
        [json!(["/mlflow_users", "/mlflow_admins"]), json!(["/mlflow_users"]), json!(["/mlflow_viewers"])]
    {
        let token = gate.provider.forged_access_token("mlflow_user", &claim("groups", groups.clone()));
        for _ in 0..4 {
            let received = assert_allowed(&gate, || gate.with_token("/", &token).send());
            assert_eq!(verified(&received, &[KEY])["groups"], groups);
        }
    }
}

#[test]
fn a_token_as_password_is_a_bearer_and_a_wrong_password_opens_no_dialog() {
    let gate = with_users().start();
    let token = gate.provider.access_token("mlflow_user");
    let send =
        |value: &str| Client::new().request("GET", &gate.url("/")).header("authorization", value).send();
    for user in ["", "anything", "mlflow_user"] {
        let received = assert_allowed(&gate, || send(&basic(user, &token)));
        assert_eq!(verified(&received, &[KEY])["name"], "mlflow_user");
        assert_eq!(received.header("authorization"), None);
    }
    for value in
        [basic("mlflow_user", "password123"), basic("mlflow_user", ""), basic(&token, "x"), "Basic x".into()]
    {
        let response = assert_refused(&gate, 401, || send(&value));
        let challenges = response.header_lines("www-authenticate");
        assert!(challenges.iter().all(|challenge| challenge.starts_with("Bearer")), "{challenges:?}");
    }
    let without = Gate::builder().set("bearer.basic", false).start();
    let token = without.provider.access_token("mlflow_user");
    let value = basic("mlflow_user", &token);
    let send = || Client::new().request("GET", &without.url("/")).header("authorization", &value).send();
    assert_refused(&without, 401, send);
}

#[test]
fn a_model_provider_hears_nothing_of_the_user_and_gets_its_own_key() {
    let gate = with_users().start();
    let token = gate.provider.access_token("mlflow_user");
    let ours = format!("Bearer {token}");
    let browser = gate.signed_in("mlflow_user");
    for path in
        ["/gateway/openai/v1/chat/completions", "/gateway/proxy/a/b", "/gateway/mlflow/v1/chat/completions"]
    {
        let agent = Client::new()
            .request("POST", &gate.url(path))
            .header("authorization", "Bearer key-of-the-provider")
            .header(HEADER, &ours)
            .header("cookie", "a=1")
            .header("x-forwarded-user", "root")
            .json(&json!({"model": "m"}));
        let by_agent = assert_allowed(&gate, || agent.send());
        assert_eq!(by_agent.header("authorization"), Some("Bearer key-of-the-provider"), "{path}");
        let plain =
            Client::new().request("POST", &gate.url(path)).bearer(&token).json(&json!({"model": "m"}));
        let by_token = assert_allowed(&gate, || plain.send());
        assert_eq!(by_token.header("authorization"), None, "{path}");
        let form = browser.request("POST", &gate.url(path)).header("origin", gate.origin()).json(&json!({}));
        let by_session = assert_allowed(&gate, || form.send());
        for received in [by_agent, by_token, by_session] {
            assert_eq!(verified(&received, &[KEY])["name"], "mlflow_user", "{path}");
            let told: Vec<&String> = received
                .headers
                .iter()
                .map(|(name, _)| name)
                .filter(|name| {
                    *name == "cookie"
                        || name.starts_with("x-forwarded-") && *name != "x-forwarded-proto"
                        || name.starts_with("x-envoy-")
                })
                .collect();
            assert!(told.is_empty(), "{path}: {told:?}");
            let values: Vec<&String> =
                received.headers.iter().filter(|(name, _)| name != HEADER).map(|(_, v)| v).collect();
            assert!(
                values.iter().all(|value| !value.contains("mlflow_user") && !value.contains(&token)),
                "{values:?}"
            );
        }
    }
    // The provider's key is no credential of ours.
    let stranger = || {
        let url = gate.url("/gateway/openai/v1/chat/completions");
        Client::new().request("POST", &url).bearer("key-of-the-provider").json(&json!({})).send()
    };
    assert_refused(&gate, 401, stranger);
    assert_workers_alive(&gate);
}

#[test]
fn the_preset_decides_by_class_of_route_and_group() {
    let gate = with_users().start();
    for (name, group) in [("vera", "/mlflow_viewers"), ("uli", "/mlflow_users"), ("ada", "/mlflow_admins")] {
        gate.provider.add_user(User::new(name, &[group]));
    }
    // Method, path, and whether a viewer, a user and an administrator have access.
    for (method, path, allowed) in [
        ("GET", "/", [true, true, true]),
        ("POST", "/api/2.0/mlflow/runs/search", [true, true, true]),
        ("POST", "/ajax-api/2.0/mlflow/runs/create", [false, true, true]),
        ("POST", "/api/2.0/mlflow/runs/delete", [false, true, true]),
        ("POST", "/gateway/mlflow/v1/chat/completions", [false, true, true]),
        ("POST", "/ajax-api/3.0/mlflow/demo/generate", [false, false, true]),
        ("POST", "/api/3.0/jobs", [false, false, true]),
        ("GET", "/metrics", [false, false, true]),
        ("POST", "/api/9.0/mlflow/of-a-later-version", [false, false, true]),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message", [false, false, false]),
        ("POST", "/api/2.0/mlflow/users/create", [false, false, false]),
        ("PATCH", "/api/2.0/mlflow/users/update-password", [false, false, false]),
    ] {
        for (name, allowed) in ["vera", "uli", "ada"].into_iter().zip(allowed) {
            let token = gate.provider.access_token(name);
            let send = || Client::new().request(method, &gate.url(path)).bearer(&token).send();
            if allowed {
                assert_allowed(&gate, send);
            } else {
                assert_refused(&gate, 403, send);
            }
        }
        let anonymous = || Client::new().request(method, &gate.url(path)).send();
        assert_refused(&gate, 401, anonymous);
    }
}

#[test]
fn a_workspace_is_the_users_choice_where_mlflow_knows_the_user() {
    let gate = with_users().start();
    let token = gate.provider.access_token("mlflow_user");
    let send = |names: &[(&str, &str)]| {
        let mut request = gate.with_token("/", &token);
        for (name, value) in names {
            request = request.header(name, value);
        }
        assert_allowed(&gate, || request.send())
    };
    assert_eq!(send(&[("x-mlflow-workspace", "a")]).values("x-mlflow-workspace"), ["a"]);
    let two = send(&[("x-mlflow-workspace", "a"), ("x-mlflow-workspace", "b")]);
    assert_eq!(two.values("x-mlflow-workspace"), [""; 0]);
    assert_eq!(send(&[("x.mlflow.workspace", "a")]).values("x.mlflow.workspace"), [""; 0]);
    let anonymous =
        || Client::new().request("GET", &gate.url("/health")).header("x-mlflow-workspace", "a").send();
    assert_eq!(assert_allowed(&gate, anonymous).values("x-mlflow-workspace"), [""; 0]);
}
