//! An attacker who has seen many credentials but must not get in. The ledger decides whether the gate let the attacker
//! in: nothing in these requests is a credential that was issued to anybody.

use std::rc::Rc;
use std::time::Duration;

use oidc_gate_core::encoding::base64url;
use serde_json::json;

use super::exchange::{Ask, exchange};
use crate::ledger::SESSION_COOKIE;
use crate::provider::{CLIENT, ISSUER, Key};
use crate::world::{Act, World, epoch_secs, subject};

/// Tries one attack after another while users use the gate.
pub async fn run(world: Rc<World>) {
    loop {
        world.executor.sleep(Duration::from_millis(world.rng.between(50, 1_500))).await;
        if world.act() != Act::Use {
            return;
        }
        let ask = attempt(&world);
        exchange(&world, world.any_worker(None), ask).await;
    }
}

fn attempt(world: &World) -> Ask {
    let ask = |method: &str, target: &str| Ask::new(world, method, target);
    let now = epoch_secs(world.executor.now());
    // A different key under the real key's id.
    let mut forger = Key::new(1_000 + world.rng.below(1_000));
    forger.id = "key-0".to_owned();
    let someone = world.ledger.some_session(&world.rng);
    let sid = someone.as_ref().map(|(_, sid)| sid.clone()).unwrap_or_default();
    let subject = subject(world.rng.index(world.plan.people.users));
    match world.rng.below(6) {
        0 => {
            let mut ticket = [0; 48];
            world.rng.fill(&mut ticket);
            ask("GET", "/models").header("cookie", format!("{SESSION_COOKIE}={}", base64url(ticket)))
        }
        1 => {
            // A real session id with a wrong secret.
            let value = someone.map(|(value, _)| value).unwrap_or_default();
            let mut secret = [0; 32];
            world.rng.fill(&mut secret);
            let id = value.get(..21).unwrap_or_default();
            let forged: String =
                format!("{id}{}", base64url([&[0_u8; 16][..], &secret].concat()).split_off(21));
            ask("GET", "/models").header("cookie", format!("{SESSION_COOKIE}={forged}"))
        }
        2 => {
            let claims = json!({
                "iss": ISSUER, "aud": CLIENT, "azp": CLIENT, "sub": subject, "sid": sid, "iat": now, "exp": now + 300,
                "typ": "Bearer", "groups": ["/mlflow_users"], "preferred_username": "root",
            });
            let token = forger.sign("at+jwt", &claims);
            ask("GET", "/api/2.0/mlflow/runs/get").header("authorization", format!("Bearer {token}"))
        }
        3 => {
            // An ID token is not a bearer token.
            let token = world.ledger.some_id_token(&world.rng).unwrap_or_default();
            ask("GET", "/api/2.0/mlflow/runs/get").header("authorization", format!("Bearer {token}"))
        }
        4 => {
            // A logout token that the provider did not sign: no session may end because of it.
            let claims = json!({
                "iss": ISSUER, "aud": CLIENT, "sub": subject, "sid": sid, "iat": now, "exp": now + 120, "typ": "Logout",
                "jti": format!("forged-{}", world.rng.next()),
                "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            });
            let body = format!("logout_token={}", forger.sign("logout+jwt", &claims));
            ask("POST", "/oauth2/backchannel-logout")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.into_bytes())
        }
        _ => {
            // The code of somebody else's login.
            let code = world.ledger.some_code(&world.rng).unwrap_or_default();
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("state", &base64url(world.rng.next().to_be_bytes()))
                .append_pair("code", &code)
                .append_pair("iss", ISSUER)
                .finish();
            ask("GET", &format!("/oauth2/callback?{query}")).header("sec-fetch-dest", "document")
        }
    }
}
