//! Generates the JSON Schema of the configuration from the types in `raw` and the defaults in `validate`. Editors use
//! it for completion and checks. Only [`super::load`] checks bounds, entropy and what depends on several fields.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use serde_json::{Value, json};

use super::raw;
use super::scalar::{ClaimPath, Flag, List, SecretText, Span, Text};
use super::setting::Setting;
use super::validate::timing::{Timing, limits};
use super::validate::{bearer, groups, identity, login, session};
use crate::jose::algorithm::Algorithm;

/// The JSON Schema (draft 2020-12) of the format that [`super::load`] reads.
pub fn json_schema() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<raw::Config>().to_value();
    for (section, field, timing) in timings() {
        if let Some(field) = field_of(&mut schema, section, field) {
            describe_timing(field, timing);
        }
    }
    for (section, field, default) in defaults() {
        if let Some(field) = field_of(&mut schema, section, field) {
            field.insert("default".to_owned(), default);
        }
    }
    for (section, field) in [("Login", "id_token_algorithms"), ("Bearer", "algorithms")] {
        if let Some(field) = field_of(&mut schema, section, field) {
            field.insert("$ref".to_owned(), json!("#/$defs/ListOfAlgorithm"));
        }
    }
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        definitions.insert("ListOfAlgorithm".to_owned(), list_of_algorithms());
    }
    for choice in [
        "ClientAuthentication",
        "AccessTokenMark",
        "WithoutRefreshToken",
        "GroupsFormat",
        "EmailVerified",
        "Preset",
        "Access",
    ] {
        if let Some(definition) = schema.pointer_mut(&format!("/$defs/{choice}")) {
            let by_name = definition.take();
            *definition = json!({"anyOf": [by_name, {"$ref": "#/$defs/FromEnvironment"}]});
        }
    }
    schema
}

/// Section, field, default and bounds. The name of the root section is empty.
fn timings() -> [(&'static str, &'static str, Timing); 14] {
    [
        ("", "clock_leeway", limits::CLOCK_LEEWAY),
        ("Issuer", "timeout", limits::ISSUER_TIMEOUT),
        ("Issuer", "startup_wait", limits::STARTUP_WAIT),
        ("Issuer", "refresh_interval", limits::REFRESH_INTERVAL),
        ("Issuer", "max_stale", limits::MAX_STALE),
        ("Login", "timeout", limits::LOGIN_TIMEOUT),
        ("Session", "idle_timeout", limits::IDLE_TIMEOUT),
        ("Session", "absolute_timeout", limits::ABSOLUTE_TIMEOUT),
        ("Session", "cache_ttl", limits::CACHE_TTL),
        ("Session", "refresh_ahead", limits::REFRESH_AHEAD),
        ("Session", "check_interval", limits::CHECK_INTERVAL),
        ("Redis", "timeout", limits::REDIS_TIMEOUT),
        ("Bearer", "max_lifetime", limits::MAX_LIFETIME),
        ("Bearer", "check_interval", limits::CHECK_INTERVAL),
    ]
}

fn defaults() -> [(&'static str, &'static str, Value); 16] {
    let names =
        |algorithms: &[Algorithm]| algorithms.iter().map(|algorithm| algorithm.name()).collect::<Value>();
    [
        ("", "allow_insecure_http", json!(false)),
        ("Issuer", "access_token_marks", json!(["rfc9068", "keycloak"])),
        ("Client", "authentication", json!("client_secret_basic")),
        ("Login", "scope", json!(login::DEFAULT_SCOPE)),
        ("Login", "userinfo", json!(false)),
        ("Login", "keep_fragment", json!(false)),
        ("Login", "id_token_algorithms", names(&login::default_id_token_algorithms())),
        ("Session", "without_refresh_token", json!("end")),
        ("Session", "cookie_name", json!(session::DEFAULT_COOKIE_NAME)),
        ("Redis", "prefix", json!(session::DEFAULT_PREFIX)),
        ("Bearer", "algorithms", names(&bearer::default_algorithms())),
        ("Groups", "claim", json!(groups::DEFAULT_CLAIM)),
        ("Groups", "format", json!("list")),
        ("Bearer", "basic", json!(false)),
        ("Identity", "email_verified", json!("optional")),
        ("Assertion", "issuer", json!(identity::DEFAULT_ASSERTION_ISSUER)),
    ]
}

/// In the types, algorithms are text, so that `validate` can explain why one is refused.
fn list_of_algorithms() -> Value {
    let reference = json!({"$ref": "#/$defs/FromEnvironment"});
    let names = Algorithm::ALL.map(Algorithm::name);
    json!({
        "anyOf": [
            {"type": "array", "minItems": 1, "items": {"anyOf": [{"enum": names}, reference]}},
            {"type": "string", "description": "Items separated by commas."},
            reference,
        ]
    })
}

