//! The fake Redis follows its script and counts.

use std::time::Duration;

use oidc_gate_testkit::browser::raw::Connection;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::redis::{FakeRedis, Script};

/// Time limit for something that must happen.
const BOUND: Duration = Duration::from_secs(20);
/// How long the test checks that something does not happen.
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn it_answers_as_scripted() {
    let fake = FakeRedis::start(Script::Silent).unwrap();
    for (number, (script, expected, closes)) in (1..).zip([
        (Script::Silent, &b""[..], false),
        (Script::Close, b"", true),
        (Script::Reply(b"-LOADING\r\n".to_vec()), b"-LOADING\r\n", true),
        (Script::ReplyAndHold(b"+PO".to_vec()), b"+PO", false),
    ]) {
        fake.play(script.clone());
        let mut connection = Connection::open(fake.port()).unwrap();
        // The peer may have closed the connection already.
        let _ = connection.send("*1\r\n$4\r\nPING\r\n");
        // The current script applies when the connection is made, so the next step waits for it.
        assert!(wait_until(BOUND, || fake.connections() == number), "{script:?}");
        let answer = if closes {
            connection.read_to_end(BOUND).unwrap_or_default()
        } else {
            connection.read_until(BOUND, |bytes| bytes.len() >= expected.len()).unwrap();
            connection.read_to_end(SHORT).unwrap()
        };
        assert_eq!(answer, expected, "{script:?}");
    }
    assert!(
        wait_until(BOUND, || fake.heard("PING") == 3),
        "all but the one that closes at once have heard it"
    );
    assert_eq!(fake.heard("PONG"), 0);
}
