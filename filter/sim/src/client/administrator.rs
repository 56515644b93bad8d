//! An administrator at the provider's console.

use std::rc::Rc;
use std::time::Duration;

use crate::provider::admin::{ACTIONS, Action};
use crate::provider::{announce, tell_admin_url};
use crate::world::{Act, World};

/// Performs an action now and then while users use the gate.
pub async fn run(world: Rc<World>) {
    let mut rotated = None;
    loop {
        world.pause_about(world.plan.people.administrator).await;
        if world.act() != Act::Use {
            return;
        }
        let action = *world.rng.pick(&ACTIONS);
        let now = world.executor.now();
        if action == Action::RotateKeys {
            // The gate fetches keys for an unknown `kid` at most every 10 s, so do not rotate them faster.
            if rotated.is_some_and(|at| now.duration_since(at) < Duration::from_secs(15)) {
                continue;
            }
            rotated = Some(now);
        }
        let announced = world.provider.administer(action, now);
        world
            .trace
            .event(now, "administrator", announced.len() as u64, || format!("{action:?} {announced:?}"));
        // One after another; each waits for its reply.
        for ended in announced {
            announce(&world, &ended).await;
        }
        if !world.plan.provider.admin_url {
            continue;
        }
        // Revocations count whole seconds by the gate's clock, so they may not cover what was issued just before.
        let ended = world.ledger.ended_and_idle(now, Duration::from_millis(1_000) + world.plan.skew);
        match action {
            Action::LogOutAll => {
                world.ledger.everybody_is_void(now);
                if tell_admin_url(&world, "/oauth2/k_logout", "LOGOUT").await {
                    let now = world.executor.now();
                    ended.iter().for_each(|sid| world.ledger.announced(sid, now));
                }
                // A login within the same second is revoked, too.
                world.ledger.everybody_is_void(world.executor.now());
            }
            Action::PushNotBefore => {
                tell_admin_url(&world, "/oauth2/k_push_not_before", "PUSH_NOT_BEFORE").await;
            }
            _ => {}
        }
    }
}