fn field_of<'s>(
    schema: &'s mut Value,
    section: &str,
    field: &str,
) -> Option<&'s mut serde_json::Map<String, Value>> {
    let section = if section.is_empty() { String::new() } else { format!("/$defs/{section}") };
    schema.pointer_mut(&format!("{section}/properties/{field}"))?.as_object_mut()
}

fn describe_timing(field: &mut serde_json::Map<String, Value>, timing: Timing) {
    if let Some(Value::String(description)) = field.get_mut("description") {
        description.push_str(&format!(" From {}.", timing.range()));
    }
    if let Some(default) = timing.default {
        field.insert("default".to_owned(), json!(humantime::format_duration(default).to_string()));
    }
}

/// The value of an environment variable. It is allowed wherever a value is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is wanted; `environment` does the reading")]
struct FromEnvironment {
    /// The variable's name. Envoy must pass it on (`host_env_keys`).
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    env: String,
    /// The value if the variable is unset or empty. Without a default, that is an error.
    default: Option<Value>,
}

/// The schema of a scalar: its own form, or a reference to the environment.
fn scalar(form: Value, generator: &mut SchemaGenerator) -> Schema {
    let reference = generator.subschema_for::<FromEnvironment>();
    schema!({"anyOf": [form, reference]})
}

impl<T: JsonSchema> JsonSchema for Setting<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        scalar(json!({"type": "string"}), generator)
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        scalar(json!({"type": "string", "writeOnly": true}), generator)
    }
}

impl JsonSchema for Flag {
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        scalar(json!({"enum": [true, false, "true", "false"]}), generator)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pattern = r"^\s*(\d+\s*[A-Za-zµ]+\s*)+$";
        scalar(
            json!({"type": "string", "pattern": pattern, "examples": ["90s", "1h 30m", "500ms"]}),
            generator,
        )
    }
}

impl JsonSchema for ClaimPath {
    fn schema_name() -> Cow<'static, str> {
        "ClaimPath".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Text>();
        schema!({"anyOf": [name, {"type": "array", "minItems": 1, "items": name}]})
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let reference = generator.subschema_for::<FromEnvironment>();
        schema!({
            "anyOf": [
                {"type": "array", "items": items},
                {"type": "string", "description": "Items separated by commas."},
                reference,
            ]
        })
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use jsonschema::Validator;

    use super::super::tests::{FULL, MINIMAL};
    use super::*;

    fn validator() -> Validator {
        jsonschema::draft202012::new(&json_schema()).unwrap()
    }

    #[test]
    fn the_schema_accepts_what_the_gate_accepts() {
        let validator = validator();
        for accepted in [FULL, MINIMAL] {
            let value: Value = serde_json::from_str(accepted).unwrap();
            let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:#?}");
        }
    }

    #[test]
    fn every_leaf_may_come_from_the_environment() {
        let validator = validator();
        let reference = json!({"env": "NAME", "default": "x"});
        let mut leaves = Vec::new();
        collect_leaves(&serde_json::from_str(FULL).unwrap(), String::new(), &mut leaves);
        assert!(leaves.len() > 30, "{leaves:?}");
        for scalar in leaves {
            let mut value: Value = serde_json::from_str(FULL).unwrap();
            *value.pointer_mut(&scalar).unwrap() = reference.clone();
            assert!(validator.is_valid(&value), "{scalar}");
        }
    }

    fn collect_leaves(value: &Value, pointer: String, leaves: &mut Vec<String>) {
        match value {
            Value::Object(members) if !members.contains_key("env") => {
                for (name, member) in members {
                    collect_leaves(member, format!("{pointer}/{name}"), leaves);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    collect_leaves(item, format!("{pointer}/{index}"), leaves);
                }
            }
            _ => leaves.push(pointer),
        }
    }

