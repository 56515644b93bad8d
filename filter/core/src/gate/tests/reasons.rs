//! What a refusal says, to whom: the log the reason, an administrator what to do, a person or a client no more than
//! they can use.

use std::time::Duration;

use serde_json::{Value, json};

use super::{API, forwarded, mlflow};
use crate::config::{Access, Config, PathMatch, Rule, RuleName};
use crate::error::Reason;
use crate::gate::Decision;
use crate::host::CalloutError;
use crate::http::reply::Reply;
use crate::metrics::{self, Outcome, RuleReasons};
use crate::testing::provider::reply;
use crate::testing::world::{NAVIGATION, World, callback, config, header, replied};

fn log(world: &World) -> String {
    world.host.log_lines().join("\n")
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn f402_what_the_token_endpoint_says_reaches_the_log_without_the_secrets_it_repeats() {
    let world = World::new();
    let request = world.begin_login("/deep");
    *world.provider.token_override.borrow_mut() = Some(Box::new(|| {
        Ok(reply(
            401,
            &json!({
                "error": "invalid_client",
                "error_description": "no client with client-s3cret+% for c0de-of-this-login\nrefused: forged line",
            }),
        ))
    }));
    let page = replied(world.navigate(&callback(&request["state"], "c0de-of-this-login")));
    let log = log(&world);
    assert!(
        log.contains("token endpoint: status 401, invalid_client: no client with [redacted] for [redacted] refused: forged line"),
        "{log}"
    );
    assert!(!log.contains("s3cret") && !log.contains("c0de") && !page.body.contains("c0de"), "{log}");
    assert_eq!(header(&page, "retry-after"), None);
    assert!(page.body.contains("rd=%2Fdeep"), "the button leads to the page that was wanted: {}", page.body);
}

#[test]
fn f404_each_key_of_a_set_without_a_usable_one_has_its_reason_in_the_log() {
    let world = World::new();
    *world.provider.keys.borrow_mut() = json!({"keys": [
        {"kty": "oct", "kid": "one", "k": "AAAA"},
        {"kty": "RSA", "kid": "two\n", "use": "enc", "n": "AQAB", "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519"},
        "no key",
    ]});
    let page = replied(world.navigate("/"));
    assert_eq!((page.status, header(&page, "retry-after")), (503, None));
    assert!(page.body.contains("An administrator has to act"), "{}", page.body);
    let log = log(&world);
    let line = log.lines().find(|line| line.starts_with("Error provider")).unwrap_or_else(|| panic!("{log}"));
    for reason in [
        "key 0",
        "one",
        "a symmetric key",
        "key 1",
        "not for verifying signatures",
        "key 2",
        "unsupported key type",
        "key 3",
    ] {
        assert!(line.contains(reason), "{reason}: {line}");
    }
    let world = World::new();
    *world.provider.keys.borrow_mut() = json!({"keys": []});
    assert_eq!(replied(world.navigate("/")).status, 503);
    assert!(self::log(&world).contains("the key set is empty"), "{}", self::log(&world));
}

#[test]
fn f407_every_refusal_carries_the_request_id() {
    let world = World::new();
    for (method, target, kind) in [
        ("GET", "/", "api"),
        ("GET", "/a%5cb", "api"),
        ("GET", "/x?access_token=y", "api"),
        ("GET", "/oauth2/unknown", "api"),
        ("DELETE", "/oauth2/login", "api"),
        ("POST", "/", "grpc"),
        ("GET", "/a%5cb", "page"),
        ("GET", "/oauth2/callback?state=x&code=y", "page"),
    ] {
        let mut headers = vec![("x-request-id", "0ddba11-1")];
        match kind {
            "page" => headers.extend_from_slice(NAVIGATION),
            "grpc" => headers.push(("content-type", "application/grpc")),
            _ => headers.extend_from_slice(API),
        }
        let reply = replied(world.send(method, target, &headers));
        assert_eq!(header(&reply, "x-request-id"), Some("0ddba11-1"), "{method} {target} {reply:?}");
        match kind {
            "page" => assert!(reply.body.contains("0ddba11-1"), "{reply:?}"),
            "grpc" => assert!(reply.grpc_status.is_some()),
            _ => assert_eq!(json_of(&reply)["request_id"], "0ddba11-1", "{method} {target}"),
        }
    }
    assert_eq!(log(&world).matches("request=0ddba11-1").count(), 8, "{}", log(&world));
    // An invalid id is not repeated in the reply.
    for id in ["", "a b", "a\"b", "-é", &"x".repeat(65)] {
        let reply = replied(world.send("GET", "/", &[("x-request-id", id)]));
        assert_eq!((header(&reply, "x-request-id"), json_of(&reply).get("request_id")), (None, None), "{id}");
    }
}

#[test]
fn f408_a_denial_in_the_log_names_the_callers_groups_bounded() {
    let world = World::new();
    let groups: Vec<String> = (0..500).map(|number| format!("/team-{number}\n\u{202e}")).collect();
    let token = world.provider.access_token(world.now(), json!({"groups": groups, "sub": "a b\u{2028}c"}));
    let bearer = format!("Bearer {token}");
    assert_eq!(replied(world.send("GET", "/", &[("authorization", &bearer)])).status, 403);
    let log = log(&world);
    let line = log.lines().find(|line| line.contains("reason=not_allowed")).unwrap();
    assert!(line.contains(r#"groups=["/team-0\n\u{202e}", "#) && line.contains("500 in all]"), "{line}");
    assert!(line.contains(r#"sub="a b\u{2028}c""#) && line.len() < 3000, "{line}");
    let token = world.provider.access_token(world.now(), json!({"groups": null}));
    let bearer = format!("Bearer {token}");
    assert_eq!(replied(world.send("GET", "/", &[("authorization", &bearer)])).status, 403);
    assert!(self::log(&world).contains("groups=[]"));
}

#[test]
fn f206_the_rule_that_denied_is_in_the_log_in_the_metrics_reason_and_in_the_denial() {
    let rule = |name: &str, label: &str, path: &str, access| Rule {
        name: RuleName::Given { name: name.into(), label: label.into() },
        path: PathMatch::Exact(path.into()),
        methods: vec![],
        access,
    };
    let groups = Access::Groups(vec!["operators".into()]);
    let mut config = config();
    config.policy.preset = None;
    config.policy.users = vec![];
    config.policy.admins = vec![];
    config.policy.rules = vec![
        rule("<metrics> for operators", "metrics_for_operators", "/metrics", groups.clone()),
        rule("debug", "debug", "/debug", Access::NotFound),
        rule("debug", "debug", "/pprof", Access::Deny),
        Rule { name: RuleName::Own("rules[3]".into()), ..rule("", "", "/unnamed", groups) },
    ];
    let world = World::with(config.clone());
    let reasons = RuleReasons::new(&config.policy);
    let names = metrics::names(&reasons);
    assert_eq!(names.len(), metrics::names(&RuleReasons::default()).len() + 3);
    let bearer = format!("Bearer {}", world.provider.access_token(world.now(), json!({})));
    for (path, status, reason, logged, shown) in [
        ("/metrics", 403, "not_allowed_metrics_for_operators", "rule=\"<metrics> for operators\"", true),
        ("/debug", 404, "not_found_debug", "rule=\"debug\"", false),
        ("/pprof", 403, "not_allowed_debug", "rule=\"debug\"", true),
        ("/unnamed", 403, "not_allowed", "rule=\"rules[3]\"", false),
        ("/elsewhere", 403, "not_allowed", "", false),
    ] {
        let counter = names
            .iter()
            .position(|name| *name == format!("oidc_gate_decisions_total.outcome.refused.reason.{reason}"));
        let counted = || world.host.counted(crate::host::Counter(counter.unwrap()));
        let before = counted();
        let decision = world.send("GET", path, &[("authorization", &bearer)]);
        let Decision::Reply { reply, reason: said } = decision else { panic!("{path}: {decision:?}") };
        assert_eq!((reply.status, &*said, counted()), (status, reason, before + 1), "{path}");
        let lines = world.host.log_lines();
        let line = lines.iter().rfind(|line| line.contains(&format!("path=\"{path}\""))).unwrap();
        assert!(line.contains(&format!("reason={reason} ")), "{path}: {line}");
        assert!(if logged.is_empty() { !line.contains("rule=") } else { line.contains(logged) }, "{line}");
        let name = logged.strip_prefix("rule=\"").and_then(|name| name.strip_suffix('"')).unwrap_or_default();
        let json = json_of(&reply);
        assert_eq!(json.get("rule").and_then(Value::as_str), shown.then_some(name), "{path}: {json}");
        assert_eq!(json["message"].as_str().unwrap().contains("rule"), shown, "{path}: {json}");
        let page =
            replied(world.send("GET", path, &[&[("authorization", bearer.as_str())], NAVIGATION].concat()));
        assert_eq!(page.status, status, "{path}");
        let escaped = name.replace('<', "&lt;").replace('>', "&gt;");
        assert_eq!(page.body.contains("<dt>Rule</dt>"), shown, "{path}: {}", page.body);
        assert_eq!(shown, !name.is_empty() && page.body.contains(&format!("<dd>{escaped}</dd>")), "{path}");
        assert!(!page.body.contains("rules[") && !page.body.contains("not_allowed"), "{path}: {}", page.body);
    }
    assert_eq!(world.host.counted(metrics::decision(Outcome::Refused(Reason::NotFound))), 0);
}

#[test]
fn f206_a_preset_names_its_rules_in_the_log_only() {
    let world = World::with(mlflow());
    let token = world.provider.access_token(world.now(), json!({"groups": []}));
    let bearer = format!("Bearer {token}");
    let reply = replied(world.send("GET", "/", &[("authorization", &bearer)]));
    assert_eq!((reply.status, json_of(&reply).get("rule")), (403, None));
    let log = log(&world);
    assert!(log.contains("reason=not_allowed method=GET path=\"/\" rule=\"mlflow.read\" detail="), "{log}");
    assert!(!reply.body.contains("mlflow.read"), "{}", reply.body);
}

#[test]
fn f1104_a_sign_in_is_one_line_whatever_the_subject_is() {
    for subject in ["a b", "a\u{2028}b", "\u{202e}b", "x\" sub=\"y"] {
        let world = World::new();
        world.provider.id_token.borrow_mut()["sub"] = subject.into();
        world.provider.id_token.borrow_mut()["preferred_username"] = format!("m{subject}").into();
        world.log_in("/");
        let log = log(&world);
        let line = log.lines().find(|line| line.contains("signed in")).unwrap();
        assert!(
            line.ends_with(&format!("signed in user={:?} sub={subject:?}", format!("m{subject}"))),
            "{line}"
        );
        assert!(!line.contains(['\u{2028}', '\u{202e}']), "{line}");
    }
}

#[test]
fn f410_what_only_an_administrator_can_mend_says_so_and_promises_nothing() {
    type Break = fn(&World);
    let breaks: [(&str, Break); 5] = [
        ("token_endpoint", |world| {
            world.provider.metadata.borrow_mut()["token_endpoint"] = "https://evil.example/".into()
        }),
        ("the provider's issuer is", |world| {
            world.provider.metadata.borrow_mut()["issuer"] = "https://other.example".into()
        }),
        ("pushed authorization", |world| {
            world.provider.metadata.borrow_mut()["require_pushed_authorization_requests"] = true.into();
        }),
        ("unknown cluster", |world| world.host.on("keycloak", |_| Err(CalloutError::UnknownCluster))),
        ("status 404", |world| world.host.on("keycloak", |_| Ok(reply(404, &json!({}))))),
    ];
    for (reason, break_it) in breaks {
        let world = World::new();
        break_it(&world);
        let began = world.host.now_millis();
        let page = replied(world.navigate("/"));
        assert!(world.host.now_millis() - began < 1000, "{reason}: nobody waits for what does not come");
        assert_eq!((page.status, header(&page, "retry-after")), (503, None), "{reason}");
        assert!(page.body.contains("An administrator has to act"), "{reason}: {}", page.body);
        assert!(!page.body.contains("in a few seconds"), "{reason}: {}", page.body);
        let api = replied(world.send("GET", "/", &[("authorization", "Bearer a.b.c")]));
        assert!([401, 503].contains(&api.status), "{reason}: {api:?}");
        let token = world.provider.access_token(world.now(), json!({}));
        let bearer = format!("Bearer {token}");
        let answered = world.send("GET", "/", &[("authorization", &bearer)]);
        if ["token_endpoint", "pushed authorization"].contains(&reason) {
            // F201: only a login needs these endpoints.
            forwarded(answered);
        } else {
            let api = replied(answered);
            assert_eq!((api.status, header(&api, "retry-after")), (503, None), "{reason}");
            assert_eq!(json_of(&api)["error_code"], "INTERNAL_ERROR", "{reason}");
        }
        assert!(log(&world).contains("reason=misconfigured"), "{reason}: {}", log(&world));
        assert!(log(&world).contains(reason), "{reason}: {}", log(&world));
    }
}

#[test]
fn f306_texts_speak_of_what_this_gate_has() {
    type Change = fn(&mut Config);
    let no_login: Change = |config| config.browser = None;
    let no_preset: Change = |config| config.policy.preset = None;
    let no_bearer: Change = |config| config.bearer = None;
    let gate = |changes: &[Change]| {
        let mut config = mlflow();
        changes.iter().for_each(|change| change(&mut config));
        World::with(config)
    };
    let message = |world: &World, headers: &[(&str, &str)]| {
        json_of(&replied(world.send("GET", "/", headers)))["message"].as_str().unwrap().to_owned()
    };
    let basic = &[("authorization", "Basic eDp5")][..];
    for (changes, headers, has, lacks) in [
        (&[][..], API, &["MLFLOW_TRACKING_TOKEN", "Bearer", "browser"][..], &[][..]),
        (&[no_login], API, &["MLFLOW_TRACKING_TOKEN", "Bearer"], &["browser"]),
        (&[no_preset], API, &["Bearer", "browser"], &["MLFLOW", "MLflow"]),
        (&[no_login, no_preset], API, &["Bearer"], &["MLFLOW", "MLflow", "browser"]),
        (&[no_bearer], API, &["browser"], &["Bearer", "MLFLOW"]),
        (&[], basic, &["MLFLOW_TRACKING_USERNAME"], &[]),
        (&[no_preset], basic, &["Bearer"], &["MLFLOW"]),
        (&[no_bearer], basic, &["browser"], &["MLFLOW", "Bearer"]),
    ] {
        let message = message(&gate(changes), headers);
        for word in has {
            assert!(message.contains(word), "{word}: {message}");
        }
        for word in lacks {
            assert!(!message.contains(word), "{word}: {message}");
        }
    }
    for (changes, has_bearer) in [(&[][..], true), (&[no_bearer], false)] {
        let reply = replied(gate(changes).send("GET", "/?access_token=y", API));
        assert_eq!(reply.body.contains("Authorization"), has_bearer, "{}", reply.body);
    }
    // The user's page shows nothing that is specific to one installation.
    let world = World::new();
    for error in ["invalid_scope", "unauthorized_client", "access_denied"] {
        let request = world.begin_login("/");
        let target = format!("{}&error={error}", callback(&request["state"], "c"));
        let page = replied(world.navigate(&target));
        for word in ["OIDC_", "Keycloak", "SECRET_KEY", "MLFLOW_"] {
            assert!(!page.body.contains(word), "{error} {word}: {}", page.body);
        }
    }
}

#[test]
fn f502_a_person_gets_a_page_where_nothing_can_be_redirected() {
    let world = World::new();
    let person = [
        NAVIGATION,
        &[("referer", "https://mlflow.example/experiments/7?x=y"), ("sec-fetch-site", "same-origin")],
    ];
    let page = replied(world.browse("POST", "/ajax-api/save", &person.concat()));
    assert_eq!(page.status, 401);
    assert!(page.body.contains("<!DOCTYPE html>") && page.body.contains("Sign-in needed"), "{}", page.body);
    assert!(page.body.contains("rd=%2Fexperiments%2F7%3Fx%3Dy"), "back to the form's page: {}", page.body);
    for foreign in
        ["https://evil.example/x", "https://mlflow.example.evil.example/x", "https://mlflow.example"]
    {
        let headers = [NAVIGATION, &[("referer", foreign)]].concat();
        let page = replied(world.browse("POST", "/ajax-api/save", &headers));
        assert!(page.body.contains("rd=%2F\""), "{foreign}: {}", page.body);
    }
    world.log_in("/");
    let headers =
        [NAVIGATION, &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]].concat();
    let page = replied(world.browse("POST", "/ajax-api/save", &headers));
    assert_eq!(page.status, 403);
    assert!(page.body.contains("came from another site"), "{}", page.body);
    let typed = replied(world.browse("GET", "/a%5cb", NAVIGATION));
    assert_eq!(typed.status, 400);
    assert!(typed.body.contains("<!DOCTYPE html>") && typed.body.contains("Bad request"), "{}", typed.body);
    let script =
        replied(world.browse("POST", "/a%5cb", &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]));
    assert_eq!(json_of(&script)["error_code"], "BAD_REQUEST");
}

#[test]
fn f703_a_provider_that_is_down_is_asked_by_one_worker_with_growing_pauses() {
    let world = World::new();
    world.provider.down.set(true);
    let calls = |world: &World| world.host.calls().iter().filter(|call| call.cluster == "keycloak").count();
    world.sleep(Duration::from_millis(50));
    let others = [world.other_worker(), world.other_worker(), world.other_worker()];
    // No request needs the provider.
    world.sleep(Duration::from_secs(40));
    let quiet = calls(&world);
    assert!(
        (4..=8).contains(&quiet),
        "{quiet} requests in 40 s: at 1, 2, 4, 8, 16 s and one of each new worker"
    );
    // A request waits, and the provider recovers.
    others[0].provider.down.set(false);
    let began = world.host.now_millis();
    assert_eq!(replied(others[1].navigate("/")).status, 302);
    let waited = world.host.now_millis() - began;
    assert!(waited <= 1000, "{waited} ms after its return");
}
