//! An attacker with copies of cookies and tokens, who replays them after their session has ended. The ledger decides
//! whether one is wrongly accepted.

use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Ask, exchange};
use crate::ledger::SESSION_COOKIE;
use crate::world::{Act, World};

/// Replays one credential after another, soon after its session ended or long after.
pub async fn run(world: Rc<World>) {
    while matches!(world.act(), Act::Use | Act::Wait) {
        world.executor.sleep(Duration::from_millis(world.rng.between(10, 700))).await;
        let ask = Ask::new(&world, "GET", "/ajax-api/2.0/mlflow/runs/get");
        let ask = if world.rng.permille(700) {
            let Some(value) = world.ledger.some_ended_session(&world.rng) else { continue };
            ask.header("cookie", format!("{SESSION_COOKIE}={value}; app={}", world.requests()))
        } else {
            let Some(token) = world.ledger.some_ended_token(&world.rng, world.executor.now()) else {
                continue;
            };
            ask.header("authorization", format!("Bearer {token}"))
        };
        exchange(&world, world.any_worker(None), ask).await;
    }
}
