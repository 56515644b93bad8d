//! Redis under load from browsers and API clients: how the gate recovers, and how often it calls Redis.

use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::load::Load;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::Endpoint;
use oidc_gate_testkit::redis::Data;
use oidc_gate_tests::{BOUND, Gate, assert_everywhere, assert_soon_everywhere, assert_workers_alive};

const BROWSER: usize = 0;
const STRANGER: usize = 1;
const API: usize = 2;
const FORGER: usize = 3;

#[test]
fn redis_killed_and_restarted_under_load_lets_nobody_in_wrongly_and_throws_nobody_out() {
    let gate =
        Gate::builder().envoys(2).set("session.cache_ttl", "1s").set("session.redis.timeout", "1s").start();
    let browser = gate.signed_in("mlflow_user");
    let token = gate.provider.access_token("mlflow_user");
    let stranger = gate.browser_with(&"A".repeat(64));
    let (url, for_load) = (gate.url("/x"), browser.clone());
    let load = Load::start(4, move |client| match client {
        BROWSER => for_load.fetching("GET", &url),
        STRANGER => stranger.fetching("GET", &url),
        API => Client::new().request("GET", &url).bearer(&token),
        _ => Client::new().request("GET", &url).bearer("e30.e30.e30"),
    });
    let answered = |client: usize, status: u16| {
        let fits = move |outcome: &oidc_gate_testkit::browser::load::Outcome| {
            outcome.client == client && outcome.status() == Some(status)
        };
        load.wait_for(BOUND, fits).unwrap_or_else(|trouble| {
            panic!("client {client}, {status}: {trouble}\n{}", gate.envoy().trouble("is asked why"))
        });
    };
    answered(BROWSER, 200);
    answered(STRANGER, 401);
    for how in ["killed", "stopped", "frozen"] {
        gate.redis().save().unwrap();
        match how {
            "killed" => gate.redis().kill(),
            "stopped" => gate.redis().stop(),
            _ => gate.redis().freeze(),
        }
        answered(BROWSER, 503);
        answered(STRANGER, 503);
        answered(API, 200);
        answered(FORGER, 401);
        if how == "frozen" {
            gate.redis().thaw();
        } else {
            gate.redis().resume_with(Data::Saved).unwrap();
        }
        let back = Instant::now();
        answered(BROWSER, 200);
        println!("{how}: the browser is served again {:?} after Redis came back", back.elapsed());
        answered(STRANGER, 401);
        // The other Envoy has no load. It finds Redis at its next health check.
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
        println!("{how}: by every worker of both Envoys after {:?}", back.elapsed());
    }
    let outcomes = load.stop();
    println!("{} requests under load", outcomes.len());
    for outcome in &outcomes {
        let allowed: &[u16] = match outcome.client {
            BROWSER => &[200, 503],
            STRANGER => &[401, 503],
            API => &[200],
            _ => &[401],
        };
        assert!(
            outcome.status().is_some_and(|status| allowed.contains(&status)),
            "client {}: {:?}",
            outcome.client,
            outcome.result
        );
    }
    assert_eq!(gate.provider.count(Endpoint::Authorization), 1, "nobody was sent to sign in");
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_workers_alive(&gate);
}

#[test]
fn in_steady_state_redis_is_asked_once_per_cache_ttl_session_and_worker_at_most() {
    const TTL: Duration = Duration::from_secs(2);
    const WORKERS: u32 = 2;
    let gate = Gate::builder().workers(WORKERS).set("session.cache_ttl", "2s").start();
    let browsers: Vec<Client> = (0..3).map(|_| gate.signed_in("mlflow_user")).collect();
    for browser in &browsers {
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    let sessions = u32::try_from(browsers.len()).unwrap();
    let monitor = gate.redis().monitor().unwrap();
    let (url, began) = (gate.url("/x"), Instant::now());
    let load = Load::start(3, move |client| browsers[client].fetching("GET", &url));
    wait_until(BOUND, || began.elapsed() >= TTL * 3);
    let outcomes = load.stop();
    let took = began.elapsed();
    assert!(outcomes.iter().all(|outcome| outcome.status() == Some(200)));
    let commands = monitor.commands().unwrap();
    let about_sessions =
        commands.iter().filter(|command| command.key().is_some_and(|key| key.starts_with("mlflow:s:")));
    let scripts_about = |prefix: &str| {
        let scripts = commands.iter().filter(|command| command.name().starts_with("EVAL"));
        scripts.filter(|command| command.words.get(3).is_some_and(|key| key.starts_with(prefix))).count()
    };
    let scripts = scripts_about("mlflow:s:");
    let reads = about_sessions.count();
    // One more for each, since the period may start and end anywhere within the lifetime of a cache entry.
    let periods = u32::try_from(took.as_millis() / TTL.as_millis()).unwrap() + 1;
    let most = usize::try_from((periods + 1) * sessions * WORKERS).unwrap();
    println!(
        "{} page views in {took:?}: {reads} reads and {scripts} scripts about sessions in Redis ({:.4} per view); \
         at most {most} are allowed",
        outcomes.len(),
        (reads + scripts) as f64 / outcomes.len() as f64
    );
    assert!(reads + scripts <= most, "{reads} reads, {scripts} scripts, {most} allowed: {commands:#?}");
    assert!(outcomes.len() > most * 2, "too few page views to tell");
    // Other reads: the revocation stream, twice a second for the whole Envoy.
    let polls = scripts_about("mlflow:revoked");
    let polls_allowed = usize::try_from(took.as_millis() / 400).unwrap() + 2;
    assert!(polls <= polls_allowed, "{polls} looks into the log of endings in {took:?}");
}
