//! The proxy in front of Redis forwards everything except what it was told to disturb.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use oidc_gate_redis_model::resp::command;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::Times;
use oidc_gate_testkit::redis::{Fault, On, Proxy, Redis};

use crate::server::redis;

/// Time limit for something that must happen.
const BOUND: Duration = Duration::from_secs(10);
/// How long the test checks that something does not happen.
const SHORT: Duration = Duration::from_millis(500);

/// The reply to a pipeline that is sent and half-closed as Envoy does.
fn pipeline(redis: &Redis, port: u16, commands: &[&[&str]]) -> Option<String> {
    pipeline_within(BOUND, redis, port, commands)
}

/// Like [`pipeline`]. `None` if nothing arrives in this time.
fn pipeline_within(patience: Duration, redis: &Redis, port: u16, commands: &[&[&str]]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let auth = ["AUTH", redis.password()];
    let bytes: Vec<u8> = [&[&auth[..]], commands].concat().into_iter().flat_map(command).collect();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        _ => Some(answer),
    }
}

#[test]
fn what_it_was_not_told_about_passes_as_it_is() {
    let redis = redis();
    let proxy = Proxy::start(redis.port()).unwrap();
    proxy.fail(On::Command("GET"), Times::Always, Fault::Close);
    let commands: [&[&str]; 6] = [
        &["MULTI"],
        &["HSET", "k", "a", "1"],
        &["PEXPIRE", "k", "9000"],
        &["EXEC"],
        &["HMGET", "k", "a", "b"],
        &["ECHO", "w"],
    ];
    let answer = pipeline(&redis, proxy.port(), &commands).unwrap();
    assert_eq!(
        answer,
        "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n*2\r\n$1\r\n1\r\n$-1\r\n$1\r\nw\r\n"
    );
    assert_eq!(proxy.seen(), ["AUTH", "MULTI", "HSET", "PEXPIRE", "EXEC", "HMGET", "ECHO"]);
    assert_eq!((proxy.applied(), proxy.count("HSET")), (0, 1));
}

#[test]
fn each_fault_spoils_the_answer_and_the_command_is_done_or_not() {
    for (fault, answer, done) in [
        (Fault::Error("OOM x".into()), Some("+OK\r\n-OOM x\r\n$1\r\nw\r\n"), false),
        (Fault::Bytes(b":7\r\n".to_vec()), Some("+OK\r\n:7\r\n$1\r\nw\r\n"), false),
        (Fault::DoneButBytes(b"$5\r\nab".to_vec()), Some("+OK\r\n$5\r\nab$1\r\nw\r\n"), true),
        (Fault::Close, Some("+OK\r\n"), false),
        (Fault::DoneAndClose, Some(""), true),
        (Fault::HalfAnswer, Some("+OK\r\n"), true),
        (Fault::Silence, None, false),
        (Fault::DoneAndSilence, None, true),
    ] {
        let redis = redis();
        let proxy = Proxy::start(redis.port()).unwrap();
        proxy.fail(On::Writes, Times::Next(1), fault.clone());
        let commands: [&[&str]; 2] = [&["SET", "k", "1"], &["ECHO", "w"]];
        let patience = if answer.is_some() { BOUND } else { SHORT };
        let came = pipeline_within(patience, &redis, proxy.port(), &commands);
        assert_eq!(came.as_deref(), answer, "{fault:?}");
        // A missing reply does not tell whether Redis has received the command yet.
        assert!(wait_until(BOUND, || proxy.applied() == 1), "{fault:?}");
        assert!(wait_until(BOUND, || redis.keys("*").unwrap().is_empty() != done), "{fault:?}");
        let again = pipeline(&redis, proxy.port(), &commands);
        assert_eq!(again.as_deref(), Some("+OK\r\n+OK\r\n$1\r\nw\r\n"), "{fault:?}");
    }
}

#[test]
fn a_transaction_with_a_refused_command_does_nothing() {
    let redis = redis();
    let proxy = Proxy::start(redis.port()).unwrap();
    proxy.fail(On::Command("HSET"), Times::Always, Fault::Error("READONLY x".into()));
    let commands: [&[&str]; 4] = [&["MULTI"], &["SET", "a", "1"], &["HSET", "k", "a", "1"], &["EXEC"]];
    let answer = pipeline(&redis, proxy.port(), &commands).unwrap();
    assert_eq!(
        answer,
        "+OK\r\n+OK\r\n+QUEUED\r\n-READONLY x\r\n-EXECABORT Transaction discarded because of previous errors.\r\n"
    );
    assert_eq!(redis.keys("*").unwrap(), Vec::<String>::new());
}

#[test]
fn writes_and_keys_and_data_are_told_apart() {
    let redis = redis();
    let proxy = Proxy::start(redis.port()).unwrap();
    let all: [&[&str]; 4] =
        [&["GET", "p:s:1"], &["EVAL", "return 1", "1", "p:s:1"], &["SET", "p:code:1", "x"], &["ECHO", "w"]];
    for (on, expected) in [
        (On::Everything, "-E\r\n-E\r\n-E\r\n-E\r\n-E\r\n"),
        (On::Data, "+OK\r\n-E\r\n-E\r\n-E\r\n$1\r\nw\r\n"),
        (On::Writes, "+OK\r\n$-1\r\n-E\r\n-E\r\n$1\r\nw\r\n"),
        (On::Key("p:s:".into()), "+OK\r\n-E\r\n-E\r\n+OK\r\n$1\r\nw\r\n"),
        (On::Command("SET"), "+OK\r\n$-1\r\n:1\r\n-E\r\n$1\r\nw\r\n"),
    ] {
        proxy.fail(on.clone(), Times::Always, Fault::Error("E".into()));
        assert_eq!(pipeline(&redis, proxy.port(), &all).as_deref(), Some(expected), "{on:?}");
        proxy.behave();
    }
}

#[test]
fn another_pipelines_answers_come_when_told() {
    let redis = redis();
    let proxy = Proxy::start(redis.port()).unwrap();
    let first: [&[&str]; 2] = [&["SET", "a", "1"], &["ECHO", "first"]];
    let second: [&[&str]; 2] = [&["GET", "a"], &["ECHO", "second"]];
    let answer = pipeline(&redis, proxy.port(), &first);
    proxy.fail(On::Command("GET"), Times::Next(1), Fault::AnswersOfAnother);
    assert_eq!(pipeline(&redis, proxy.port(), &second), answer);
    assert!(pipeline(&redis, proxy.port(), &second).unwrap().ends_with("second\r\n"));
}

#[test]
fn an_answer_that_is_held_waits_for_its_release() {
    let redis = redis();
    let proxy = Proxy::start(redis.port()).unwrap();
    proxy.fail(On::Command("SET"), Times::Next(1), Fault::Hold);
    let commands: [&[&str]; 1] = [&["SET", "a", "1"]];
    assert_eq!(pipeline_within(SHORT, &redis, proxy.port(), &commands), None);
    assert!(wait_until(BOUND, || redis.keys("*").unwrap() == ["a"]), "it is done");
    proxy.release();
    assert_eq!(pipeline(&redis, proxy.port(), &commands).as_deref(), Some("+OK\r\n+OK\r\n"));
}
