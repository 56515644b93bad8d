//! Configurations: which ones are refused, and what continues meanwhile.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::envoy::Verdict;
use oidc_gate_tests::{Gate, assert_allowed, assert_refused, assert_workers_alive};
use serde_json::json;

#[test]
fn pm12_a_configuration_with_ten_mistakes_is_refused_with_ten_errors_and_the_old_one_keeps_serving() {
    let gate = Gate::builder().replaceable().start();
    let browser = gate.signed_in("mlflow_user");
    let bad = gate.config.clone().plugin(|plugin| {
        plugin["public_url"] = json!("http://localhost:5000/path");
        plugin["issuer"]["timeout"] = json!("forever");
        plugin["issuer"]["cluster"] = json!("");
        plugin["client"]["id"] = json!("");
        plugin["login"]["scope"] = json!("profile");
        plugin["session"]["keys"] = json!(["short"]);
        plugin["session"]["idle_timeout"] = json!(5);
        plugin["bearer"]["audiences"] = json!([]);
        plugin["clock_leeway"] = json!("1h");
        plugin["polcy"] = json!({});
    });
    assert_eq!(gate.envoy().push_listener(&bad).unwrap(), Verdict::Rejected);
    let log = gate.envoy().log();
    for field in [
        "public_url",
        "issuer.timeout",
        "issuer.cluster",
        "client.id",
        "login.scope",
        "session.keys",
        "session.idle_timeout",
        "bearer.audiences",
        "clock_leeway",
        "polcy",
    ] {
        assert!(
            log.lines().any(|line| line.contains(&format!("  {field}"))),
            "nothing about {field}:\n{log}"
        );
    }
    assert!(log.contains("10 error"), "{log}");
    assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
    assert_workers_alive(&gate);
}

#[test]
fn pm13_a_good_configuration_takes_over_without_a_gap_and_sessions_live_on() {
    let gate = Gate::builder().replaceable().start();
    let browser = gate.signed_in("mlflow_user");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut answers = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let anonymous = Client::new().request("GET", &gate.url("/anonymous")).send().unwrap();
                assert!([401, 503].contains(&anonymous.status), "{anonymous}");
                let known = browser.fetch(&gate.url("/known")).unwrap();
                assert_eq!(known.status, 200, "{known}");
                answers += 1;
            }
            answers
        });
        let next = gate.config.clone().set("clock_leeway", "30s");
        let verdict = gate.envoy().push_listener(&next);
        let settled = assert_settled(&gate);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(watcher.join().unwrap() > 0);
        assert_eq!(verdict.unwrap(), Verdict::Accepted);
        assert!(settled);
    });
    let anonymous_reached = gate.echo.received().iter().any(|received| received.target == "/anonymous");
    assert!(!anonymous_reached);
}

#[test]
fn cb17_a_login_that_began_before_a_new_configuration_ends_after_it() {
    let gate = Gate::builder().replaceable().start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/deep?a=b");
    let next = gate.config.clone().set("clock_leeway", "30s");
    assert_eq!(gate.envoy().push_listener(&next).unwrap(), Verdict::Accepted);
    assert!(assert_settled(&gate));
    let response = browser.navigate(&callback).unwrap();
    assert_eq!((response.status, response.header("location")), (303, Some("/deep?a=b")), "{response}");
    assert_allowed(&gate, || browser.navigate(&gate.url("/deep?a=b")));
}

/// Whether the new listener has served ten valid requests in a row.
fn assert_settled(gate: &Gate) -> bool {
    let token = gate.provider.access_token("mlflow_user");
    let good = || gate.with_token("/settled", &token).send().is_ok_and(|r| r.status == 200);
    oidc_gate_testkit::process::wait_until(std::time::Duration::from_secs(20), || (0..10).all(|_| good()))
}

