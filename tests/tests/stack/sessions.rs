//! How soon an administrator's action in Keycloak takes effect on two Envoys. The tests follow the table of
//! `docs/sessions.md`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use oidc_gate_testkit::browser::{Client, Pending};
use serde_json::{Value, json};

use crate::second_envoy::SecondEnvoy;
use crate::stack::{SEARCH, SESSION_COOKIE, Stack};

/// A user's browser and a script with a token of the same user, in front of two Envoys.
struct Everywhere<'a> {
    stack: &'a Stack,
    second: SecondEnvoy,
}

impl<'a> Everywhere<'a> {
    fn start(stack: &'a Stack) -> Self {
        Self { stack, second: SecondEnvoy::start(stack) }
    }

    fn addresses(&self, path: &str) -> [String; 2] {
        [self.stack.url(path), self.second.url(path)]
    }

    fn sign_in(&self, user: &str) -> Client {
        let (client, callback) = self.stack.login_up_to_the_callback(user);
        let journey = client.visit(&callback).unwrap();
        assert_eq!(journey.end().status, 200, "{}", journey.end());
        client
    }

    /// The statuses that a session gets at both Envoys. Several connections to each reach all of its workers.
    fn session(&self, client: &Client) -> Vec<u16> {
        let ajax = "/ajax-api/2.0/mlflow/experiments/search?max_results=1";
        let requests = self.addresses(ajax).into_iter().flat_map(|url| vec![url; 4]);
        requests.map(|url| client.fetch(&url).unwrap().status).collect()
    }

    fn bearer(&self, token: &str) -> Vec<u16> {
        let requests = self.addresses(SEARCH).into_iter().flat_map(|url| vec![url; 4]);
        requests
            .map(|url| {
                let request = Client::new().request("POST", &url).json(&json!({"max_results": 1}));
                request.bearer(token).send().unwrap().status
            })
            .collect()
    }

    /// How many requests both Envoys have sent to Keycloak.
    fn asked_keycloak(&self) -> u64 {
        let asked = |admin: u16| -> u64 {
            let counter = "cluster.keycloak.upstream_rq_total";
            let url = format!("http://127.0.0.1:{admin}/stats?filter=^{counter}$");
            let answer = Client::new().request("GET", &url).send().unwrap();
            let text = answer.text();
            let count =
                text.trim().strip_prefix(counter).and_then(|rest| rest.strip_prefix(": ")?.parse().ok());
            count.unwrap_or_else(|| panic!("Envoy counts no requests to Keycloak: {answer}"))
        };
        [self.stack.envoy_admin_port(), self.second.admin_port()].into_iter().map(asked).sum()
    }

    /// Waits until all of them are refused, and prints how long that took.
    #[track_caller]
    fn until_refused(&self, what: &str, statuses: impl Fn() -> Vec<u16>) {
        let since = Instant::now();
        self.stack.eventually(what, || statuses().iter().all(|status| *status == 401));
        println!("{what}: refused on both Envoys after {} ms", since.elapsed().as_millis());
    }
}

fn all(statuses: &[u16], expected: u16) -> bool {
    statuses.iter().all(|status| *status == expected)
}

fn access_token(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

#[test]
fn a_user_that_an_administrator_signs_out_is_out_everywhere_and_nobody_else_is() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    let (person, other) = (both.sign_in("mlflow_user"), both.sign_in("mlflow_admin"));
    let (tokens, others) = (stack.tokens("mlflow_user"), stack.tokens("mlflow_admin"));
    assert!(all(&both.session(&person), 200) && all(&both.bearer(access_token(&tokens)), 200));

    stack.end_keycloak_sessions("mlflow_user");
    both.until_refused("signed out by an administrator, session", || both.session(&person));
    both.until_refused("signed out by an administrator, token", || both.bearer(access_token(&tokens)));
    assert!(all(&both.session(&other), 200) && all(&both.bearer(access_token(&others)), 200));
    let again = both.sign_in("mlflow_user");
    assert!(all(&both.session(&again), 200), "a new login is not touched");
    assert!(all(&both.bearer(&stack.token("mlflow_user")), 200));
    assert!(all(&both.session(&person), 401));
}

#[test]
fn one_session_that_an_administrator_deletes_ends_alone() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    stack.end_keycloak_sessions("mlflow_user");
    let first = both.sign_in("mlflow_user");
    let sessions = stack.keycloak_sessions("mlflow_user");
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let second = both.sign_in("mlflow_user");

    stack.delete_keycloak_session(sessions[0]["id"].as_str().unwrap());
    both.until_refused("session deleted", || both.session(&first));
    assert!(all(&both.session(&second), 200), "the other browser is another session");
}