    #[test]
    fn the_schema_refuses_typing_errors_at_every_level() {
        let validator = validator();
        let full: Value = serde_json::from_str(FULL).unwrap();
        for object in [
            "",
            "/issuer",
            "/client",
            "/login",
            "/session",
            "/session/redis",
            "/bearer",
            "/groups",
            "/policy",
            "/policy/rules/0",
            "/policy/rules/0/path",
        ] {
            let mut value = full.clone();
            value.pointer_mut(object).unwrap()["tpyo"] = json!("x");
            assert!(!validator.is_valid(&value), "{object}");
        }
        for (scalar, wrong) in [
            ("/clock_leeway", json!(60.0)),
            ("/clock_leeway", json!("60")),
            ("/allow_insecure_http", json!("yes")),
            ("/client/authentication", json!("private_key_jwt")),
            ("/client/secret", json!({"env": "A B"})),
            ("/client/secret", json!({"env": "NAME", "defualt": "x"})),
            ("/groups/claim", json!([])),
            ("/groups/claim", json!(7.0)),
            ("/groups/format", json!("lines")),
            ("/policy/preset", json!("mlfow")),
            ("/policy/rules/0/access", json!("everybody")),
            ("/policy/rules/0/path", json!({"glob": "/x/*"})),
            ("/bearer/audiences", json!(5.0)),
            ("/bearer/algorithms", json!(["HS256"])),
            ("/login/id_token_algorithms", json!(["none"])),
        ] {
            let mut value = full.clone();
            *value.pointer_mut(scalar).unwrap() = wrong;
            assert!(!validator.is_valid(&value), "{scalar}");
        }
        for required in ["public_url", "issuer", "client", "policy"] {
            let mut value = full.clone();
            value.as_object_mut().unwrap().remove(required);
            assert!(!validator.is_valid(&value), "{required}");
        }
    }

    #[test]
    fn what_the_schema_calls_default_is_what_the_gate_does() {
        let mut explicit: Value = serde_json::from_str(MINIMAL).unwrap();
        // The one section with a default that is absent by itself.
        explicit["identity"]["assertion"] = json!({"keys": {"env": "ASSERTION_KEYS"}, "audience": "mlflow"});
        let implied = super::super::tests::load_text(&explicit.to_string()).unwrap();
        let schema = json_schema();
        let mut written = 0;
        for (section, pointer) in [
            ("", ""),
            ("/$defs/Issuer", "/issuer"),
            ("/$defs/Client", "/client"),
            ("/$defs/Login", "/login"),
            ("/$defs/Session", "/session"),
            ("/$defs/Redis", "/session/redis"),
            ("/$defs/Bearer", "/bearer"),
            ("/$defs/Groups", "/groups"),
            ("/$defs/Identity", "/identity"),
            ("/$defs/Assertion", "/identity/assertion"),
        ] {
            let fields = schema.pointer(&format!("{section}/properties")).unwrap().as_object().unwrap();
            for (name, field) in fields {
                if let Some(default) = field.get("default") {
                    explicit.pointer_mut(pointer).unwrap()[name] = default.clone();
                    written += 1;
                }
            }
        }
        let timed = timings().iter().filter(|(_, _, timing)| timing.default.is_some()).count();
        assert_eq!(written, timed + defaults().len(), "every default is in the schema");
        let stated = super::super::tests::load_text(&explicit.to_string()).unwrap();
        assert_eq!(format!("{stated:?}"), format!("{implied:?}"));
    }

    #[test]
    fn every_field_is_described() {
        let schema = json_schema();
        let definitions = schema["$defs"].as_object().unwrap().iter();
        for (name, definition) in
            definitions.map(|(name, definition)| (name.as_str(), definition)).chain([("", &schema)])
        {
            for (field, described) in definition["properties"].as_object().into_iter().flatten() {
                assert!(
                    described["description"].as_str().is_some_and(|text| !text.is_empty()),
                    "{name}.{field}"
                );
            }
        }
    }

    /// Each field is documented with its default and its bounds.
    #[test]
    fn the_documentation_knows_every_field() {
        let documentation = include_str!("../../../../docs/configuration.md");
        let schema = json_schema();
        for (section, prefix) in [
            ("", ""),
            ("/$defs/Issuer", "issuer."),
            ("/$defs/Client", "client."),
            ("/$defs/Login", "login."),
            ("/$defs/Session", "session."),
            ("/$defs/Redis", "session.redis."),
            ("/$defs/Bearer", "bearer."),
            ("/$defs/Groups", "groups."),
            ("/$defs/Policy", "policy."),
            ("/$defs/Rule", "policy.rules[]."),
        ] {
            for name in schema.pointer(&format!("{section}/properties")).unwrap().as_object().unwrap().keys()
            {
                assert!(
                    documentation.contains(&format!("| `{prefix}{name}` |")),
                    "{prefix}{name} is not documented"
                );
            }
        }
        for (section, name, timing) in timings() {
            let prefix = if section == "Redis" { "session.redis".to_owned() } else { section.to_lowercase() };
            let field = if section.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            let row = documentation.lines().find(|line| line.starts_with(&format!("| `{field}` |"))).unwrap();
            assert!(row.contains(&timing.range()), "{field} must be documented as {}: {row}", timing.range());
            if let Some(default) = timing.default {
                let default = humantime::format_duration(default).to_string();
                assert!(row.contains(&format!("`{default}`")), "{field} has default {default}: {row}");
            }
        }
    }
}
