//! Realistic failures of Redis at any moment: nobody gets access without a session, no session is lost, and nothing
//! must be restarted.

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::provider::{Endpoint, Grant, Times};
use oidc_gate_testkit::redis::{Fault, On};
use oidc_gate_tests::{
    BOUND, Builder, Gate, assert_everywhere, assert_soon_everywhere, assert_workers_alive,
};

/// Error replies of Redis.
const ERRORS: [&str; 11] = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the command",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOSCRIPT No matching script. Please use EVAL.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
];

/// How long Redis may be silent. On a busy machine it may answer late.
const TIMEOUT: &str = "3s";

/// A gate with a proxy in front of Redis.
fn builder() -> Builder {
    Gate::builder().redis_proxy().set("session.redis.timeout", TIMEOUT)
}

/// A gate that asks Redis for every request.
fn gate() -> Gate {
    builder().set("session.cache_ttl", "0s").start()
}

fn sessions() -> On {
    On::Key("mlflow:s:".to_owned())
}

#[track_caller]
fn assert_unavailable(gate: &Gate, name: &str, response: &Response) {
    assert!(
        response.status == 503 && response.header("retry-after").is_some(),
        "{name}: {response}\n{}",
        gate.envoy().trouble("is asked why")
    );
}

#[test]
fn ss03_ss04_an_error_where_a_session_is_read_is_503_and_neither_a_login_nor_a_way_in() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    let mut faults: Vec<(&str, Fault)> =
        ERRORS.iter().map(|error| (*error, Fault::Error((*error).to_owned()))).collect();
    faults.extend([
        ("closed", Fault::Close),
        ("closed after it was done", Fault::DoneAndClose),
        ("half an answer", Fault::HalfAnswer),
        ("silence", Fault::Silence),
        ("silence after it was done", Fault::DoneAndSilence),
        ("somebody else's answer", Fault::AnswersOfAnother),
        ("another type", Fault::Bytes(b":1\r\n".to_vec())),
        ("a simple string", Fault::Bytes(b"+OK\r\n".to_vec())),
        ("an answer too many", Fault::Bytes(b"*2\r\n$-1\r\n$-1\r\n+OK\r\n".to_vec())),
        ("noise", Fault::Bytes(vec![0xff; 4000])),
        ("nothing", Fault::Bytes(Vec::new())),
    ]);
    for (name, fault) in faults {
        let proxy = gate.redis_proxy();
        proxy.fail(sessions(), Times::Always, fault);
        let (applied, reached) = (proxy.applied(), gate.echo.count());
        eprintln!("{name}");
        assert_unavailable(&gate, name, &browser.fetch(&gate.url("/x")).unwrap());
        let page = browser.navigate(&gate.url("/x")).unwrap();
        assert_unavailable(&gate, name, &page);
        assert_eq!(page.header_lines("set-cookie"), Vec::<String>::new(), "{name}: the session is given up");
        assert_eq!(gate.echo.count(), reached, "{name}: let through");
        assert!(proxy.applied() > applied, "{name}: Redis was not asked");
        proxy.behave();
        // Immediately: no earlier connection is used again.
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    assert_workers_alive(&gate);
}

#[test]
fn ss03_an_answer_of_another_shape_is_503_and_does_not_end_the_session() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    for answer in
        ["*1\r\n$-1\r\n", "*2\r\n:1\r\n:2\r\n", "*3\r\n$-1\r\n$-1\r\n$-1\r\n", "*0\r\n", "*-1\r\n", "$-1\r\n"]
    {
        gate.redis_proxy().fail(sessions(), Times::Always, Fault::Bytes(answer.into()));
        assert_unavailable(&gate, answer, &browser.fetch(&gate.url("/x")).unwrap());
        gate.redis_proxy().behave();
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
}

#[test]
fn ss03_with_redis_refusing_everything_there_is_503_for_sessions_and_bearer_tokens_go_on() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    let token = gate.provider.access_token("mlflow_user");
    for error in ["NOAUTH Authentication required.", "LOADING x", "ERR max number of clients reached"] {
        gate.redis_proxy().fail(On::Everything, Times::Always, Fault::Error(error.to_owned()));
        assert_soon_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
        assert_everywhere(&gate, 200, "/x", |url| Client::new().request("GET", url).bearer(&token));
        gate.redis_proxy().behave();
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
}

#[test]
fn ss03_a_login_that_redis_does_not_take_is_503_and_costs_nothing_but_another_try() {
    let gate = gate();
    let mut faults: Vec<Fault> = ERRORS.iter().map(|error| Fault::Error((*error).to_owned())).collect();
    faults.extend([Fault::Close, Fault::HalfAnswer, Fault::Silence, Fault::DoneAndClose]);
    for on in [On::Key("mlflow:code:".to_owned()), sessions()] {
        for fault in &faults {
            let (browser, callback) = gate.at_callback("mlflow_user", "/x");
            gate.redis_proxy().fail(on.clone(), Times::Always, fault.clone());
            eprintln!("{on:?} {fault:?}");
            let page = browser.navigate(&callback).unwrap();
            assert_unavailable(&gate, &format!("{on:?} {fault:?}"), &page);
            assert_eq!(gate.session_cookie(&browser), None, "{on:?} {fault:?}");
            gate.redis_proxy().behave();
            gate.sign_in(&browser, "mlflow_user", "/x");
        }
    }
    // No code was sent to the provider twice.
    assert_eq!(gate.provider.spent_twice(), 0);
    assert_eq!(gate.provider.refused(Grant::AuthorizationCode), []);
    assert_workers_alive(&gate);
}

