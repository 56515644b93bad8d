//! What somebody who can write to Redis puts into the revocation stream. Whatever stands there, what ended has to be
//! known everywhere as soon as ever; only what was taken away, or could not be read, is known later.

use std::rc::Rc;

use oidc_gate_redis_model::resp::Reply;

use crate::executor::Moment;
use crate::faults::Scope;
use crate::rng::Rng;
use crate::world::World;

/// The stream's key.
const STREAM: &str = "mlflow:revoked";
/// No id is larger.
const LARGEST_ID: &str = "18446744073709551615-18446744073709551615";

/// Puts something there, and takes it away again when the time has come.
pub fn pour(world: &Rc<World>, rng: &Rng, now: Moment, until: Moment) {
    let clock = world.redis_clock(now);
    let run = |words: &[&str]| drop(world.redis.tamper(clock, words));
    let mut is_away = false;
    let cure: &[&str] = match rng.below(6) {
        0 | 1 => {
            run(&["XADD", STREAM, LARGEST_ID, "e", "x"]);
            match rng.below(4) {
                // Left there: whoever writes or reads next puts it right.
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

/// Takes away what is no stream.
pub fn cure(world: &World) {
    let now = world.executor.now();
    let clock = world.redis_clock(now);
    if world.redis.tamper(clock, &["TYPE", STREAM]) == Reply::Simple("string".to_owned()) {
        world.redis.tamper(clock, &["DEL", STREAM]);
        world.faults.happened(now, Scope::All);
    }
}
