//! The client's view: whole pipelines in, whole pipelines out. A real Redis 7 gives the same replies.

use super::*;
use crate::resp::command;

const NOW: u64 = 1_767_225_600_000;

fn server() -> Server {
    Server::new(None, Vec::new())
}

/// Sends one command.
fn ask_at(server: &Server, now: u64, words: &[&str]) -> String {
    let reply = server.feed(&mut Connection::default(), &command(words), now, Mood::Well);
    String::from_utf8(reply).unwrap()
}

fn ask(server: &Server, words: &[&str]) -> String {
    ask_at(server, NOW, words)
}

#[test]
fn strings_know_when_they_may_be_written_and_when_they_end() {
    let redis = server();
    assert_eq!(ask(&redis, &["SET", "k", "1", "NX", "PX", "1000"]), "+OK\r\n");
    assert_eq!(ask(&redis, &["SET", "k", "2", "NX", "PX", "1000"]), "$-1\r\n");
    assert_eq!(ask(&redis, &["SET", "k", "2", "XX", "GET", "KEEPTTL"]), "$1\r\n1\r\n");
    assert_eq!(ask_at(&redis, NOW + 999, &["PTTL", "k"]), ":1\r\n");
    assert_eq!(ask_at(&redis, NOW + 1000, &["GET", "k"]), "$-1\r\n");
    assert_eq!(ask(&redis, &["SET", "k", "1", "EX", "0"]), "-ERR invalid expire time in 'set' command\r\n");
    assert_eq!(ask(&redis, &["SET", "k", "1", "NX", "XX"]), "-ERR syntax error\r\n");
    assert_eq!(ask(&redis, &["INCRBY", "n", "5"]), ":5\r\n");
    assert_eq!(ask(&redis, &["INCR", "n"]), ":6\r\n");
    assert_eq!(ask(&redis, &["PERSIST", "n"]), ":0\r\n");
    assert_eq!(ask(&redis, &["TTL", "n"]), ":-1\r\n");
    assert_eq!(ask(&redis, &["TTL", "nothing"]), ":-2\r\n");
}

#[test]
fn hashes_go_when_nothing_is_left_in_them_and_other_types_are_refused() {
    let redis = server();
    assert_eq!(ask(&redis, &["HSET", "h", "a", "1", "b", "2"]), ":2\r\n");
    assert_eq!(ask(&redis, &["HSET", "h", "a", "3"]), ":0\r\n");
    assert_eq!(ask(&redis, &["HMGET", "h", "a", "x"]), "*2\r\n$1\r\n3\r\n$-1\r\n");
    assert_eq!(ask(&redis, &["HINCRBY", "h", "b", "-5"]), ":-3\r\n");
    assert_eq!(
        ask(&redis, &["GET", "h"]),
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    );
    assert_eq!(ask(&redis, &["PEXPIRE", "h", "500"]), ":1\r\n");
    assert_eq!(ask(&redis, &["HDEL", "h", "a", "b"]), ":2\r\n");
    assert_eq!(ask(&redis, &["EXISTS", "h"]), ":0\r\n");
    assert_eq!(ask(&redis, &["PEXPIRE", "h", "500"]), ":0\r\n");
    assert!(ask(&redis, &["HGET", "h"]).starts_with("-ERR wrong number of arguments for 'hget' command"));
    assert!(ask(&redis, &["NOSUCH"]).starts_with("-ERR unknown command"));
}

#[test]
fn an_end_can_be_moved_only_as_asked() {
    let redis = server();
    ask(&redis, &["SET", "k", "v"]);
    assert_eq!(ask(&redis, &["PEXPIRE", "k", "1000", "GT"]), ":0\r\n", "no end is later than any");
    assert_eq!(ask(&redis, &["PEXPIRE", "k", "1000", "NX"]), ":1\r\n");
    assert_eq!(ask(&redis, &["PEXPIRE", "k", "2000", "NX"]), ":0\r\n");
    assert_eq!(ask(&redis, &["PEXPIRE", "k", "500", "GT"]), ":0\r\n");
    assert_eq!(ask(&redis, &["PEXPIRE", "k", "500", "LT"]), ":1\r\n");
    assert_eq!(ask(&redis, &["PEXPIRE", "k", "-1"]), ":1\r\n");
    assert_eq!(ask(&redis, &["EXISTS", "k"]), ":0\r\n");
}

