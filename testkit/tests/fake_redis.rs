//! The fake Redis does what its script says, and counts.

use std::time::Duration;

use oidc_gate_testkit::browser::raw::Connection;
use oidc_gate_testkit::redis::{FakeRedis, Script};

const SHORT: Duration = Duration::from_millis(200);

fn ask(fake: &FakeRedis) -> Vec<u8> {
    let mut connection = Connection::open(fake.port()).unwrap();
    // A peer that closes at once may have done so already.
    let _ = connection.send("*1\r\n$4\r\nPING\r\n");
    connection.read_to_end(SHORT).unwrap_or_default()
}

#[test]
fn it_answers_as_scripted() {
    let fake = FakeRedis::start(Script::Silent).unwrap();
    for (script, expected) in [
        (Script::Silent, &b""[..]),
        (Script::Close, b""),
        (Script::Reply(b"-LOADING\r\n".to_vec()), b"-LOADING\r\n"),
        (Script::ReplyAndHold(b"+PO".to_vec()), b"+PO"),
    ] {
        fake.play(script.clone());
        assert_eq!(ask(&fake), expected, "{script:?}");
    }
    assert_eq!(fake.connections(), 4);
}
