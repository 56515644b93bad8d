//! Somebody who kept copies of cookies and tokens, and tries them after their session has ended. Whether one still
//! opens anything is for the ledger to say.

use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Ask, exchange};
use crate::ledger::SESSION_COOKIE;
use crate::provider::AUTHORITY;
use crate::world::{Act, World};

/// Tries one after the other, soon after its end and long after.
pub async fn run(world: Rc<World>) {
    while matches!(world.act(), Act::Use | Act::Wait) {
        world.executor.sleep(Duration::from_millis(world.rng.between(10, 700))).await;
        let ask = Ask::new(&world, "GET", "/ajax-api/2.0/mlflow/runs/get").header(":authority", AUTHORITY);
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