#[test]
fn sorted_sets_are_read_by_score_and_by_place() {
    let redis = server();
    assert_eq!(ask(&redis, &["ZADD", "z", "3", "c", "1", "a", "2", "b"]), ":3\r\n");
    assert_eq!(
        ask(&redis, &["ZREVRANGE", "z", "0", "1", "WITHSCORES"]),
        "*4\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nb\r\n$1\r\n2\r\n"
    );
    assert_eq!(ask(&redis, &["ZRANGEBYSCORE", "z", "(1", "+inf"]), "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    assert_eq!(ask(&redis, &["ZREMRANGEBYRANK", "z", "0", "-3"]), ":1\r\n");
    assert_eq!(ask(&redis, &["ZREMRANGEBYRANK", "z", "0", "-101"]), ":0\r\n");
    assert_eq!(ask(&redis, &["ZREMRANGEBYSCORE", "z", "-inf", "2"]), ":1\r\n");
    assert_eq!(ask(&redis, &["ZRANGE", "z", "0", "-1"]), "*1\r\n$1\r\nc\r\n");
}

#[test]
fn streams_grow_at_one_end_and_are_cut_at_the_other() {
    let redis = server();
    let first = format!("${}\r\n{NOW}-0\r\n", NOW.to_string().len() + 2);
    assert_eq!(ask(&redis, &["XADD", "s", "MAXLEN", "~", "2", "*", "e", "1"]), first);
    assert_eq!(ask(&redis, &["XADD", "s", "MAXLEN", "~", "2", "*", "e", "2"]), first.replace("-0", "-1"));
    // Ids do not go back when the clock is set back.
    assert_eq!(
        ask_at(&redis, NOW - 5, &["XADD", "s", "MAXLEN", "2", "*", "e", "3"]),
        first.replace("-0", "-2")
    );
    assert_eq!(ask(&redis, &["XLEN", "s"]), ":2\r\n");
    let after = ask(&redis, &["XRANGE", "s", &format!("({NOW}-1"), "+", "COUNT", "10"]);
    assert!(after.starts_with("*1\r\n*2\r\n") && after.contains("$1\r\n3\r\n"), "{after}");
    let last = ask(&redis, &["XREVRANGE", "s", "+", "-", "COUNT", "1"]);
    assert_eq!(last, after);
    assert_eq!(ask(&redis, &["XRANGE", "nothing", "-", "+"]), "*0\r\n");
    assert!(
        ask(&redis, &["XADD", "s", "1-1", "e", "x"])
            .starts_with("-ERR The ID specified in XADD is equal or smaller")
    );
    assert_eq!(ask(&redis, &["XREAD", "STREAMS", "s", "$"]), "*-1\r\n");
    assert!(ask(&redis, &["XINFO", "STREAM", "s"]).contains("entries-added\r\n:3\r\n"));
}

#[test]
fn a_transaction_runs_whole_or_not_at_all() {
    let redis = server();
    let pipeline =
        |commands: &[&[&str]]| commands.iter().flat_map(|words| command(words)).collect::<Vec<_>>();
    let body = pipeline(&[&["MULTI"], &["SET", "k", "v"], &["GET", "k"], &["EXEC"]]);
    let whole = redis.feed(&mut Connection::default(), &body, NOW, Mood::Well);
    assert_eq!(whole, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nv\r\n");
    let body = pipeline(&[&["MULTI"], &["DEL", "k"], &["EXEC"]]);
    // An incomplete transaction does not run, in whatever pieces its bytes arrive.
    let mut connection = Connection::default();
    for byte in &body[..body.len() - 3] {
        redis.feed(&mut connection, &[*byte], NOW, Mood::Well);
    }
    assert_eq!(ask(&redis, &["EXISTS", "k"]), ":1\r\n");
    let refused = redis.feed(&mut Connection::default(), &body, NOW, Mood::ReadOnly("READONLY x"));
    assert_eq!(
        refused,
        b"+OK\r\n-READONLY x\r\n-EXECABORT Transaction discarded because of previous errors.\r\n"
    );
    assert_eq!(ask(&redis, &["EXEC"]), "-ERR EXEC without MULTI\r\n");
}

#[test]
fn nothing_is_said_without_the_password() {
    let redis = Server::new(Some("secret".to_owned()), Vec::new());
    assert_eq!(ask(&redis, &["GET", "k"]), "-NOAUTH Authentication required.\r\n");
    let mut connection = Connection::default();
    let body = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    assert_eq!(redis.feed(&mut connection, body, NOW, Mood::Well), b"+OK\r\n$-1\r\n");
    assert!(ask(&redis, &["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    assert!(ask(&server(), &["AUTH", "x"]).starts_with("-ERR AUTH <password> called without any password"));
}

#[test]
fn scripts_see_the_types_of_redis_and_answer_with_theirs() {
    let redis = server();
    let eval = |script: &str, args: &[&str]| ask(&redis, &[&["EVAL", script, "1", "k"], args].concat());
    assert_eq!(eval("return redis.call('GET', KEYS[1]) == false", &[]), ":1\r\n");
    assert_eq!(eval("return redis.call('SET', KEYS[1], ARGV[1])", &["v"]), "+OK\r\n");
    assert_eq!(eval("return {1, 2.9, 'x', false, nil, 4}", &[]), "*4\r\n:1\r\n:2\r\n$1\r\nx\r\n$-1\r\n");
    assert_eq!(eval("return redis.call('HGET', KEYS[1], 'f')", &[]), {
        "-WRONGTYPE Operation against a key holding the wrong kind of value script\r\n"
    });
    assert_eq!(eval("return redis.pcall('HGET', KEYS[1], 'f').err ~= nil", &[]), ":1\r\n");
    assert_eq!(eval("return redis.error_reply('MINE x')", &[]), "-MINE x\r\n");
    assert_eq!(
        eval("local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)", &[]),
        format!(":{NOW}\r\n")
    );
    assert_eq!(eval("return redis.call('INCRBY', 'n', 3) + 1", &[]), ":4\r\n");
    assert!(eval("return nosuch()", &[]).starts_with("-ERR Error running script"));
    assert!(eval("return redis.call('HSET', KEYS[1])", &[]).starts_with("-ERR wrong number of arguments"));
}

#[test]
fn a_changed_script_is_counted() {
    let redis = Server::new(None, vec![("return 1".to_owned(), "return 2".to_owned())]);
    assert_eq!(ask(&redis, &["EVAL", "return 1", "0"]), ":2\r\n");
    assert_eq!(redis.sabotaged(), 1);
}

#[test]
fn a_script_can_read_an_entry_of_any_length() {
    let redis = server();
    let mut entry = vec!["XADD", "s", "*"];
    entry.resize(100_003, "x");
    ask(&redis, &entry);
    let script = "return #redis.call('XRANGE', KEYS[1], '-', '+')[1][2]";
    assert_eq!(ask(&redis, &["EVAL", script, "1", "s"]), ":100000\r\n");
}
