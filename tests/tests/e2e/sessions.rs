//! Sessions in Redis: what is stored, how changed records are treated, and when sessions end by themselves.

use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::{User, random_text};
use oidc_gate_tests::{
    BOUND, Gate, assert_everywhere, assert_refused, assert_soon_everywhere, assert_stopped,
    assert_workers_alive, wait_for_age,
};

/// A gate that asks Redis for every request.
fn gate() -> Gate {
    Gate::builder().set("session.cache_ttl", "0s").start()
}

fn session_keys(gate: &Gate) -> Vec<String> {
    gate.redis().keys("mlflow:s:*").unwrap()
}

#[test]
fn ss02_nothing_but_a_well_formed_ticket_reaches_redis() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    let good = gate.session_cookie(&browser).unwrap();
    let monitor = gate.redis().monitor().unwrap();
    for value in [
        "*",
        "?",
        "../../etc/passwd",
        "%0d%0aSET%20x%201",
        "%s%n%x",
        "mlflow:s:*",
        "[a-z]",
        "\u{e9}\u{1f600}",
        &format!("{good}*"),
        &good[1..],
        &format!("{}+{}", &good[..31], &good[32..]),
        &"A".repeat(20_000),
        &format!("{}/{}", &good[..31], &good[32..]),
    ] {
        let header = format!("{}={value}", gate.session_cookie_name());
        let request = Client::new().fetching("GET", &gate.url("/x")).header("cookie", &header);
        assert_refused(&gate, 401, || request.send());
    }
    let asked: Vec<_> = monitor.commands().unwrap();
    let about_sessions = asked.iter().filter(|command| command.key().is_some_and(|key| key.contains(":s:")));
    assert_eq!(about_sessions.count(), 0, "{asked:#?}");
    // A well-formed ticket without a session. Redis is asked for it under a name from which the ticket cannot be
    // derived.
    let unknown = random_text(64);
    assert_refused(&gate, 401, || gate.browser_with(&unknown).fetch(&gate.url("/x")));
    let asked = monitor.commands().unwrap();
    let key = asked.iter().filter_map(|command| command.key()).find(|key| key.contains(":s:")).unwrap();
    for part in [&unknown[..12], &unknown[21..33], &unknown[50..]] {
        assert!(!key.contains(part), "{key} tells of {unknown}");
    }
}

#[test]
fn ss05_a_record_that_was_changed_in_redis_is_no_session() {
    let gate = gate();
    let other = gate.signed_in("mlflow_admin");
    let keys_before = session_keys(&gate);
    let script = |body: &str, keys: &[&str]| {
        let count = keys.len().to_string();
        gate.redis().command(&[&["EVAL", body, count.as_str()], keys].concat()).unwrap();
    };
    const SET: &str = "redis.call('HSET', KEYS[1], 'rec', rec)";
    let read = "local rec = redis.call('HGET', KEYS[1], 'rec') ";
    for (name, change) in [
        ("cut off", format!("{read} rec = string.sub(rec, 1, -2) {SET}")),
        ("half", format!("{read} rec = string.sub(rec, 1, #rec / 2) {SET}")),
        ("longer", format!("{read} rec = rec .. 'x' {SET}")),
        ("empty", format!("local rec = '' {SET}")),
        (
            "one bit in the middle",
            format!(
                "{read} local at = math.floor(#rec / 2) \
             local byte = string.char(bit.bxor(string.byte(rec, at), 1)) \
             rec = string.sub(rec, 1, at - 1) .. byte .. string.sub(rec, at + 1) {SET}"
            ),
        ),
        (
            "one bit at the start",
            format!("{read} rec = string.char(bit.bxor(string.byte(rec, 1), 1)) .. string.sub(rec, 2) {SET}"),
        ),
        ("JSON", format!("local rec = '{{\"schema\":2,\"principal\":{{\"subject\":\"admin\"}}}}' {SET}")),
        ("a newer version of the form", format!("{read} rec = string.char(255) .. string.sub(rec, 2) {SET}")),
        ("deep", format!("local rec = string.rep('[', 50000) {SET}")),
        ("large", format!("local rec = string.rep('A', 200000) {SET}")),
        ("another count", "redis.call('HSET', KEYS[1], 'ver', '7')".to_owned()),
        ("a count that is none", "redis.call('HSET', KEYS[1], 'ver', 'x')".to_owned()),
        ("no count", "redis.call('HDEL', KEYS[1], 'ver')".to_owned()),
        ("no record", "redis.call('HDEL', KEYS[1], 'rec')".to_owned()),
        (
            "somebody else's",
            "redis.call('HSET', KEYS[1], 'rec', redis.call('HGET', KEYS[2], 'rec'))".to_owned(),
        ),
    ] {
        let browser = gate.signed_in("mlflow_user");
        let keys = session_keys(&gate);
        let key = keys.iter().find(|key| !keys_before.contains(key)).unwrap();
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200, "{name}");
        script(&change, &[key, &keys_before[0]]);
        // A record that is too large to be read completely counts as a failure of Redis, not as an answer.
        let expected: &[u16] = if name == "large" { &[401, 503] } else { &[401] };
        assert_stopped(&gate, expected, name, || browser.fetch(&gate.url("/x")));
        gate.redis().command(&["DEL", key]).unwrap();
    }
    assert_everywhere(&gate, 200, "/x", |url| other.fetching("GET", url));
    assert_workers_alive(&gate);
}

