//! A single Redis: crashes, restarts, freezes, TLS with an ACL user, and the commands that it has recorded.

use std::time::Duration;

use oidc_gate_testkit::process::required_path;
use oidc_gate_testkit::redis::{Account, Authority, Data, Redis};

pub fn redis() -> Redis {
    Redis::start(&required_path("OIDC_GATE_REDIS").unwrap()).unwrap()
}

#[test]
fn a_restart_brings_back_what_was_saved_or_nothing() {
    let redis = redis();
    redis.command(&["SET", "a", "1"]).unwrap();
    redis.save().unwrap();
    redis.command(&["SET", "b", "1"]).unwrap();
    redis.kill();
    assert!(!redis.is_running());
    assert!(redis.command(&["PING"]).is_err());
    redis.resume_with(Data::Saved).unwrap();
    assert_eq!(redis.keys("*").unwrap(), ["a"]);
    redis.stop();
    redis.resume().unwrap();
    assert_eq!(redis.keys("*").unwrap(), Vec::<String>::new());
    redis.resume_with(Data::Saved).unwrap();
    assert_eq!(redis.keys("*").unwrap(), Vec::<String>::new(), "what was lost stays lost");
}

#[test]
fn a_frozen_redis_answers_nothing_until_it_is_thawed() {
    let redis = redis();
    redis.freeze();
    let answers = |timeout: Duration| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        stream.set_read_timeout(Some(timeout)).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        stream.read(&mut [0; 16]).is_ok()
    };
    assert!(!answers(Duration::from_millis(200)));
    redis.thaw();
    assert!(answers(Duration::from_secs(5)));
}

#[test]
fn the_monitor_tells_what_came_over_tcp_and_nothing_of_the_kits_own() {
    let redis = redis();
    let monitor = redis.monitor().unwrap();
    redis.command(&["SET", "own", "1"]).unwrap();
    let client = redis::Client::open(format!("redis://:{}@127.0.0.1:{}/", redis.password(), redis.port()));
    let mut connection = client.unwrap().get_connection().unwrap();
    redis::cmd("SET").arg("foreign \"1\"").arg("x").exec(&mut connection).unwrap();
    redis::cmd("EVAL")
        .arg("return redis.call('GET', KEYS[1])")
        .arg(1)
        .arg("k")
        .exec(&mut connection)
        .unwrap();
    let commands = monitor.commands().unwrap();
    let names: Vec<String> = commands.iter().map(|command| command.name()).collect();
    assert_eq!(names.iter().filter(|name| *name == "SET" || *name == "EVAL").count(), 2, "{commands:#?}");
    assert_eq!(commands.iter().find(|c| c.name() == "SET").unwrap().key(), Some("foreign \"1\""));
    assert!(!names.contains(&"GET".to_owned()), "a script's own calls count with the script");
    assert!(!monitor.lines().unwrap().join("").contains(redis.password()), "Redis does not tell AUTH");
    assert_eq!(redis.calls_of("EVAL").unwrap(), 1);
    assert_eq!(redis.calls_of("HSET").unwrap(), 0);
}

#[test]
fn tls_is_all_it_speaks_and_its_user_may_touch_its_own_keys_only() {
    let authority = Authority::new().unwrap();
    let account = Account {
        username: "gate".to_owned(),
        password: "gate-password".to_owned(),
        prefix: "mlflow".to_owned(),
    };
    let program = required_path("OIDC_GATE_REDIS").unwrap();
    let redis = Redis::with_tls(&program, &authority, account).unwrap();
    // Like after a restart.
    redis.resume().unwrap();
    let cli = |authority: &Authority, words: &[&str]| {
        let port = redis.port().to_string();
        let mut command = std::process::Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port, "--tls", "--no-auth-warning", "--cacert"]);
        command.arg(authority.certificate()).args(["--user", "gate", "--pass", "gate-password"]).args(words);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
    };
    assert_eq!(cli(&authority, &["SET", "mlflow:x", "1"]), "OK");
    assert!(cli(&authority, &["SET", "other:x", "1"]).contains("NOPERM"));
    assert!(cli(&authority, &["FLUSHALL"]).contains("NOPERM"));
    let stranger = Authority::new().unwrap();
    assert!(cli(&stranger, &["PING"]).contains("certificate verify failed"));
    let plain = redis::Client::open(format!("redis://127.0.0.1:{}/", redis.port())).unwrap();
    assert!(plain.get_connection_with_timeout(Duration::from_secs(2)).is_err());
    assert_eq!(redis.keys("*").unwrap(), ["mlflow:x"], "the kit itself goes another way");
}