#[test]
fn logout_all_of_the_realm_ends_everything_that_was_issued_before() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    let (person, tokens) = (both.sign_in("mlflow_user"), stack.tokens("mlflow_admin"));
    stack.admin("POST", "/logout-all");
    both.until_refused("realm logged out, session", || both.session(&person));
    both.until_refused("realm logged out, token", || both.bearer(access_token(&tokens)));
    // In whole seconds: everything issued in the second of the logout ends too.
    stack.next_second();
    assert!(all(&both.session(&both.sign_in("mlflow_user")), 200), "a later login");
}

#[test]
fn a_not_before_that_is_pushed_voids_what_was_issued_earlier() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    let (person, tokens) = (both.sign_in("mlflow_user"), stack.tokens("mlflow_user"));
    // In whole seconds: everything issued in the same second stays valid.
    let now = stack.next_second();
    let _restored = stack.with_realm(&json!({"notBefore": now}), &json!({"notBefore": 0}));
    stack.admin("POST", "/push-revocation");
    both.until_refused("not-before pushed, session", || both.session(&person));
    both.until_refused("not-before pushed, token", || both.bearer(access_token(&tokens)));
}

#[test]
fn what_keycloak_does_not_announce_is_found_when_the_session_is_renewed() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    let _short = stack.with_short_access_tokens(4);
    let person = both.sign_in("mlflow_user");
    assert!(all(&both.session(&person), 200));
    stack.set_user("mlflow_user", &json!({"enabled": false}));
    both.until_refused("user disabled", || both.session(&person));
    stack.set_user("mlflow_user", &json!({"enabled": true}));

    let person = both.sign_in("mlflow_user");
    let membership = stack.leaves_group("mlflow_user", "mlflow_users");
    let since = Instant::now();
    stack.eventually("403 after a lost group", || all(&both.session(&person), 403));
    println!("group lost: refused on both Envoys after {} ms", since.elapsed().as_millis());
    drop(membership);
    stack.eventually("200 after the group came back", || all(&both.session(&person), 200));
}

/// Clients disconnect, and an Envoy is killed, during a refresh. The session continues, or it ends and a new login
/// works.
#[test]
fn a_renewal_survives_its_client_and_an_envoy_that_is_killed_costs_a_login_at_most() {
    let stack = Stack::running();
    let short = stack.with_short_access_tokens(2);
    let ajax = "/ajax-api/2.0/mlflow/experiments/search?max_results=1";
    let until_the_token_ends = |since: Instant| {
        stack.eventually("the end of the access token", || since.elapsed() > Duration::from_millis(2_100));
    };

    let both = Everywhere::start(&stack);
    let person = both.sign_in("mlflow_user");
    for _ in 0..3 {
        until_the_token_ends(Instant::now());
        let before = both.asked_keycloak();
        let waiting = both.addresses(ajax).map(|url| person.fetching("GET", &url).begin());
        // A client that disconnects earlier has not started a refresh.
        stack.eventually("a renewal is under way", || both.asked_keycloak() > before);
        let answered = waiting.iter().filter(|request| request.is_finished()).count();
        waiting.into_iter().for_each(Pending::abort);
        println!("gone while a renewal was under way, {answered} of 2 answered");
        assert!(all(&both.session(&person), 200), "whoever asked first has gone");
    }
    drop(both);

    for patience in [0, 3, 6, 10, 20] {
        let second = SecondEnvoy::start(&stack);
        let (client, callback) = stack.login_up_to_the_callback("mlflow_user");
        assert_eq!(client.visit(&callback).unwrap().end().status, 200);
        until_the_token_ends(Instant::now());
        let waiting = client.fetching("GET", &second.url(ajax)).begin();
        let since = Instant::now();
        stack.eventually("the moment", || since.elapsed() >= Duration::from_millis(patience));
        drop(second);
        let answer = waiting.finish().map(|answer| answer.status);
        let mut last = 0;
        stack.eventually("200, or the end of the session", || {
            last = client.fetch(&stack.url(ajax)).unwrap().status;
            assert!([200, 401, 503].contains(&last), "{last}");
            [200, 401].contains(&last)
        });
        println!("killed after {patience} ms: its own answer was {answer:?}, the other Envoy's {last}");
    }
    drop(short);
    let again = stack.login_up_to_the_callback("mlflow_user");
    assert_eq!(again.0.visit(&again.1).unwrap().end().status, 200);
}

