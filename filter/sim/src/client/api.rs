//! A script with a bearer token that it requests from the provider.

use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Ask, exchange};
use crate::ledger::Rule;
use crate::world::{Act, World};

/// How often the final request is repeated if the provider is slow.
const SHOW_TRIES: u32 = 3;

/// Sends requests in a loop. It requests a new token when the old one has expired, and sometimes uses an old one for
/// too long.
pub async fn run(world: Rc<World>, number: usize) {
    let user = number % world.plan.people.users;
    let mut token: Option<String> = None;
    loop {
        world.pause_about(world.plan.people.think).await;
        match world.act() {
            Act::Use => {}
            Act::Wait => continue,
            Act::Show => return show(&world, user).await,
            Act::Leave => return,
        }
        if token.is_none() && !world.faults.provider_is_away(world.executor.now()) {
            token = world.provider.grant(user, world.executor.now());
        }
        let Some(text) = token.clone() else { continue };
        let refused = ask(&world, &text).await == Some(401);
        if refused && world.rng.permille(300) {
            token = None;
        }
    }
}

async fn ask(world: &Rc<World>, token: &str) -> Option<u16> {
    let (method, target) = *world.rng.pick(&[
        ("GET", "/api/2.0/mlflow/experiments/search"),
        ("POST", "/api/2.0/mlflow/runs/log-metric"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/model.bin"),
    ]);
    let ask = Ask::new(world, method, target).header("authorization", format!("Bearer {token}"));
    exchange(world, world.any_worker(None), ask).await.map(|seen| seen.status())
}

async fn show(world: &Rc<World>, user: usize) {
    let Some(token) = world.provider.grant(user, world.executor.now()) else { return };
    let mut status = ask(world, &token).await;
    // The provider may be slow, within its limits, so repeat the request.
    for _ in 0..SHOW_TRIES {
        if status != Some(503) {
            break;
        }
        world.executor.sleep(Duration::from_secs(5)).await;
        status = ask(world, &token).await;
    }
    if status != Some(200) {
        let what = format!("an API client with a new token: {status:?} after everything was repaired");
        world.ledger.violate(Rule::Settles, world.executor.now(), what);
    }
}