#[test]
fn cf06_a_gate_without_its_secrets_does_not_start() {
    for (variable, field) in [("SECRET_KEY", "session.keys"), ("OIDC_CLIENT_SECRET", "client.secret")] {
        let trouble = Gate::builder().env(variable, "").try_start().err().map(|trouble| trouble.to_string());
        let trouble = trouble.unwrap_or_else(|| panic!("it starts without {variable}"));
        assert!(trouble.contains(field) && trouble.contains(variable), "{trouble}");
    }
}

#[test]
fn cf04_secrets_do_not_show_in_the_admin_port() {
    let gate = Gate::start();
    gate.signed_in("mlflow_user");
    let dump = gate.envoy().config_dump().unwrap();
    assert!(dump.contains("OIDC_CLIENT_SECRET"), "the dump is not the configuration");
    assert_eq!(gate.find_secret_in(&dump), None);
    assert_eq!(gate.find_secret_in(&gate.envoy().admin("GET", "/stats").unwrap().text()), None);
}

#[test]
fn decisions_are_counted_with_their_reasons() {
    let (gate, browser) = Gate::with_browser();
    browser.fetch(&gate.url("/x")).unwrap();
    Client::new().fetch(&gate.url("/x")).unwrap();
    Client::new().fetching("GET", &gate.url("/x")).bearer("a.b.c").send().unwrap();
    let metrics = gate.envoy().admin("GET", "/stats/prometheus").unwrap().text();
    for (outcome, reason) in [
        ("session", "none"),
        ("refused", "no_credential"),
        ("refused", "invalid_token"),
        ("login", "no_credential"),
    ] {
        let counted =
            metrics.lines().filter(|line| line.starts_with("oidc_gate_decisions_total")).any(|line| {
                line.contains(&format!("outcome=\"{outcome}\""))
                    && line.contains(&format!("reason=\"{reason}\""))
                    && !line.ends_with(" 0")
            });
        assert!(counted, "{outcome} {reason}: {metrics}");
    }
}

#[test]
fn ck14_plain_http_that_is_not_on_loopback_is_refused_unless_it_is_asked_for() {
    let gate = Gate::builder().replaceable().start();
    let plain = gate.config.clone().set("public_url", "http://mlflow.example.com");
    assert_eq!(gate.envoy().push_listener(&plain).unwrap(), Verdict::Rejected);
    let asked_for = plain.set("allow_insecure_http", true);
    assert_eq!(gate.envoy().push_listener(&asked_for).unwrap(), Verdict::Accepted);
    assert!(gate.envoy().log().contains("allowed by allow_insecure_http"));
}

#[test]
fn lo20_no_option_switches_the_checks_of_logout_tokens_off() {
    let gate = Gate::builder().replaceable().start();
    for (section, field) in [
        ("login", "verify_logout_tokens"),
        ("login", "backchannel_logout_signature"),
        ("session", "accept_unsigned_logout_tokens"),
        ("issuer", "skip_signature_verification"),
        ("client", "verify_signature"),
    ] {
        let config = gate.config.clone().plugin(|plugin| plugin[section][field] = json!(false));
        assert_eq!(gate.envoy().push_listener(&config).unwrap(), Verdict::Rejected, "{section}.{field}");
    }
    for algorithms in [json!(["none"]), json!(["RS256", "none"]), json!(["HS256"]), json!([])] {
        let config = gate.config.clone().plugin(|plugin| {
            plugin["login"]["id_token_algorithms"] = algorithms.clone();
        });
        assert_eq!(gate.envoy().push_listener(&config).unwrap(), Verdict::Rejected, "{algorithms}");
    }
    assert_workers_alive(&gate);
}

