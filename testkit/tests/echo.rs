//! The application reports exactly what it received.

use oidc_gate_testkit::browser::{Client, raw};
use oidc_gate_testkit::echo::Echo;

#[test]
fn every_header_line_and_every_byte_of_body_is_reported() {
    let echo = Echo::start().unwrap();
    let url = format!("http://127.0.0.1:{}/a%2Fb/../c?d=e", echo.port());
    let response = Client::new()
        .request("PUT", &url)
        .header("x-a", "1")
        .header("x-a", b"\xe9")
        .body("12345")
        .send()
        .unwrap();
    assert_eq!(response.json()["body_bytes"], 5, "{response}");
    let received = echo.last().unwrap();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("PUT", "/a%2Fb/../c?d=e"));
    assert_eq!(received.values("x-a"), ["1", "é"]);
    assert_eq!(received.header("x-a"), None, "two lines are no single value");
    assert_eq!(echo.count(), 1);
}

#[test]
fn answers_are_what_the_query_asks_for() {
    let echo = Echo::start().unwrap();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", echo.port());
    let client = Client::new();
    let response =
        client.fetch(&url("/x?status=404&set-header=set-cookie:a=b&set-header=set-cookie:c=d")).unwrap();
    assert_eq!(
        (response.status, response.header_lines("set-cookie")),
        (404, vec!["a=b".to_owned(), "c=d".to_owned()])
    );
    assert_eq!(client.fetch(&url("/x?bytes=100000")).unwrap().body.len(), 100_000);
    assert!(client.fetch(&url("/sse?events=2&interval=1")).unwrap().text().ends_with("data: event 1\n\n"));
    assert!(client.navigate(&url("/")).unwrap().text().contains("Sign out"));
}

#[test]
fn a_request_that_breaks_off_counts_as_having_reached_the_application() {
    let echo = Echo::start().unwrap();
    let mut connection = raw::Connection::open(echo.port()).unwrap();
    connection.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    let counted = || echo.count() == 1;
    assert!(oidc_gate_testkit::process::wait_until(std::time::Duration::from_secs(5), counted));
}