#[test]
fn a_session_that_is_over_at_keycloak_is_over_here_and_a_new_password_ends_none() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    let _short = stack.with_short_access_tokens(2);
    let person = both.sign_in("mlflow_user");
    stack.reset_password("mlflow_user");
    // Longer than the lifetime of an access token, so the session was refreshed since.
    let since = Instant::now();
    stack.eventually("the next renewal", || since.elapsed() > Duration::from_secs(4));
    assert!(all(&both.session(&person), 200), "signing the user out is another button");

    stack.end_keycloak_sessions("mlflow_user");
    let longest = |seconds: u64| json!({"ssoSessionMaxLifespan": seconds});
    // Long enough for the login and the first requests on a busy machine.
    let _brief = stack.with_realm(&longest(20), &longest(43_200));
    let person = both.sign_in("mlflow_user");
    assert!(all(&both.session(&person), 200));
    both.until_refused("expired at Keycloak", || both.session(&person));
}

/// An Envoy that introspects tokens notices revocations that Keycloak does not report.
#[test]
fn revoked_tokens_are_refused_where_keycloak_is_asked_about_them_and_expire_elsewhere() {
    let stack = Stack::running();
    let asks = SecondEnvoy::start_with(&stack, |plugin| plugin["bearer"]["check_interval"] = "1s".into());
    let status = |url: &str, tokens: &Value| {
        let request = Client::new().request("POST", url).json(&json!({"max_results": 1}));
        request.bearer(access_token(tokens)).send().unwrap().status
    };
    let (here, there) = (stack.url(SEARCH), asks.url(SEARCH));
    for (what, revoked) in [("access token", "access_token"), ("refresh token", "refresh_token")] {
        let tokens = stack.tokens("mlflow_user");
        assert_eq!((status(&here, &tokens), status(&there, &tokens)), (200, 200), "{what}");
        stack.revoke(tokens[revoked].as_str().unwrap());
        stack.eventually(what, || status(&there, &tokens) == 401);
        println!("{what} revoked: {} where nobody is asked", status(&here, &tokens));
        if revoked == "access_token" {
            assert_eq!(status(&here, &tokens), 200, "a signed token is good until it expires");
        }
    }
}

#[test]
fn a_refresh_token_that_is_rotated_by_hand_is_spent_and_its_successor_is_good() {
    let stack = Stack::running();
    let tokens = stack.tokens("mlflow_user");
    let old = tokens["refresh_token"].as_str().unwrap();
    let rotated = stack.refresh(old);
    assert_eq!(rotated.status, 200, "{rotated}");
    let rotated = rotated.json();
    assert_eq!(stack.call_api(SEARCH, Some(access_token(&rotated))).status, 200);
    let again = stack.refresh(old);
    assert_eq!((again.status, again.json()["error"].as_str()), (400, Some("invalid_grant")), "{again}");
}

#[test]
fn hundreds_of_requests_at_the_tokens_end_are_one_refresh_and_none_is_refused() {
    let stack = Stack::running();
    let both = Everywhere::start(&stack);
    let _short = stack.with_short_access_tokens(3);
    let _events = stack.with_realm(
        &json!({"eventsEnabled": true, "enabledEventTypes": ["REFRESH_TOKEN", "REFRESH_TOKEN_ERROR"]}),
        &json!({"eventsEnabled": false}),
    );
    let person = both.sign_in("mlflow_user");
    let cookie = person.jar().get(SESSION_COOKIE).unwrap();
    stack.admin("DELETE", "/events");
    let ajax = "/ajax-api/2.0/mlflow/experiments/search?max_results=1";
    let addresses = both.addresses(ajax);
    // Forty clients send requests as fast as possible for twelve seconds, in which access tokens expire four times. On
    // a slow machine it takes longer.
    let (since, asked) = (Instant::now(), AtomicUsize::new(0));
    let goes_on = || since.elapsed() < Duration::from_secs(12) || asked.load(Ordering::Relaxed) <= 200;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|number| {
                let (url, client, goes_on, asked) =
                    (&addresses[number % 2], stack.browser_with(&cookie), &goes_on, &asked);
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while goes_on() {
                        statuses.push(client.fetch(url).unwrap().status);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    statuses
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let events = stack.admin("GET", "/events?max=1000").json();
    let took = since.elapsed();
    let count = |kind: &str| events.as_array().unwrap().iter().filter(|event| event["type"] == kind).count();
    println!("{} requests, {} refreshes in {took:?}", statuses.len(), count("REFRESH_TOKEN"));
    assert!(all(&statuses, 200), "{:?}", statuses.iter().find(|status| **status != 200));
    assert_eq!(count("REFRESH_TOKEN_ERROR"), 0, "{events}");
    // One refresh for each expiry, at the earliest after half of the token's lifetime.
    let most = usize::try_from(took.as_millis() / 1_500).unwrap() + 1;
    assert!((2..=most).contains(&count("REFRESH_TOKEN")), "{} in {took:?}", count("REFRESH_TOKEN"));
}
