//! A whole configuration: what is accepted, and the resulting values.

mod access_token;
mod assertion;
mod mistakes;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::jose::algorithm::Algorithm;
use crate::methods::Method;
use crate::secret::Secret;
use crate::testing::test;

const KEY: &str = "mJ3vQ8zZ1uR5xkT0aWc7yLh4eNf9bGd2PsVoIqXrCtE=";
const ASSERTION_KEY: &str = "Zt7nKq2WvB9xYc4LrG6hJd8sPf1aUe3oMiTzQwXpEkR=";

/// A configuration with every field.
pub(super) const FULL: &str = r#"{
    "public_url": {"env": "MLFLOW_PUBLIC_URL", "default": "http://localhost:5000"},
    "allow_insecure_http": false,
    "issuer": {
        "url": "https://idp.example/realms/mlflow", "cluster": "keycloak",
        "origins": [{"origin": "https://keys.example:443", "cluster": "keys"}],
        "allowed_origins": ["https://login.example"],
        "timeout": "5s", "startup_wait": "5s", "refresh_interval": "5m", "max_stale": "24h",
        "access_token_marks": [
            "rfc9068", {"claims": {"present": [{"claim": ["a.b"], "values": ["c"]}, {"claim": "scp"}], "absent": ["d.e"]}}
        ]
    },
    "client": {"id": "mlflow", "secret": {"env": "OIDC_CLIENT_SECRET"}, "authentication": "client_secret_post"},
    "login": {
        "scope": "openid profile email", "userinfo": true, "timeout": "10m",
        "id_token_algorithms": ["RS256", "ES256"], "trusted_audiences": ["project"],
        "keep_fragment": true
    },
    "session": {
        "keys": [{"env": "SECRET_KEY"}, "kT0aWc7yLh4eNf9bGd2PsVoIqXrCtE_3x"],
        "idle_timeout": "30m", "absolute_timeout": "8h", "cache_ttl": "2s", "cookie_name": "mlflow",
        "redis": {
            "cluster": "redis", "username": "gate", "password": {"env": "REDIS_PASSWORD"},
            "prefix": "mlflow.prod", "timeout": "500ms"
        }
    },
    "bearer": {"audiences": ["mlflow"], "algorithms": ["ES256"], "max_lifetime": "1h", "basic": true},
    "groups": {"claim": "realm_access.roles", "format": "object_keys"},
    "identity": {
        "email_verified": "required", "trusted_headers": ["X-Forwarded-Client-Cert"],
        "assertion": {"keys": {"env": "ASSERTION_KEYS"}, "audience": "mlflow", "issuer": "gate", "header": "X-Who"}
    },
    "policy": {
        "preset": "mlflow", "admins": {"env": "OIDC_ADMIN_GROUP_NAME", "default": "mlflow_admins"},
        "users": {"env": "OIDC_GROUP_NAME"}, "viewers": "mlflow_viewers", "static_prefix": "/tracking/",
        "rules": [
            {"name": "docs", "path": {"prefix": "/docs"}, "methods": ["GET"], "access": "public"},
            {"name": "team", "path": {"regex": "/team/[a-z]+"}, "access": {"groups": ["/dept/team", "x"]}},
            {"path": {"exact": "/metrics"}, "access": "not_found"}
        ]
    },
    "clock_leeway": "30s"
}"#;

