//! Foreign entries that a client with write access puts into the revocation stream. They must not delay any revocation.
//! Only entries that were deleted or could not be read may arrive late.

use std::rc::Rc;

use oidc_gate_redis_model::resp::Reply;

use crate::executor::Moment;
use crate::faults::Scope;
use crate::rng::Rng;
use crate::world::World;

/// The stream's key.
const STREAM: &str = "mlflow:revoked";
/// The largest possible id.
const LARGEST_ID: &str = "18446744073709551615-18446744073709551615";

/// Writes a foreign entry and removes it later.
pub fn pour(world: &Rc<World>, rng: &Rng, now: Moment, until: Moment) {
    let clock = world.redis_clock(now);
    let run = |words: &[&str]| drop(world.redis.tamper(clock, words));
    let mut is_away = false;
    let cure: &[&str] = match rng.below(6) {
        0 | 1 => {
            run(&["XADD", STREAM, LARGEST_ID, "e", "x"]);
            match rng.below(4) {
                // Not removed: the next reader or writer repairs the stream.
                0 => &[],
                1 => &["DEL", STREAM],
                _ => &["XDEL", STREAM, LARGEST_ID],
            }
        }
        2 => {
            run(&["XADD", STREAM, &format!("{}-0", clock + 3_600_000), "e", "x"]);
            &["DEL", STREAM]
        }
        3 => {
            for number in 0..rng.between(1, 700) {
                let value = number.to_string();
                match rng.below(4) {
                    0 => run(&["XADD", STREAM, "*", "e", &value]),
                    1 => run(&["XADD", STREAM, "*", "e", &value.repeat(100)]),
                    2 => run(&["XADD", STREAM, "*", &value, "e"]),
                    _ => run(&["XADD", STREAM, "*", "e", &value, "e", "x"]),
                }
            }
            &[]
        }
        4 => {
            run(&["SET", STREAM, "x"]);
            is_away = true;
            world.faults.take_stream_away(until);
            world.faults.happened(now, Scope::All);
            world.ledger.lost_stream(now);
            &["DEL", STREAM]
        }
        _ => {
            run(&["DEL", STREAM]);
            world.ledger.lost_stream(now);
            &[]
        }
    };
    let world = world.clone();
    world.clone().spawn_outside("end of a poison", async move {
        world.executor.sleep(until.duration_since(now)).await;
        if cure.is_empty() || !world.faults.are_on() {
            return;
        }
        let now = world.executor.now();
        world.redis.tamper(world.redis_clock(now), cure);
        if cure[0] == "DEL" {
            world.ledger.lost_stream(now);
        }
        if is_away {
            world.faults.happened(now, Scope::All);
        }
    });
}

/// Removes a value of another type.
pub fn cure(world: &World) {
    let now = world.executor.now();
    let clock = world.redis_clock(now);
    if world.redis.tamper(clock, &["TYPE", STREAM]) == Reply::Simple("string".to_owned()) {
        world.redis.tamper(clock, &["DEL", STREAM]);
        world.faults.happened(now, Scope::All);
    }
}
