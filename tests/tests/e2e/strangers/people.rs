//! Users and scripts at work, each from a different address.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::browser::load::burst;
use oidc_gate_tests::Gate;

pub const USERS: usize = 20;
const SCRIPTS: usize = 5;

/// Sessions are refreshed several times in the shortest flood. A script's token outlives the longest one.
const ACCESS_TOKEN_SECONDS: i64 = 16;
const SCRIPT_TOKEN_SECONDS: i64 = 3600;

pub struct People {
    users: Vec<Client>,
    scripts: Vec<(Client, String)>,
}

/// The results of their requests.
#[derive(Default)]
pub struct Work {
    pub requests: usize,
    pub refusals: Vec<String>,
}

impl People {
    /// Signs all of them in.
    pub fn sign_in(gate: &Gate) -> Self {
        let at = |network, number: usize| {
            Client::at(Ipv4Addr::new(127, network, 0, u8::try_from(number + 1).unwrap()))
        };
        gate.provider.settings(|settings| settings.access_token_lifespan = SCRIPT_TOKEN_SECONDS);
        let scripts =
            (0..SCRIPTS).map(|number| (at(21, number), gate.provider.access_token("mlflow_user"))).collect();
        gate.provider.settings(|settings| settings.access_token_lifespan = ACCESS_TOKEN_SECONDS);
        let users: Vec<_> = (0..USERS).map(|number| at(20, number)).collect();
        for user in &users {
            gate.sign_in(user, "mlflow_user", "/");
        }
        Self { users, scripts }
    }

    /// Lets all of them send requests in parallel until told to stop.
    pub fn work(&self, gate: &Gate, stop: &AtomicBool) -> Work {
        let mut work = Work::default();
        for round in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let answers = burst(USERS + SCRIPTS, USERS + SCRIPTS, |number| match self.users.get(number) {
                Some(user) if round % 3 == 0 => user.navigation("GET", &gate.url("/")),
                Some(user) if round % 3 == 1 => user.fetching("POST", &gate.url("/x")),
                Some(user) => user.fetching("GET", &gate.url("/x")),
                None => {
                    let (script, token) = &self.scripts[number - USERS];
                    script.request("GET", &gate.url("/api")).bearer(token)
                }
            });
            work.requests += answers.len();
            work.refusals.extend(answers.into_iter().filter_map(|answer| match answer {
                Ok(response) if response.status == 200 => None,
                Ok(response) => Some(response.to_string()),
                Err(trouble) => Some(trouble.to_string()),
            }));
        }
        work
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "people: {} requests, {} refused", self.requests, self.refusals.len())
    }
}