/// A configuration with only the required fields and sections.
pub(super) const MINIMAL: &str = r#"{
    "public_url": "https://mlflow.example.com",
    "issuer": {"url": "https://idp.example/realms/mlflow", "cluster": "keycloak"},
    "client": {"id": "mlflow", "secret": "s"},
    "login": {},
    "session": {"keys": "mJ3vQ8zZ1uR5xkT0aWc7yLh4eNf9bGd2PsVoIqXrCtE=", "redis": {"cluster": "redis", "password": "p"}},
    "bearer": {"audiences": "mlflow"},
    "groups": {},
    "identity": {},
    "policy": {"preset": "mlflow", "users": "mlflow_users"}
}"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET_KEY" => Some(KEY.to_owned()),
        "ASSERTION_KEYS" => Some(format!("{ASSERTION_KEY}, kT0aWc7yLh4eNf9bGd2PsVoIqXrCtE_4x")),
        "OIDC_CLIENT_SECRET" => Some("client secret".to_owned()),
        "REDIS_PASSWORD" => Some("hunter2".to_owned()),
        "OIDC_GROUP_NAME" => Some("mlflow_users, data_scientists".to_owned()),
        "WEAK_KEY" => Some("hunter2".to_owned()),
        "EMPTY" => Some(String::new()),
        "TRUE" => Some("true".to_owned()),
        "TEN_MINUTES" => Some("10m".to_owned()),
        _ => None,
    }
}

pub(super) fn load_text(json: &str) -> Result<Config, ConfigErrors> {
    load(json.as_bytes(), &environment)
}

fn minimal() -> Value {
    serde_json::from_str(MINIMAL).unwrap()
}

/// The minimal configuration with `value` at `pointer`. A null value removes the member.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut config = minimal();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value.clone());
    }
    config
}