#[test]
fn f206_whoever_a_named_rule_refuses_is_told_its_name_and_log_and_metric_say_it() {
    let gate = Gate::builder()
        .plugin(|plugin| {
            plugin["policy"]["rules"] = json!([
                {"name": "Metrics for operators", "path": {"exact": "/metrics"}, "access": {"groups": ["operators"]}},
                {"name": "debug", "path": {"prefix": "/debug"}, "access": "not_found"},
            ]);
        })
        .start();
    let token = gate.provider.access_token("mlflow_user");
    let bearer = |path: &str| Client::new().fetching("GET", &gate.url(path)).bearer(&token).send();
    let counted = |reason: &str| {
        let name = format!("wasmcustom.oidc_gate_decisions_total.outcome.refused.reason.{reason}: ");
        let stats = gate.envoy().admin("GET", "/stats").unwrap().text();
        stats.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned))
    };
    for reason in ["not_allowed_metrics_for_operators", "not_found_debug"] {
        assert_eq!(counted(reason).as_deref(), Some("0"), "{reason}: it exists from the start");
    }
    let refused = assert_refused(&gate, 403, || bearer("/metrics"));
    assert_eq!(refused.json()["rule"], "Metrics for operators", "{refused}");
    let browser = gate.signed_in("mlflow_user");
    let page = assert_refused(&gate, 403, || browser.navigate(&gate.url("/metrics")));
    assert!(page.text().contains("<dd>Metrics for operators</dd>"), "{page}");
    let hidden = assert_refused(&gate, 404, || bearer("/debug/pprof"));
    assert!(!hidden.text().contains("debug"), "{hidden}");
    assert_eq!(counted("not_allowed_metrics_for_operators").as_deref(), Some("2"));
    assert_eq!(counted("not_found_debug").as_deref(), Some("1"));
    assert_eq!((counted("not_allowed").as_deref(), counted("not_found").as_deref()), (Some("0"), Some("0")));
    let log = gate.envoy().log();
    for line in [
        "reason=not_allowed_metrics_for_operators method=GET path=\"/metrics\" rule=\"Metrics for operators\"",
        "reason=not_found_debug method=GET path=\"/debug/pprof\" rule=\"debug\"",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    let metrics = gate.envoy().admin("GET", "/stats/prometheus").unwrap().text();
    assert!(metrics.contains("reason=\"not_allowed_metrics_for_operators\""), "a label: {metrics}");
}

#[test]
fn f204_a_rule_about_a_method_that_never_reaches_it_is_refused() {
    let gate = Gate::builder().replaceable().start();
    let browser = gate.signed_in("mlflow_user");
    let bad = gate.config.clone().plugin(|plugin| {
        plugin["policy"]["rules"] =
            json!([{"path": {"prefix": "/dav"}, "methods": ["GET", "PROPFIND"], "access": "users"}]);
    });
    assert_eq!(gate.envoy().push_listener(&bad).unwrap(), Verdict::Rejected);
    let log = gate.envoy().log();
    let error = "policy.rules[0].methods[1]: is \"PROPFIND\", which the gate refuses with 400 before any rule \
                 applies; it allows GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    assert!(log.contains(error), "{log}");
    assert_refused(&gate, 400, || browser.fetching("PROPFIND", &gate.url("/dav")).send());
    assert_allowed(&gate, || browser.fetch(&gate.url("/dav")));
}

#[test]
fn f205_a_member_that_is_there_twice_is_refused_and_the_old_configuration_keeps_serving() {
    let gate = Gate::builder().replaceable().start();
    let browser = gate.signed_in("mlflow_user");
    let mut written = String::new();
    let config = gate.config.clone().plugin(|plugin| written = plugin.to_string());
    let twice = written.replacen('{', "{\"clock_leeway\": \"50s\", ", 1);
    assert_eq!(
        gate.envoy().push_listener(&config.clone().plugin_as_text(&twice)).unwrap(),
        Verdict::Rejected
    );
    let log = gate.envoy().log();
    let error = "clock_leeway: is set more than once: only one of them would take effect";
    assert!(log.contains(error) && log.contains("has 1 error"), "{log}");
    assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
    assert_eq!(gate.envoy().push_listener(&config.plugin_as_text(&written)).unwrap(), Verdict::Accepted);
    assert!(assert_settled(&gate));
    assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
}
