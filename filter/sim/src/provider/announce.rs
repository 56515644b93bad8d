//! Back-channel logout: the provider sends a logout token to the gate and waits for the reply.

use std::rc::Rc;
use std::time::Duration;

use oidc_gate_provider_model::{Kind, Session};

use crate::client::exchange::{Ask, exchange};
use crate::envoy::WorkerId;
use crate::executor::Moment;
use crate::ledger::Rule;
use crate::plan::FaultProfile;
use crate::sync::within;
use crate::world::World;

/// The gate's endpoint.
const PATH: &str = "/oauth2/backchannel-logout";
/// How long Keycloak waits for the reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an unconfirmed logout token is sent again.
const TRIES: usize = 4;

/// Sends "Logout all" or "not before" to the client's admin URL. True if the gate confirmed it.
pub async fn tell_admin_url(world: &Rc<World>, path: &str, action: &str) -> bool {
    if world.faults.loses_announcement(&world.plan) {
        return false;
    }
    let token = world.provider.admin_token(action, world.executor.now());
    let at = world.any_worker(None);
    let ask = Ask::new(world, "POST", path).body(token.into_bytes());
    let is_confirmed = post(world, at, ask, action).await;
    // Whether something was issued "until now" depends on the clocks.
    is_confirmed && world.envoys[at.envoy].clock_is_right()
}

/// Sends logout tokens for a session: to a random worker, or to one worker of each Envoy. Returns when all have replied
/// or timed out, like Keycloak.
pub async fn announce(world: &Rc<World>, ended: &Session) {
    let sid = ended.sid.as_str();
    let to_each = world.plan.provider.announces_to_each;
    let one = world.rng.index(world.plan.envoys);
    for envoy in 0..world.plan.envoys {
        if !to_each && envoy != one {
            continue;
        }
        if world.faults.loses_announcement(&world.plan) {
            continue;
        }
        let at = WorkerId { envoy, worker: world.rng.index(world.plan.workers) };
        if !world.plan.provider.announces_sid {
            world.ledger.user_of_session_weakened(sid, world.executor.now());
        }
        let token = world.provider.realm(world.executor.now()).logout_token(&ended.subject, sid);
        let is_confirmed = deliver(world, at, sid, &token).await;
        if !world.plan.provider.announces_sid {
            world.ledger.user_of_session_weakened(sid, world.executor.now());
        }
        if world.plan.provider.announces_again && (!is_confirmed || world.rng.permille(300)) {
            let again = announce_again(world.clone(), sid.to_owned(), token, is_confirmed);
            world.spawn_outside("announced again", again);
        }
    }
}

/// Sends the same token again to random workers: several times until one confirms it, or once more if it was confirmed.
/// A replay must not end anything that began since the first time.
async fn announce_again(world: Rc<World>, sid: String, token: String, was_confirmed: bool) {
    for _ in 0..TRIES {
        world.executor.sleep(Duration::from_millis(world.rng.between(100, 4_000))).await;
        let is_confirmed = deliver(&world, world.any_worker(None), &sid, &token).await;
        if was_confirmed
            && !is_confirmed
            && world.plan.fault_profile == FaultProfile::Calm
            && world.faults.are_on()
        {
            let what = format!("the end of {sid} was confirmed, and is not when it is announced once more");
            world.ledger.violate(Rule::Settles, world.executor.now(), what);
        }
        if was_confirmed || is_confirmed {
            return;
        }
    }
}

/// Sends the token to a worker. True if the worker confirmed it.
async fn deliver(world: &Rc<World>, at: WorkerId, sid: &str, token: &str) -> bool {
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    let ask = Ask::new(world, "POST", PATH)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into_bytes());
    let is_confirmed = post(world, at, ask, &format!("end of {sid} to {at}")).await;
    if is_confirmed {
        world.ledger.announced(sid, world.executor.now());
    }
    is_confirmed
}

/// Sends a message and waits for the reply. True if the worker confirmed it.
async fn post(world: &Rc<World>, at: WorkerId, ask: Ask, what: &str) -> bool {
    let answered = within(&world.executor, PATIENCE, exchange(world, at, ask)).await;
    let status = answered.flatten().map_or(0, |seen| seen.status());
    world.trace.event(world.executor.now(), "announced", u64::from(status), || format!("{what}: {status}"));
    matches!(status, 200 | 204)
}

impl super::Provider {
    /// Keycloak's message to a client's admin URL.
    fn admin_token(&self, action: &str, now: Moment) -> String {
        let mut realm = self.realm(now);
        let not_before = realm.not_before;
        let claims = realm.callback_claims(action, not_before);
        realm.sign(Kind::Callback, claims)
    }
}