#[test]
fn ss06_a_sign_out_that_redis_does_not_confirm_says_so_and_is_completed_later() {
    let gate = gate();
    for fault in [
        Fault::Error(ERRORS[1].to_owned()),
        Fault::Error(ERRORS[4].to_owned()),
        Fault::Close,
        Fault::Silence,
        Fault::DoneAndClose,
    ] {
        let browser = gate.signed_in("mlflow_user");
        let cookie = gate.session_cookie(&browser).unwrap();
        let kept = gate.browser_with(&cookie);
        gate.redis_proxy().fail(On::Command("DEL"), Times::Always, fault.clone());
        eprintln!("{fault:?}");
        let page = browser.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
        assert_eq!(page.status, 503, "{fault:?}: {page}");
        // Whatever Redis still stores, the session has ended here.
        assert_everywhere(&gate, 401, "/x", |url| kept.fetching("GET", url));
        gate.redis_proxy().behave();
        let gone = || gate.redis().keys("mlflow:s:*").unwrap().is_empty();
        gate.wait_until(&format!("does not try again after {fault:?}"), gone);
        assert_everywhere(&gate, 401, "/x", |url| kept.fetching("GET", url));
    }
}

#[test]
fn ss03_a_refresh_that_can_t_begin_in_redis_spends_nothing() {
    let gate = builder().set("session.refresh_ahead", "0s").start();
    for error in ERRORS {
        let browser = gate.signed_in_and_expired("mlflow_user", 1);
        let before = gate.provider.count(Grant::RefreshToken);
        gate.redis_proxy().fail(On::Script("mlflow:s:"), Times::Always, Fault::Error(error.to_owned()));
        eprintln!("{error}");
        assert_unavailable(&gate, error, &browser.fetch(&gate.url("/x")).unwrap());
        assert_eq!(gate.provider.count(Grant::RefreshToken), before, "{error}: spent without a lease");
        gate.redis_proxy().behave();
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
        assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1, "{error}");
    }
    assert_eq!(gate.provider.spent_twice(), 0);
}

#[test]
fn rf06_what_a_refresh_bought_is_kept_although_redis_does_not_take_it_at_first() {
    use oidc_gate_testkit::provider::Hold;
    let gate = builder().set("session.refresh_ahead", "0s").start();
    for fault in [
        Fault::Error(ERRORS[1].to_owned()),
        Fault::Close,
        Fault::HalfAnswer,
        Fault::DoneAndClose,
        Fault::Silence,
    ] {
        let browser = gate.signed_in_and_expired("mlflow_user", 1);
        let before = gate.provider.count(Grant::RefreshToken);
        let hold = Hold::spent();
        gate.provider.hold(Grant::RefreshToken, &hold);
        let waiting = browser.fetching("GET", &gate.url("/x")).begin();
        hold.wait_for(1, BOUND).unwrap();
        // The lease is taken and the token is spent. Now Redis fails for the first writes.
        gate.redis_proxy().fail(On::Script("mlflow:s:"), Times::Next(2), fault.clone());
        hold.release();
        eprintln!("{fault:?}");
        let answer = waiting.finish().unwrap();
        assert!([200, 503].contains(&answer.status), "{fault:?}: {answer}");
        assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
        assert_eq!(gate.provider.count(Grant::RefreshToken), before + 1, "{fault:?}");
        gate.redis_proxy().behave();
        gate.provider.behave();
    }
    assert_eq!(gate.provider.spent_twice(), 0);
}

#[test]
fn ss03_a_gate_that_starts_before_redis_is_503_for_sessions_and_then_works() {
    let gate = Gate::builder().without_redis().start();
    let token = gate.provider.access_token("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| Client::new().request("GET", url).bearer(&token));
    let browser = gate.browser_with(&"A".repeat(64));
    assert_everywhere(&gate, 503, "/x", |url| browser.fetching("GET", url));
    gate.redis().resume().unwrap();
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    gate.signed_in("mlflow_user");
    assert_eq!(gate.provider.count(Endpoint::Token), 1);
}

#[test]
fn ss03_a_redis_that_lost_everything_ends_sessions_and_nothing_else() {
    let gate = Gate::builder().envoys(2).start();
    let browser = gate.signed_in("mlflow_user");
    let token = gate.provider.access_token("mlflow_user");
    gate.redis().kill();
    gate.redis().resume().unwrap();
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| Client::new().request("GET", url).bearer(&token));
    let journey = browser.navigate(&gate.url("/x")).unwrap();
    assert_eq!(journey.status, 302, "{journey}");
    gate.sign_in(&browser, "mlflow_user", "/x");
    assert_soon_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
}
