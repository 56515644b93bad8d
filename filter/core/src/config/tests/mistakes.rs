//! A whole configuration: every error is reported, exactly once and without a secret.

use serde_json::{Value, json};

use super::super::*;
use super::{FULL, KEY, MINIMAL, environment, errors, load_text, with};
use crate::testing::test;

#[test]
fn a_configuration_with_many_mistakes_gives_exactly_that_many_errors() {
    let config = json!({
        "public_url": "https://mlflow.example.com/mlflow",
        "issuer": {"url": "http://idp.example/realms/x", "timeout": 5.0, "cluster": "keycloak", "clutser": "x"},
        "client": {"id": "mlflow", "secret": {"env": "EMPTY"}},
        "login": {"scope": "profile email", "userinfo": "yes", "id_token_algorithms": ["RS256", "none", "HS256"]},
        "session": {
            "keys": [{"env": "WEAK_KEY"}, KEY, KEY],
            "idle_timeout": "24h",
            "cookie_name": "__Host-x",
            "redis": {"cluster": "", "prefix": "a:b"}
        },
        "bearer": {"audiences": ["*"]},
        "groups": {"claim": "a..b"},
        "identity": {"email_verified": "yes", "trusted_headers": ["x-envoy-retry-on", "X-Forwarded-User", "x y"]},
        "policy": {
            "preset": "mlflow",
            "admins": ["/"],
            "rules": [
                {"path": {"prefix": "docs"}, "access": "public"},
                {"path": {"regex": "("}, "access": "everyone"},
                {"path": {"exact": "/oauth2/callback"}, "methods": ["get"], "access": "public"}
            ]
        },
        "clock_leeway": "10m",
        "sesion": {}
    });
    let expected = [
        "client.secret: environment variable EMPTY is not set or empty, and there is no default \
             (Envoy passes on only what vm_config.environment_variables.host_env_keys lists)",
        "sesion: is not a known field; did you mean \"session\"?",
        "issuer.clutser: is not a known field; did you mean \"cluster\"?",
        "issuer.timeout: a duration needs its unit: write \"5s\", \"10m\" or \"1h 30m\", not a bare number",
        "login.userinfo: expected true or false, found \"yes\"",
        "identity.email_verified: expected one of optional, required, found \"yes\"",
        "policy.rules[1].access: expected one of public, signed_in, admins, users, viewers, deny, not_found, groups, found \"everyone\"",
        "public_url: must not have a path",
        "issuer.url: is plain http to a host that is not loopback; use https (or set allow_insecure_http)",
        "login.scope: must contain openid (OIDC Core 3.1.2.1)",
        "login.id_token_algorithms[1]: must not be none: anybody could create an unsigned token",
        "login.id_token_algorithms[2]: must not be an HS algorithm: the key that verifies such a token can also \
         create one; use one of RS256, RS384, RS512, ES256, ES384, ES512",
        "session.keys[0]: must have at least 32 bytes; make one with: openssl rand -base64 32",
        "session.keys[2]: is the same key as an earlier one",
        "session.cookie_name: must not begin with __; the gate adds __Host- where it applies",
        "session.redis.cluster: is empty",
        "session.redis.prefix: must be 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        "session.idle_timeout: must not be longer than absolute_timeout (12h)",
        "bearer.audiences[0]: contains '*', but there are no wildcards here: values are compared whole",
        "groups.claim: has an empty name between its dots",
        "identity.trusted_headers[0]: controls Envoy: a client could make it retry, wait or count without limit",
        "identity.trusted_headers[1]: is reserved for the gate: the application could not tell who set it",
        "identity.trusted_headers[2]: is not a header name (RFC 9110 5.1)",
        "policy.admins[0]: names no group",
        "policy.rules[0].path.prefix: must begin with /",
        "policy.rules[1].path.regex: does not compile: ",
        "policy.rules[2].methods[0]: is not a method: names are case-sensitive, write GET",
        "policy.rules[2].path: covers /oauth2/, the gate's own endpoints, which no rule can make public",
        "clock_leeway: must be 0s to 5m, is 10m",
    ];
    let mut found = errors(&config);
    let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    found.sort();
    expected.sort();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.starts_with(expected.as_str()), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn one_mistake_is_one_error() {
    for (change, error) in [
        (("/public_url", Value::Null), "public_url: is missing"),
        (("/issuer", json!("x")), "issuer: expected an object, found text"),
        (("/issuer/url", Value::Null), "issuer.url: is missing"),
        (
            ("/issuer/cluster", json!("redis")),
            "session.redis.cluster: is also issuer.cluster; Redis needs a separate cluster with the TCP connection \
             pool",
        ),
        (
            ("/issuer/origins", json!([{"origin": "https://a.example"}])),
            "issuer.origins[0].cluster: is missing",
        ),
        (
            ("/issuer/origins", json!([{"origin": "https://*.example", "cluster": "a"}])),
            "issuer.origins[0].origin: contains '*', but there are no wildcards here: values are compared whole",
        ),
        (
            ("/issuer/origins", json!([{"origin": "https://idp.example:443", "cluster": "a"}])),
            "issuer.origins[0].origin: is the issuer's own origin, which uses issuer.cluster",
        ),
        (
            (
                "/issuer/origins",
                json!([
                    {"origin": "https://a.example", "cluster": "a"}, {"origin": "https://A.example/", "cluster": "b"}
                ]),
            ),
            "issuer.origins[1].origin: is listed twice: an origin has one cluster",
        ),
        (
            ("/issuer/origins", json!([{"origin": "https://a.example", "cluster": "redis"}])),
            "session.redis.cluster: is also the cluster of issuer.origins[0]; Redis needs a separate cluster with \
             the TCP connection pool",
        ),
        (
            ("/issuer/allowed_origins", json!("*")),
            "issuer.allowed_origins[0]: contains '*', but there are no wildcards here: values are compared whole",
        ),
        (
            ("/issuer/allowed_origins", json!(["https://a.example/x"])),
            "issuer.allowed_origins[0]: must not have a path",
        ),
        (("/issuer/refresh_interval", json!("10s")), "issuer.refresh_interval: must be 30s to 1day, is 10s"),
        (
            ("/issuer/max_stale", json!("2m")),
            "issuer.max_stale: must not be shorter than refresh_interval (5m): keys would expire between two fetches",
        ),
        (
            ("/issuer/access_token_marks", json!([])),
            "issuer.access_token_marks: is empty: no token could be accepted; remove it to use the default",
        ),
        (
            ("/issuer/access_token_marks", json!(["rfc9086"])),
            "issuer.access_token_marks[0]: expected one of rfc9068, keycloak, claims, found \"rfc9086\"; did you mean rfc9068?",
        ),
        (
            ("/issuer/access_token_marks", json!([{"claims": {"present": []}}])),
            "issuer.access_token_marks[0].claims.present: is empty: every token would be an access token",
        ),
        (
            ("/issuer/access_token_marks", json!(["keycloak", {"claims": {"absent": ["nonce"]}}])),
            "issuer.access_token_marks[1].claims.present: is missing",
        ),
        (
            ("/issuer/access_token_marks", json!([{"claims": {"present": [{"values": ["a"]}]}}])),
            "issuer.access_token_marks[0].claims.present[0].claim: is missing",
        ),
        (
            (
                "/issuer/access_token_marks",
                json!([{"claims": {"present": [{"claim": "scp", "values": []}]}}]),
            ),
            "issuer.access_token_marks[0].claims.present[0].values: is empty: no token has such a claim; remove it \
             to allow any value",
        ),
        (
            (
                "/issuer/access_token_marks",
                json!([{"claims": {"present": [{"claim": "token_use", "values": ["ID"]}]}}]),
            ),
            "issuer.access_token_marks[0].claims.present[0].values: has \"ID\", which marks another kind of token",
        ),
        (
            (
                "/issuer/access_token_marks",
                json!([{"claims": {"present": [{"claim": "scp"}], "absent": [""]}}]),
            ),
            "issuer.access_token_marks[0].claims.absent[0]: is empty",
        ),
        (
            ("/login/trusted_audiences", json!(["a", "*"])),
            "login.trusted_audiences[1]: contains '*', but there are no wildcards here: values are compared whole",
        ),
        (
            ("/policy/rules", json!([{"name": "\u{5065}", "path": {"exact": "/"}, "access": "deny"}])),
            "policy.rules[0].name: needs a letter a-z or a digit: the metric's reason consists of these",
        ),
        (
            (
                "/policy/rules",
                json!([
                    {"name": "team a", "path": {"exact": "/a"}, "access": "deny"},
                    {"name": "Team-A", "path": {"exact": "/b"}, "access": "deny"},
                ]),
            ),
            "policy.rules[1].name: becomes team_a in the metric's reason, as does \"team a\": use the same name, or \
             names that differ in a-z and 0-9",
        ),
        (
            (
                "/policy/rules",
                json!([{"path": {"prefix": "/dav"}, "methods": ["GET", "PROPFIND"], "access": "users"}]),
            ),
            "policy.rules[0].methods[1]: is \"PROPFIND\", which the gate refuses with 400 before any rule applies; \
             it allows GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (("/client", Value::Null), "client: is missing"),
        (("/client/id", json!(7.0)), "client.id: expected text, found a number; write it in quotes"),
        (("/client/id", json!("ml\u{e9}")), "client.id: must be printable ASCII (RFC 6749 A.1)"),
        (("/client/secret", json!("")), "client.secret: is empty"),
        (
            ("/client/secret", Value::Null),
            "client.secret: is missing; login and bearer.check_interval need it",
        ),
        (
            ("/client/secret", json!("hunter2\n")),
            "client.secret: must be printable ASCII (RFC 6749 A.2); is there a line break at its end?",
        ),
        (
            ("/client/authentication", json!("client_secret_jwt")),
            "client.authentication: expected one of client_secret_basic, client_secret_post, found \"client_secret_jwt\"",
        ),
        (("/login", json!([])), "login: expected an object, found a list"),
        (("/login", Value::Null), "session: has no effect without login; add login or remove session"),
        (
            ("/login/scope", json!("openid,email")),
            "login.scope: must contain openid (OIDC Core 3.1.2.1); scopes are separated by spaces, not commas",
        ),
        (
            ("/login/scope", json!("openid \"x\"")),
            "login.scope: must be scopes of printable ASCII, separated by spaces (RFC 6749 3.3)",
        ),
        (("/login/timeout", json!("11m")), "login.timeout: must be 30s to 10m, is 11m"),
        (
            ("/login/id_token_algorithms", json!([])),
            "login.id_token_algorithms: is empty: no ID token could be accepted",
        ),
        (("/session", Value::Null), "session: is missing; login needs it"),
        (("/session", json!(true)), "session: expected an object, found true or false"),
        (("/session/keys", json!([])), "session.keys: is empty: no session could be encrypted"),
        (
            ("/session/keys", json!({"env": "UNSET"})),
            "session.keys: environment variable UNSET is not set or empty, and there is no default \
             (Envoy passes on only what vm_config.environment_variables.host_env_keys lists)",
        ),
        (
            ("/session/keys", json!([KEY, "change-me-0123456789abcdefghijkl"])),
            "session.keys[1]: is a placeholder; make one with: openssl rand -base64 32",
        ),
        (
            ("/session/cookie_name", json!("a b")),
            "session.cookie_name: must be a token (RFC 6265 4.1.1) of 1 to 64 characters",
        ),
        (("/session/redis", Value::Null), "session.redis: is missing"),
        (
            ("/session/redis/password", json!("")),
            "session.redis.password: is empty; remove it if Redis requires no password",
        ),
        (("/session/cache_ttl", json!("2m")), "session.cache_ttl: must be 0s to 1m, is 2m"),
        (
            ("/bearer/audiences", json!([])),
            "bearer.audiences: is empty: no token could be accepted; name the audience that your tokens carry",
        ),
        (
            ("/bearer/audiences", json!(" , ")),
            "bearer.audiences: is empty: no token could be accepted; name the audience that your tokens carry",
        ),
        (("/bearer", json!({})), "bearer.audiences: is missing"),
        (("/bearer/max_lifetime", json!("0s")), "bearer.max_lifetime: must be 1s to 1year, is 0s"),
        (("/groups/claim", json!("")), "groups.claim: is empty"),
        (("/groups/claim", json!([])), "groups.claim: names no claim"),
        (("/groups/claim", json!(["a", ""])), "groups.claim[1]: is empty"),
        (
            ("/groups/claim", json!(7.0)),
            "groups.claim: expected the name of a claim, or a list of names, found a number",
        ),
        (
            ("/groups/format", json!("lines")),
            "groups.format: expected one of list, space_separated, object_keys, found \"lines\"",
        ),
        (("/groups/claim", json!("a.b.c.d.e.f.g.h.i")), "groups.claim: has more than 8 names"),
        (("/policy", Value::Null), "policy: is missing"),
        (
            ("/policy", json!({})),
            "policy: has no preset, no admins, no users, no viewers and no rules: nobody would have access",
        ),
        (
            ("/policy/users", json!([])),
            "policy: names no group in admins, users or viewers: with preset mlflow nobody would have access",
        ),
        (("/policy/users", json!(["a\nb"])), "policy.users[0]: contains control characters"),
        (
            ("/policy/users", json!({"env": "UNSET"})),
            "policy.users: environment variable UNSET is not set or empty, and there is no default \
             (Envoy passes on only what vm_config.environment_variables.host_env_keys lists)",
        ),
        (
            ("/policy/preset", json!("mlfow")),
            "policy.preset: expected mlflow, found \"mlfow\"; did you mean mlflow?",
        ),
        (("/policy/rules", json!({})), "policy.rules: expected a sequence, found an object"),
        (("/policy/rules", json!([7.0])), "policy.rules[0]: expected an object, found a number"),
        (("/policy/rules", json!([{"access": "public"}])), "policy.rules[0].path: is missing"),
        (("/policy/rules", json!([{"path": {"prefix": "/x"}}])), "policy.rules[0].access: is missing"),
        (
            ("/policy/rules", json!([{"path": "/x", "access": "public"}])),
            "policy.rules[0].path: expected one of exact, prefix, regex, found \"/x\"",
        ),
        (
            ("/policy/rules", json!([{"path": {"prefix": "/x"}, "access": "admins"}])),
            "policy.rules[0].access: is admins, but policy.admins names no group: nobody would have access",
        ),
        (
            ("/policy/rules", json!([{"path": {"prefix": "/x"}, "access": {"groups": []}}])),
            "policy.rules[0].access.groups: is empty: nobody would have access; write deny if that is intended",
        ),
        (
            ("/policy/rules", json!([{"path": {"prefix": "/x"}, "access": "public", "methods": []}])),
            "policy.rules[0].methods: is empty: the rule would match no method; remove it to match all",
        ),
        (
            ("/policy/rules", json!([{"path": {"prefix": "/x"}, "access": "public", "methods": ["*"]}])),
            "policy.rules[0].methods[0]: contains '*', but there are no wildcards here: values are compared whole",
        ),
        (
            ("/policy", json!({"users": "u", "static_prefix": "/mlflow"})),
            "policy.static_prefix: has no effect without policy.preset",
        ),
        (
            ("/policy/static_prefix", json!("/healthcare/mlflow")),
            "policy.static_prefix: must not begin with /health, /static, /favicon.ico",
        ),
        (("/policy/static_prefix", json!("mlflow")), "policy.static_prefix: must begin with /"),
        (("/clock_leeway", json!("301s")), "clock_leeway: must be 0s to 5m, is 5m 1s"),
        (("/clock_leway", json!("60s")), "clock_leway: is not a known field; did you mean \"clock_leeway\"?"),
        (
            ("/allow_insecure_http", json!({"env": "UNSET"})),
            "allow_insecure_http: environment variable UNSET is not set or empty, and there is no default \
             (Envoy passes on only what vm_config.environment_variables.host_env_keys lists)",
        ),
    ] {
        assert_eq!(errors(&with(std::slice::from_ref(&change))), [error], "{change:?}");
    }
}

#[test]
fn a_refused_flag_brings_no_further_errors_about_what_it_would_allow() {
    let config = with(&[
        ("/allow_insecure_http", json!("maybe")),
        ("/public_url", json!("http://mlflow.example.com")),
    ]);
    assert_eq!(errors(&config), ["allow_insecure_http: expected true or false, found \"maybe\""]);
}

#[test]
fn a_mistake_hides_no_other_one_that_spans_sections() {
    let config = with(&[
        ("/issuer/url", json!("x")),
        ("/issuer/cluster", json!("redis")),
        ("/policy", json!({"preset": "mlflow", "rules": [{"path": {"prefix": "x"}, "access": "admins"}]})),
        ("/session/keys", Value::Null),
        ("/session/absolute_timeout", json!("1m")),
    ]);
    let expected = [
        "session.redis.cluster: is also issuer.cluster; Redis needs a separate cluster with the TCP connection pool",
        "issuer.url: is not a URL such as \"https://mlflow.example.com\": it must begin with https:// or http://, \
         found no scheme",
        "session.keys: is missing",
        "session.idle_timeout: must not be longer than absolute_timeout (1m)",
        "policy: names no group in admins, users or viewers: with preset mlflow nobody would have access",
        "policy.rules[0].path.prefix: must begin with /",
    ];
    assert_eq!(errors(&config), expected);
}

#[test]
fn without_login_and_bearer_nobody_could_sign_in() {
    let config = with(&[("/login", Value::Null), ("/session", Value::Null), ("/bearer", Value::Null)]);
    let expected = "configuration: has neither login (with session) nor bearer: nobody could sign in";
    assert_eq!(errors(&config), [expected]);
}

#[test]
fn whoever_asks_about_tokens_needs_a_secret_to_ask_with() {
    let bearer_only = [("/login", Value::Null), ("/session", Value::Null), ("/client/secret", Value::Null)];
    assert!(load_text(&with(&bearer_only).to_string()).is_ok());
    let asks = [&bearer_only[..], &[("/bearer/check_interval", json!("30s"))]].concat();
    let expected = "client.secret: is missing; login and bearer.check_interval need it";
    assert_eq!(errors(&with(&asks)), [expected]);
}

#[test]
fn it28_leeway_of_five_minutes_is_the_most() {
    assert!(load_text(&with(&[("/clock_leeway", json!("300s"))]).to_string()).is_ok());
    assert_eq!(errors(&with(&[("/clock_leeway", json!("301s"))])).len(), 1);
}

#[test]
fn no_secret_is_ever_printed() {
    let secret = "hunter2-\u{1f511}";
    for field in [
        "/client/secret",
        "/session/keys",
        "/session/redis/password",
        "/session/redis",
        "/client",
        "/session",
    ] {
        for wrong in [
            json!(secret),
            json!([secret]),
            json!([[secret]]),
            json!({"env": secret}),
            json!([{"env": secret}]),
        ] {
            for message in errors(&with(&[(field, wrong.clone())])) {
                assert!(!message.contains("hunter2"), "{field} {wrong}: {message}");
            }
        }
    }
    let config = load_text(FULL).unwrap();
    let printed = format!("{config:?}");
    for secret in [KEY, "client secret", "hunter2", "kT0aWc7y"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn what_is_no_json_object_is_one_clear_error() {
    for (json, error) in [
        ("", "configuration: is empty; expected an object"),
        (" \n", "configuration: is empty; expected an object"),
        (
            "{",
            "configuration: is not valid JSON, nor a Struct: EOF while parsing an object at line 1 column 1",
        ),
        ("[]", "configuration: expected an object, found a list"),
        ("\"x\"", "configuration: expected an object, found text"),
        ("null", "configuration: expected an object, found nothing"),
        ("{} {}", "configuration: is not valid JSON, nor a Struct: trailing characters at line 1 column 4"),
    ] {
        assert_eq!(load_text(json).unwrap_err().to_string(), error);
    }
    assert!(load(b"{\"a\": \"\xff\"}", &environment).is_err());
    let deep = "[".repeat(100_000);
    assert_eq!(load_text(&deep).unwrap_err().iter().count(), 1);
}

#[test]
fn an_oversized_configuration_is_not_even_read() {
    let padded = |len: usize| format!("{MINIMAL}{}", " ".repeat(len - MINIMAL.len()));
    assert!(load_text(&padded(MAX_CONFIG_LEN)).is_ok());
    let error = load_text(&padded(MAX_CONFIG_LEN + 1)).unwrap_err().to_string();
    assert_eq!(error, "configuration: is larger than 1048576 bytes");
}

#[test]
fn a_flood_of_mistakes_stays_readable() {
    let config = with(&[("/policy/rules", Value::Array(vec![json!(7.0); 20_000]))]);
    let errors = errors(&config);
    assert_eq!(errors.len(), 101);
    assert_eq!(errors.last().unwrap(), "configuration: has 19900 more errors");
}

#[test]
fn a_redis_user_needs_a_password() {
    let config =
        with(&[("/session/redis/username", json!("gate")), ("/session/redis/password", Value::Null)]);
    assert_eq!(errors(&config), ["session.redis.username: needs a password"]);
}

#[test]
fn f205_a_member_that_is_there_twice_is_one_error_at_its_place() {
    let more_than_once = "is set more than once: only one of them would take effect";
    let rules = r#"[{"path": {"exact": "/a"}, "access": "deny"},
        {"path": {"exact": "/b"}, "methods": ["GET"], "methods": ["POST"], "access": "deny"}]"#;
    let with_rules = with(&[("/policy/rules", json!("RULES"))]).to_string().replace("\"RULES\"", rules);
    let text = |from: &str, to: &str| MINIMAL.replacen(from, to, 1);
    for (config, place) in [
        (
            text("\"login\"", "\"clock_leeway\": \"10s\", \"clock_leeway\": \"50s\", \"login\""),
            "clock_leeway",
        ),
        (text("\"login\"", "\"login\": {}, \"login\""), "login"),
        (text("\"id\"", "\"id\": \"a\", \"\\u0069d\""), "client.id"),
        (text("\"s\"", "{\"env\": \"TRUE\", \"env\": \"TEN_MINUTES\"}"), "client.secret.env"),
        // A duplicate default is an error, even if the variable is set and the default is not used.
        (
            text("\"s\"", "{\"env\": \"TRUE\", \"default\": \"a\", \"default\": \"b\"}"),
            "client.secret.default",
        ),
        (with_rules, "policy.rules[1].methods"),
        (text("\"login\"", "\"hunter2\": 1, \"hunter2\": 2, \"login\""), "hunter2"),
    ] {
        let found: Vec<String> = load_text(&config).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(found[0], format!("{place}: {more_than_once}"), "{config}");
        assert_eq!(found.len(), if place == "hunter2" { 2 } else { 1 }, "{found:?}");
    }
}
