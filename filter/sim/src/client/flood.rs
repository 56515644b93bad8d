//! A flood of requests by strangers, with tickets that the gate did not issue and codes that the provider did not
//! issue. The ledger checks what they cost.

use std::rc::Rc;
use std::time::Duration;

use oidc_gate_core::encoding::{base64url, from_base64url};
use oidc_gate_core::session::ticket::UntrustedTicket;

use super::exchange::{Ask, Seen, exchange, parameter};
use crate::envoy::WorkerId;
use crate::ledger::SESSION_COOKIE;
use crate::provider::ISSUER;
use crate::world::{Act, World};

/// The network of all strangers.
pub const NETWORK: &str = "198.51.100.";
/// Bytes of a ticket before its signature.
const UNSIGNED_LEN: usize = 48;
/// The prefix of codes that the provider did not issue.
pub const MADE_UP: &str = "made-up-";

/// Sends one flood after another while users use the gate.
pub async fn run(world: Rc<World>) {
    loop {
        world.executor.sleep(Duration::from_millis(world.rng.between(200, 3_000))).await;
        if world.act() != Act::Use {
            return;
        }
        let at = world.any_worker(None);
        let kind = world.rng.below(3);
        let address = format!("{NETWORK}{}:40000", world.rng.between(1, 3));
        for _ in 0..world.rng.between(5, 60) {
            let (world, inside, address) = (world.clone(), world.clone(), address.clone());
            world.spawn_outside("flood", async move {
                match kind {
                    0 => ticket(&inside, at, address, Ticket::Forged).await,
                    1 => ticket(&inside, at, address, Ticket::Unsigned).await,
                    _ => callback(&inside, at, address).await,
                }
            });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ticket {
    /// It names one of our keys, but was not signed with it.
    Forged,
    /// It has the form of tickets from before they were signed.
    Unsigned,
}

async fn ticket(world: &Rc<World>, at: WorkerId, address: String, kind: Ticket) {
    let mut bytes = vec![0; UNSIGNED_LEN];
    world.rng.fill(&mut bytes);
    if kind == Ticket::Forged {
        // The name of our key is not secret: every ticket contains it.
        let known = world.ledger.some_session(&world.rng).and_then(|(value, _)| from_base64url(value).ok());
        let Some(known) = known else { return };
        bytes.extend_from_slice(known.get(UNSIGNED_LEN..).unwrap_or_default());
    }
    let value = base64url(bytes);
    if let Some(untrusted) = UntrustedTicket::parse(&value) {
        let name = untrusted.record_name();
        match kind {
            Ticket::Forged => world.ledger.forged(name.as_str()),
            Ticket::Unsigned => world.ledger.guessed(name.as_str()),
        }
    }
    let targets = ["/models", "/oauth2/account", "/oauth2/logout", "/ajax-api/2.0/mlflow/runs/get"];
    let ask = Ask::new(world, "GET", world.rng.pick::<&str>(&targets))
        .header("cookie", format!("{SESSION_COOKIE}={value}"))
        .from_address(address);
    exchange(world, at, ask).await;
}

/// Begins a login and returns at once with everything except a valid code.
async fn callback(world: &Rc<World>, at: WorkerId, address: String) {
    let ask = Ask::new(world, "GET", "/oauth2/login")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .from_address(address.clone());
    let Some(seen @ Seen::Answered(_)) = exchange(world, at, ask).await else { return };
    let query = seen.header("location").and_then(|location| location.split_once('?'));
    let state = query.and_then(|(_, query)| parameter(query, "state"));
    let cookie = seen.headers("set-cookie").find_map(|cookie| cookie.split(';').next());
    let (Some(state), Some(cookie)) = (state, cookie) else { return };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("state", &state)
        .append_pair("code", &format!("{MADE_UP}{}", world.rng.next()))
        .append_pair("iss", ISSUER)
        .finish();
    let ask = Ask::new(world, "GET", &format!("/oauth2/callback?{query}"))
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("cookie", cookie)
        .from_address(address);
    exchange(world, at, ask).await;
}