fn errors(config: &Value) -> Vec<String> {
    match load_text(&config.to_string()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_full_configuration_arrives_field_by_field() {
    let config = load_text(FULL).unwrap();
    assert_eq!(config.public_url.origin, "http://localhost:5000");
    assert!(!config.public_url.secure_cookies);
    assert_eq!(config.issuer.url, "https://idp.example/realms/mlflow");
    assert_eq!(config.issuer.parsed.host_str(), Some("idp.example"));
    let served = ServedOrigin { origin: "https://keys.example".into(), cluster: "keys".into() };
    assert_eq!(config.issuer.origins, [served]);
    assert_eq!(config.issuer.allowed_origins, ["https://login.example"]);
    assert_eq!(config.issuer.max_stale, Duration::from_secs(24 * 3600));
    assert_eq!(config.client.secret, Some(Secret::new("client secret")));
    assert_eq!(config.client.authentication, ClientAuthentication::ClientSecretPost);
    let BrowserLogin { login, session } = config.browser.unwrap();
    assert!(login.userinfo && login.keep_fragment);
    assert_eq!(login.id_token_algorithms, [Algorithm::Rs256, Algorithm::Es256]);
    assert_eq!(session.keys, [Secret::new(KEY), Secret::new("kT0aWc7yLh4eNf9bGd2PsVoIqXrCtE_3x")]);
    assert_eq!(session.idle_timeout, Duration::from_secs(1800));
    assert_eq!(session.cookie_name, "mlflow");
    assert_eq!(session.redis.username.as_deref(), Some("gate"));
    assert_eq!(session.redis.password, Some(Secret::new("hunter2")));
    assert_eq!(session.redis.prefix, "mlflow.prod");
    assert_eq!(session.redis.timeout, Duration::from_millis(500));
    let bearer = config.bearer.unwrap();
    assert_eq!(bearer.audiences, ["mlflow"]);
    assert_eq!(bearer.max_lifetime, Some(Duration::from_secs(3600)));
    assert!(bearer.basic);
    assert_eq!(config.groups.claim, ["realm_access", "roles"]);
    assert_eq!(config.identity.email_verified, EmailVerified::Required);
    assert_eq!(config.identity.trusted_headers, ["x-forwarded-client-cert"]);
    let assertion = config.identity.assertion.unwrap();
    assert_eq!(assertion.keys[0], Secret::new(ASSERTION_KEY));
    assert_eq!(assertion.keys.len(), 2);
    assert_eq!([assertion.audience, assertion.issuer, assertion.header], ["mlflow", "gate", "x-who"]);
    assert_eq!(config.policy.preset, Some(Preset::Mlflow));
    assert_eq!(
        (config.policy.static_prefix.as_str(), &config.policy.viewers[..]),
        ("/tracking", &["mlflow_viewers".into()][..])
    );
    assert_eq!(config.policy.admins, ["mlflow_admins"]);
    assert_eq!(config.policy.users, ["mlflow_users", "data_scientists"]);
    let [docs, team, metrics] = config.policy.rules.as_slice() else { panic!("{:?}", config.policy.rules) };
    assert!(matches!(&docs.path, PathMatch::Prefix(path) if path == "/docs"));
    assert_eq!(
        (docs.name.as_str(), docs.methods.as_slice(), &docs.access),
        ("docs", &[Method::Get][..], &Access::Public)
    );
    assert!(
        matches!(&team.path, PathMatch::Regex(regex) if regex.is_match("/team/red") && !regex.is_match("/team/"))
    );
    assert_eq!(team.access, Access::Groups(vec!["/dept/team".into(), "x".into()]));
    assert_eq!((metrics.name.as_str(), &metrics.access), ("rules[2]", &Access::NotFound));
    assert_eq!(config.clock_leeway, Duration::from_secs(30));
    let warnings = [
        "public_url: is plain http on loopback: for development only",
        "identity.assertion.header: is not X-MLflow-Authorization: model providers get it, and oidc-gate-mlflow does \
         not read it",
    ];
    assert_eq!(config.warnings, warnings);
}

#[test]
fn a_minimal_configuration_gets_the_defaults() {
    let config = load_text(MINIMAL).unwrap();
    assert!(config.public_url.secure_cookies);
    assert_eq!(config.issuer.timeout, Duration::from_secs(5));
    assert_eq!(config.issuer.refresh_interval, Duration::from_secs(300));
    assert_eq!(config.client.authentication, ClientAuthentication::ClientSecretBasic);
    let BrowserLogin { login, session } = config.browser.unwrap();
    assert_eq!(login.scope, "openid profile email");
    assert!(!login.userinfo && !login.keep_fragment);
    assert_eq!(session.absolute_timeout, Duration::from_secs(12 * 3600));
    assert_eq!((session.cookie_name.as_str(), session.redis.prefix.as_str()), ("oidc-gate", "oidc-gate"));
    assert_eq!(config.bearer.unwrap().algorithms, [Algorithm::Rs256, Algorithm::Es256]);
    assert_eq!((config.groups.claim, config.groups.format), (vec!["groups".to_owned()], GroupsFormat::List));
    assert_eq!(config.identity.email_verified, EmailVerified::Optional);
    assert_eq!(config.identity.trusted_headers, [""; 0]);
    assert!(config.identity.assertion.is_none());
    assert_eq!(config.clock_leeway, Duration::from_secs(60));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn f105_groups_come_from_where_and_in_which_form_the_operator_says() {
    for (groups, claim, format) in [
        (json!({}), &["groups"][..], GroupsFormat::List),
        (json!({"claim": "a.b", "format": "list"}), &["a", "b"], GroupsFormat::List),
        (
            json!({"claim": ["a.b", {"env": "TRUE"}], "format": "space_separated"}),
            &["a.b", "true"],
            GroupsFormat::SpaceSeparated,
        ),
        (
            json!({"claim": "https://a.example/b", "format": "object_keys"}),
            &["https://a.example/b"],
            GroupsFormat::ObjectKeys,
        ),
    ] {
        let config = load_text(&with(&[("/groups", groups.clone())]).to_string()).unwrap();
        assert_eq!(
            (config.groups.claim, config.groups.format),
            (claim.iter().map(ToString::to_string).collect(), format)
        );
    }
}

#[test]
fn a_bearer_only_gate_needs_no_secret_and_no_session() {
    let config =
        with(&[("/login", Value::Null), ("/session", Value::Null), ("/client", json!({"id": "api"}))]);
    let config = load_text(&config.to_string()).unwrap();
    assert!(config.browser.is_none() && config.client.secret.is_none());
}

#[test]
fn values_from_the_environment_are_typed_like_written_ones() {
    let config = with(&[
        ("/login/userinfo", json!({"env": "TRUE"})),
        ("/issuer/refresh_interval", json!({"env": "TEN_MINUTES"})),
        ("/policy/users", json!({"env": "UNSET", "default": ["a", {"env": "OIDC_GROUP_NAME"}]})),
        ("/session/redis/password", json!({"env": "UNSET", "default": null})),
    ]);
    let config = load_text(&config.to_string()).unwrap();
    assert!(config.browser.as_ref().unwrap().login.userinfo);
    assert_eq!(config.issuer.refresh_interval, Duration::from_secs(600));
    // An item of a list is one name, even if it contains commas.
    assert_eq!(config.policy.users, ["a", "mlflow_users, data_scientists"]);
    assert!(config.browser.unwrap().session.redis.password.is_none());
}

#[test]
fn notable_settings_warn() {
    let config = with(&[
        ("/public_url", json!("http://mlflow.example.com")),
        ("/allow_insecure_http", json!(true)),
        ("/session/redis/password", Value::Null),
        ("/policy", json!({"rules": [{"path": {"prefix": "/"}, "access": "deny"}]})),
    ]);
    let expected = [
        "public_url: is plain http, allowed by allow_insecure_http: cookies and tokens can be read in transit",
        "session.redis: has no password: anyone who can connect to Redis can end sessions, but not read or forge \
         them",
        "policy: has rules that refuse access, but none that grants it",
    ];
    assert_eq!(load_text(&config.to_string()).unwrap().warnings, expected);
}

#[test]
fn f206_rules_of_one_name_share_a_reason_and_the_number_of_reasons_is_bounded() {
    let policy = |names: Vec<String>| {
        let rule =
            |name: &String| json!({"name": name, "path": {"exact": "/x"}, "access": {"groups": ["a"]}});
        let rules: Vec<Value> = names.iter().map(rule).collect();
        load_text(&with(&[("/policy/rules", json!(rules))]).to_string()).unwrap()
    };
    let config = policy(vec!["docs".into(), "Team A".into(), "docs".into()]);
    assert_eq!(config.policy.rule_reasons(), ["not_allowed_docs", "not_allowed_team_a"]);
    assert_eq!(config.warnings, [""; 0]);
    let config = policy((0..MAX_RULE_REASONS).map(|number| format!("rule {number}")).collect());
    assert_eq!((config.policy.rule_reasons().len(), config.warnings), (MAX_RULE_REASONS, vec![]));
    let config = policy((0..5000).map(|number| format!("rule {number}")).collect());
    let named = crate::metrics::RuleReasons::new(&config.policy);
    let others = crate::metrics::names(&crate::metrics::RuleReasons::default()).len();
    assert_eq!(crate::metrics::names(&named).len(), others + MAX_RULE_REASONS);
    assert_eq!(
        config.warnings,
        ["policy.rules: the metric has at most 100 reasons of named rules; refusals by the other rules \
             count as not_allowed or not_found"]
    );
    // Only rules that can refuse a request have a label.
    let rules = json!([
        {"name": "a", "path": {"exact": "/a"}, "access": "public"},
        {"name": "b", "path": {"exact": "/b"}, "access": "signed_in"},
        {"name": "c", "path": {"exact": "/c"}, "access": "not_found"},
        {"path": {"exact": "/d"}, "access": "deny"},
    ]);
    let config = load_text(&with(&[("/policy/rules", rules)]).to_string()).unwrap();
    assert_eq!(config.policy.rule_reasons(), ["not_found_c"]);
}

/// Every block that the documentation marks as a whole configuration is loaded and checked against the schema.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn the_documented_examples_load() {
    let documentation = include_str!("../../../../../docs/configuration.md");
    let blocks: Vec<&str> = documentation
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .filter(|block| block.contains("public_url:"))
        .collect();
    assert!(blocks.len() >= 2, "the full and the bearer-only example");
    for block in blocks {
        let value: Value = serde_saphyr::from_str(block).unwrap();
        assert_eq!(errors(&value), [""; 0], "{block}");
        #[cfg(feature = "schema")]
        jsonschema::draft202012::new(&json_schema()).unwrap().validate(&value).unwrap();
    }
}
