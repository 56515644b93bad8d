//! Many requests at once, and requests that are aborted.

use std::collections::BTreeSet;
use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::load::{Load, burst};
use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::process::wait_until;

const BOUND: Duration = Duration::from_secs(10);

#[test]
fn a_burst_answers_in_the_order_of_its_requests() {
    let echo = Echo::start().unwrap();
    let (client, port) = (Client::new(), echo.port());
    let answers =
        burst(60, 20, |number| client.fetching("GET", &format!("http://127.0.0.1:{port}/{number}")));
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().json()["path"], format!("/{number}"));
    }
    assert_eq!(echo.count(), 60);
}

#[test]
fn a_load_goes_on_through_an_outage_until_it_is_stopped() {
    let echo = Echo::start().unwrap();
    let port = echo.port();
    let load = Load::start(3, move |client| {
        Client::new().fetching("GET", &format!("http://127.0.0.1:{port}/{client}"))
    });
    load.wait_for(BOUND, |outcome| outcome.status() == Some(200)).unwrap();
    echo.stop();
    load.wait_for(BOUND, |outcome| outcome.result.is_err()).unwrap();
    echo.resume().unwrap();
    for client in 0..3 {
        load.wait_for(BOUND, |outcome| outcome.client == client && outcome.status() == Some(200)).unwrap();
    }
    let through = load.count();
    let outcomes = load.stop();
    assert!(outcomes.len() >= through);
    let clients: BTreeSet<usize> = outcomes.iter().map(|outcome| outcome.client).collect();
    assert_eq!(clients, BTreeSet::from([0, 1, 2]));
}

#[test]
fn a_request_that_is_given_up_is_closed_and_one_that_is_not_is_answered() {
    let echo = Echo::start().unwrap();
    let url = |events: u32| format!("http://127.0.0.1:{}/sse?events={events}&interval=20", echo.port());
    let endless = Client::new().request("GET", &url(1_000_000)).begin();
    assert!(wait_until(BOUND, || echo.count() == 1));
    assert!(!endless.is_finished());
    endless.abort();
    let short = Client::new().request("GET", &url(2)).begin();
    assert!(short.finish().unwrap().text().contains("event 1"));
}

#[test]
fn one_browser_has_one_jar_however_many_requests_it_sends_at_once() {
    let echo = Echo::start().unwrap();
    let (browser, port) = (Client::new(), echo.port());
    burst(20, 10, |number| {
        let cookie = format!("set-header=set-cookie:c{number}=1");
        browser.fetching("GET", &format!("http://127.0.0.1:{port}/?{cookie}"))
    });
    assert_eq!(browser.jar().names().len(), 20);
    assert!(Client::new().jar().names().is_empty());
}
