//! The requests of unauthenticated clients, sent as fast as they are answered.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oidc_gate_testkit::browser::raw::Connection;
use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::provider::random_text;
use oidc_gate_tests::{BOUND, Gate};

/// Concurrent connections; batches per connection before one from another address replaces it; requests per batch.
pub const AT_ONCE: usize = 4;
const BATCHES: usize = 10;
const BATCH: usize = 20;

/// The requests of a batch: `(kind, request)`.
type Requests = Vec<(&'static str, String)>;

/// A flood of one kind.
pub trait Attack: Sync {
    /// One batch of requests.
    fn begin(&self) -> Requests;
    /// The requests that follow the responses to it.
    fn go_on(&self, answers: &[Response]) -> Requests;
}

/// The number of responses by kind and status.
#[derive(Default)]
pub struct Flood {
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Flood {
    /// Sends requests until told to stop.
    pub fn go_on(
        &self,
        gate: &Gate,
        first: usize,
        addresses: &[IpAddr],
        attack: &dyn Attack,
        stop: &AtomicBool,
    ) {
        for number in (first..).step_by(AT_ONCE) {
            let open = || Connection::open_from(addresses[number % addresses.len()], gate.port()).unwrap();
            let mut connection = open();
            let mut send = |requests: Requests| -> Vec<Response> {
                let answers = requests.into_iter().map(|(kind, text)| {
                    connection.send(text).unwrap();
                    let answer = connection.read_answer(BOUND);
                    let answer = answer.unwrap_or_else(|trouble| panic!("{kind}: {trouble}"));
                    assert!(
                        !answer.text().contains("x-forwarded"),
                        "{kind} reached the application: {answer}"
                    );
                    *self.answers.lock().unwrap().entry((kind, answer.status)).or_default() += 1;
                    if answer.header("connection") == Some("close") {
                        connection = open();
                    }
                    answer
                });
                answers.collect()
            };
            for _ in 0..BATCHES {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let answers = send(attack.begin());
                send(attack.go_on(&answers));
            }
        }
    }

    pub fn sent(&self) -> u64 {
        self.answers.lock().unwrap().values().sum()
    }

    /// How many requests were refused because of a limit.
    pub fn over_limit(&self) -> u64 {
        self.count(|_, status| status == 503)
    }

    pub fn over_limit_of(&self, kinds: &[&str]) -> u64 {
        self.count(|kind, status| status == 503 && kinds.contains(&kind))
    }

    fn count(&self, wanted: impl Fn(&str, u16) -> bool) -> u64 {
        let answers = self.answers.lock().unwrap();
        answers.iter().filter(|((kind, status), _)| wanted(kind, *status)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "strangers: {} requests", self.sent())?;
        for ((kind, status), count) in &*self.answers.lock().unwrap() {
            writeln!(f, "  {kind}: {count} times {status}")?;
        }
        Ok(())
    }
}

/// A browser's request as text: these headers, cookies, and for POST an empty form.
struct Browser {
    host: String,
}

impl Browser {
    fn navigation(&self, method: &str, target: &str, cookies: &str) -> String {
        let fetch = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-User: ?1\r\n";
        self.request(method, target, cookies, &format!("Accept: text/html\r\n{fetch}"))
    }

    fn fetch(&self, target: &str, cookies: &str) -> String {
        self.request("GET", target, cookies, "Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n")
    }

    fn request(&self, method: &str, target: &str, cookies: &str, headers: &str) -> String {
        let form = match method {
            "POST" => "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n",
            _ => "",
        };
        let host = &self.host;
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n\
             {headers}{form}Cookie: {cookies}\r\n\r\n"
        )
    }
}

/// Session cookies that were never issued or have ended, at every endpoint that reads one.
pub struct Cookies {
    browser: Browser,
    name: &'static str,
    live: Vec<u8>,
    ended: String,
}

/// Length of a ticket without its signature, and with the id of the key that signed it.
const UNSIGNED: usize = 48;
const WITH_KEY: usize = 52;

impl Cookies {
    /// Kinds that cause no work and therefore have no limit.
    pub const NEVER_LOOKED_FOR: [&str; 3] = ["malformed", "wrong signature", "changed"];

    pub fn new(gate: &Gate) -> Self {
        let cookie_of = |client: &Client| gate.session_cookie(client).unwrap();
        let leaver = gate.signed_in("mlflow_user");
        let (ended, name) = (cookie_of(&leaver), gate.session_cookie_name());
        let out = leaver.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
        assert_eq!(out.status, 303, "{out}");
        let live = URL_SAFE_NO_PAD.decode(&ended).unwrap();
        let browser = Browser { host: format!("localhost:{}", gate.port()) };
        Self { browser, name, live, ended }
    }

    fn value(&self, kind: &str) -> String {
        let mut random = [0; 84];
        random[..48].copy_from_slice(random_text(48).as_bytes());
        random[48..].copy_from_slice(random_text(36).as_bytes());
        match kind {
            "without a signature" => URL_SAFE_NO_PAD.encode(&random[..UNSIGNED]),
            "of an unknown key" => URL_SAFE_NO_PAD.encode(random),
            "wrong signature" => {
                random[UNSIGNED..WITH_KEY].copy_from_slice(&self.live[UNSIGNED..WITH_KEY]);
                URL_SAFE_NO_PAD.encode(random)
            }
            "changed" => {
                let mut changed = self.live.clone();
                changed[usize::from(random[0]) % UNSIGNED] ^= 1;
                URL_SAFE_NO_PAD.encode(changed)
            }
            "ended" => self.ended.clone(),
            _ => random_text(1 + usize::from(random[0]) % 47),
        }
    }
}

impl Attack for Cookies {
    fn begin(&self) -> Requests {
        let kinds =
            ["malformed", "wrong signature", "changed", "ended", "without a signature", "of an unknown key"];
        let requests = (0..BATCH).map(|number| {
            let choice = random_text(1).as_bytes()[0];
            let kind = kinds[(number + usize::from(choice)) % kinds.len()];
            let cookie = format!("{}={}", self.name, self.value(kind));
            let browser = &self.browser;
            let request = match number % 8 {
                0 => browser.navigation("GET", "/x", &cookie),
                1 => browser.navigation("POST", "/oauth2/logout", &cookie),
                2 => browser.navigation("GET", "/oauth2/logout", &cookie),
                3 => browser.navigation("GET", "/oauth2/account", &cookie),
                4 => browser.navigation("POST", "/oauth2/account/sign-out?everywhere=true", &cookie),
                5 => browser.navigation("GET", "/oauth2/callback?state=0123456789abcdef&code=x", &cookie),
                _ => browser.fetch("/x", &cookie),
            };
            (kind, request)
        });
        requests.collect()
    }

    fn go_on(&self, _: &[Response]) -> Requests {
        Vec::new()
    }
}

/// Logins that return immediately with an invented code; callbacks of logins that never began; and both repeated.
pub struct Callbacks {
    browser: Browser,
    issuer: String,
}

impl Callbacks {
    pub fn new(gate: &Gate) -> Self {
        let browser = Browser { host: format!("localhost:{}", gate.port()) };
        Self { browser, issuer: gate.provider.issuer() }
    }

    fn callback(&self, state: &str, cookie: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([("state", state), ("iss", &self.issuer), ("code", &random_text(40))]);
        self.browser.navigation("GET", &format!("/oauth2/callback?{}", query.finish()), cookie)
    }
}

impl Attack for Callbacks {
    fn begin(&self) -> Requests {
        let login = || ("login", self.browser.navigation("GET", "/oauth2/login", "a=b"));
        let page = || ("page", self.browser.navigation("GET", "/x", "a=b"));
        (0..BATCH).map(|number| if number % 4 == 0 { page() } else { login() }).collect()
    }

    fn go_on(&self, answers: &[Response]) -> Requests {
        let mut requests = Vec::new();
        for (number, answer) in answers.iter().enumerate() {
            let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
            let (Some(cookie), Some(state)) = (cookie, answer.redirect_parameter("state")) else {
                panic!("no login begins: {answer}")
            };
            requests.push(("made-up code", self.callback(&state, cookie)));
            match number % 5 {
                0 => requests.push(("again", self.callback(&state, cookie))),
                1 => requests.push(("nobody's login", self.callback(&random_text(43), cookie))),
                _ => {}
            }
        }
        requests
    }
}