#[test]
fn ss05_two_records_that_were_exchanged_open_nothing() {
    let gate = gate();
    let (user, admin) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_admin"));
    let keys = session_keys(&gate);
    let swap = "redis.call('RENAME', KEYS[1], 'mlflow:x') redis.call('RENAME', KEYS[2], KEYS[1]) \
                redis.call('RENAME', 'mlflow:x', KEYS[2])";
    gate.redis().command(&["EVAL", swap, "2", &keys[0], &keys[1]]).unwrap();
    for browser in [&user, &admin] {
        assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    }
}

#[test]
fn ss07_redis_keeps_a_session_no_longer_than_its_limits() {
    let gate =
        Gate::builder().set("session.idle_timeout", "40s").set("session.absolute_timeout", "1m").start();
    let browser = gate.signed_in("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    let keys = session_keys(&gate);
    assert!(!keys.is_empty());
    for key in keys {
        let left: i64 = gate.redis().query(&["PTTL", &key]).unwrap();
        // The record may outlive the idle timeout: while Redis accepts no writes, it cannot learn that the session is
        // in use.
        assert!((1..=60_000).contains(&left), "{key} lives for {left} ms");
    }
}

#[test]
fn ss07_a_record_that_redis_did_not_forget_opens_nothing_after_the_absolute_timeout() {
    let gate = Gate::builder()
        .set("session.cache_ttl", "0s")
        .set("session.idle_timeout", "6s")
        .set("session.absolute_timeout", "6s")
        .start();
    let signed_in = Instant::now();
    let browser = gate.signed_in("mlflow_user");
    let key = session_keys(&gate).remove(0);
    let evaluate = |script: &str| gate.redis().command(&["EVAL", script, "2", &key, "mlflow:kept"]);
    let ended = || {
        let status = browser.fetch(&gate.url("/x")).unwrap().status;
        if status == 200 {
            // The latest copy. Its last use was just now, so it does not time out.
            evaluate("redis.call('COPY', KEYS[1], KEYS[2], 'REPLACE') redis.call('PERSIST', KEYS[2])")
                .unwrap();
        }
        status == 401
    };
    gate.wait_until("keeps it for ever", ended);
    assert!(signed_in.elapsed() >= Duration::from_secs(5), "ended after {:?}", signed_in.elapsed());
    evaluate("redis.call('RENAME', KEYS[2], KEYS[1])").unwrap();
    assert_eq!(session_keys(&gate), std::slice::from_ref(&key));
    // CK09
    assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
}

#[test]
fn ss07_a_record_that_redis_did_not_forget_opens_nothing_after_the_idle_timeout() {
    let gate = Gate::builder().set("session.cache_ttl", "0s").set("session.idle_timeout", "5s").start();
    let browser = gate.signed_in("mlflow_user");
    let since = Instant::now();
    let key = session_keys(&gate).remove(0);
    gate.redis().command(&["PERSIST", &key]).unwrap();
    wait_for_age(since, Duration::from_secs(6));
    assert_eq!(session_keys(&gate), [key]);
    assert_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
}

#[test]
fn ck09_an_idle_session_ends_and_one_in_use_goes_on() {
    let gate = Gate::builder().set("session.cache_ttl", "1s").set("session.idle_timeout", "8s").start();
    let (idle, used) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_user"));
    let signed_in = Instant::now();
    let over = || {
        assert_eq!(used.fetch(&gate.url("/x")).unwrap().status, 200);
        signed_in.elapsed() >= Duration::from_secs(12)
    };
    wait_until(BOUND, over);
    assert_everywhere(&gate, 401, "/x", |url| idle.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| used.fetching("GET", url));
}

#[test]
fn a_session_never_outlives_its_refresh_token() {
    let gate = Gate::builder()
        .set("session.cache_ttl", "0s")
        .provider(|provider| {
            provider.settings(|settings| {
                settings.access_token_lifespan = 2;
                settings.sso_session_max_lifespan = 6;
            });
        })
        .start();
    let signed_in = Instant::now();
    let browser = gate.signed_in("mlflow_user");
    let left: i64 = gate.redis().query(&["PTTL", &session_keys(&gate)[0]]).unwrap();
    assert!(left <= 6000, "Redis keeps it for {left} ms");
    let ended = || {
        let status = browser.fetch(&gate.url("/x")).unwrap().status;
        assert!([200, 401].contains(&status), "{status}");
        status == 401
    };
    gate.wait_until("keeps it", ended);
    assert!(signed_in.elapsed() >= Duration::from_secs(4), "ended after {:?}", signed_in.elapsed());
}

#[test]
fn ss09_an_index_that_names_what_is_gone_is_harmless_and_a_user_s_logout_ends_what_the_index_lost() {
    let gate = gate();
    let (gone, lives) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_user"));
    let first = session_keys(&gate).remove(0);
    gate.redis().command(&["DEL", &first]).unwrap();
    let page = lives.navigate(&gate.url("/oauth2/account")).unwrap();
    let page = if page.status == 200 { page } else { gone.navigate(&gate.url("/oauth2/account")).unwrap() };
    assert_eq!(page.status, 200, "{page}");
    // All indexes are lost.
    for key in ["mlflow:su[bd]:*", "mlflow:sid:*"].iter().flat_map(|keys| gate.redis().keys(keys).unwrap()) {
        gate.redis().command(&["DEL", &key]).unwrap();
    }
    gate.wait_for_second_after(gate.provider.now());
    let deliveries = gate.provider.log_out_user("mlflow_user");
    assert!(deliveries.iter().all(|delivery| delivery.status == Some(200)), "{deliveries:?}");
    for browser in [&gone, &lives] {
        assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    }
}

#[test]
fn ss11_redis_sees_no_token_no_cookie_and_no_name() {
    let gate = Gate::builder()
        .set("session.cache_ttl", "0s")
        .set("session.refresh_ahead", "0s")
        .provider(|provider| provider.settings(|settings| settings.access_token_lifespan = 1))
        .start();
    let monitor = gate.redis().monitor().unwrap();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let signed_in = Instant::now();
    wait_for_age(signed_in, Duration::from_secs(2));
    assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
    assert_eq!(browser.navigate(&gate.url("/oauth2/account")).unwrap().status, 200);
    gate.provider.delete_session(&sid);
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    let mut seen = monitor.lines().unwrap().join("\n");
    for key in gate.redis().keys("*").unwrap() {
        seen += &format!("\n{key}");
    }
    assert!(seen.contains("mlflow:s:") && seen.contains("XADD"), "{seen}");
    assert_eq!(gate.find_secret_in(&seen), None);
    let subject = gate.provider.user("mlflow_user").subject;
    for name in ["mlflow_user", "mlflow_users", "example.com", subject.as_str(), sid.as_str()] {
        assert!(!seen.contains(name), "Redis sees {name}");
    }
}

#[test]
fn ss12_gates_with_one_redis_and_one_key_do_not_open_each_others_sessions() {
    let key = random_text(48);
    let here = Gate::builder().env("SECRET_KEY", &key).start();
    here.plant_secret(&key);
    let (port, password) = (here.redis().port(), here.redis().password().to_owned());
    let tenant = |prefix: &'static str| {
        let gate = Gate::builder()
            .env("SECRET_KEY", &key)
            .env("REDIS_PASSWORD", &password)
            .envoy(move |config| config.cluster("redis", "127.0.0.1", port))
            .set("session.redis.prefix", prefix)
            .start();
        gate.plant_secret(&key);
        gate.plant_secret(&password);
        gate
    };
    let browser = here.signed_in("mlflow_admin");
    // Another prefix, and the same prefix for another public URL. In the latter, this gate's session is stored too.
    for (prefix, sessions) in [("other", 1), ("mlflow", 2)] {
        let there = tenant(prefix);
        let response = browser.fetch(&there.url("/x")).unwrap();
        assert_eq!(response.status, 401, "{prefix}: {response}");
        assert_eq!(there.echo.count(), 0, "{prefix}");
        there.signed_in("mlflow_user");
        let keys = here.redis().keys(&format!("{prefix}:s:*")).unwrap();
        assert_eq!(keys.len(), sessions, "{prefix}: {keys:?}");
    }
    assert_everywhere(&here, 200, "/x", |url| browser.fetching("GET", url));
}

#[test]
fn cf08_ck07_keys_rotate_old_ones_open_and_reseal_and_a_removed_one_ends_its_sessions() {
    let [old, new] = [random_text(48), random_text(48)];
    let mut gate = Gate::builder()
        .env("SECRET_KEY", &old)
        .set("session.cache_ttl", "0s")
        // One text with commas. In an item of a list, the comma would be part of the key.
        .set("session.keys", serde_json::json!({"env": "SECRET_KEY"}))
        // Each refresh writes the record, and thereby seals it with the new key.
        .set("session.refresh_ahead", "0s")
        .set("session.check_interval", "1s")
        .start();
    gate.plant_secret(&old);
    gate.plant_secret(&new);
    let (used, unused) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_admin"));
    gate.set_env("SECRET_KEY", &format!("{new},{old}"));
    gate.kill_envoy(0);
    gate.start_envoy(0);
    let written = |gate: &Gate| gate.provider.granted(oidc_gate_testkit::provider::Grant::RefreshToken);
    let before = written(&gate);
    let resealed = || {
        assert_eq!(used.fetch(&gate.url("/x")).unwrap().status, 200);
        written(&gate) > before
    };
    gate.wait_until("writes nothing", resealed);
    gate.set_env("SECRET_KEY", &new);
    gate.kill_envoy(0);
    gate.start_envoy(0);
    assert_everywhere(&gate, 200, "/x", |url| used.fetching("GET", url));
    assert_everywhere(&gate, 401, "/x", |url| unused.fetching("GET", url));
    gate.signed_in("mlflow_admin");
}

#[test]
fn ck10_pieces_of_a_session_cookie_are_no_session() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    let cookie = gate.session_cookie(&browser).unwrap();
    let name = gate.session_cookie_name();
    let (first, second) = cookie.split_at(32);
    for header in [
        format!("{name}_0={first}; {name}_1={second}"),
        format!("{name}-0={first}; {name}-1={second}"),
        format!("{name}.0={first}; {name}.1={second}; {name}=2"),
        format!("{name}_chunks=99999999999; {name}_0={cookie}"),
        format!("{name}={first}; {name}_1={second}"),
    ] {
        let request = Client::new().fetching("GET", &gate.url("/x")).header("cookie", &header);
        assert_refused(&gate, 401, || request.send());
    }
}

#[test]
fn ck13_sign_out_deletes_the_cookie_with_the_attributes_with_which_it_was_set() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    let response = browser.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
    let name = format!("{}=", gate.session_cookie_name());
    let lines = response.header_lines("set-cookie");
    let deletion = lines.iter().find(|line| line.starts_with(&name)).unwrap();
    for attribute in ["Max-Age=0", "Path=/", "HttpOnly", "SameSite=Lax"] {
        assert!(deletion.contains(attribute), "{deletion}");
    }
    let secure = Gate::builder().env("MLFLOW_PUBLIC_URL", "https://mlflow.example.com").start();
    let response = Client::new().submit(&secure.url("/oauth2/logout"), &[]).unwrap();
    for line in response.header_lines("set-cookie") {
        assert!(line.starts_with("__Host-") && line.contains("Secure") && line.contains("Path=/"), "{line}");
    }
}

/// More sessions than the memory limit of a worker allows. Each takes about 36 KB.
#[test]
fn ss10_a_workers_memory_does_not_grow_with_the_number_of_sessions() {
    let gate = Gate::builder().workers(1).start();
    let names: Vec<String> = (0..600).map(|number| format!("/a-rather-long-group-name-{number}")).collect();
    let groups: Vec<&str> = names.iter().map(String::as_str).chain(["/mlflow_users"]).collect();
    gate.provider.add_user(User::new("busy", &groups));
    let mut held = Vec::new();
    let first = gate.signed_in("busy");
    for sessions in [1000, 400] {
        for _ in 0..sessions {
            gate.signed_in("busy");
        }
        held.push(gate.envoy().resident_bytes().unwrap() >> 10);
    }
    println!("Envoy's memory after 1000 and 1400 sessions, in KiB: {held:?}");
    // The cache is full after 1000. Without a limit, 400 more would take about 12 MiB.
    assert!(held[1] < held[0] + 6 * 1024, "{held:?} KiB");
    // The oldest session is no longer cached. It is read from Redis.
    assert_everywhere(&gate, 200, "/x", |url| first.fetching("GET", url));
    assert_workers_alive(&gate);
}
