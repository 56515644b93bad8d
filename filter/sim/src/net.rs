//! The network between workers, Redis and the provider, with latencies and faults.

use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot::{Sender, channel};
use futures_util::future::{Either, select};
use oidc_gate_core::host::{Callout, CalloutError, CalloutReply, LocalFuture};
use oidc_gate_provider_model::Request;
use oidc_gate_redis_model::server::Connection;

use crate::envoy::WorkerId;
use crate::faults::{Fate, Scope};
use crate::ledger::Presentation;
use crate::sabotage::Sabotage;
use crate::world::World;

type Answer = Result<CalloutReply, CalloutError>;

/// The called party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Redis,
    Provider,
}

/// One callout of a worker. It is sent now, whether or not the future is polled.
pub fn call(world: &Rc<World>, from: WorkerId, callout: Callout) -> LocalFuture<'static, Answer> {
    let peer = match callout.cluster.as_str() {
        "redis" => Peer::Redis,
        "keycloak" => Peer::Provider,
        _ => return Box::pin(std::future::ready(Err(CalloutError::UnknownCluster))),
    };
    let now = world.executor.now();
    let fate = match peer {
        Peer::Redis => world.faults.to_redis(&world.plan, from.envoy, now),
        Peer::Provider => world.faults.to_provider(&world.plan, from.envoy, now),
    };
    if fate != Fate::Delivered {
        world.faults.happened(now, Scope::Worker(from.envoy, from.worker));
    }
    let call = world.next_call();
    world
        .trace
        .event(now, "call", call, || format!("#{call} {from} {peer:?} {fate:?}: {}", describe(&callout)));
    let (request, presentation) = match peer {
        Peer::Redis => {
            world.ledger.asks_redis(world, from, &callout.body, now);
            (None, None)
        }
        Peer::Provider => {
            world.ledger.asks_provider(world, from, &callout.body, now);
            let executor = world.executor.clone();
            let request = request(&callout);
            let presentation = request.as_ref().and_then(|request| {
                world.ledger.presenting(request, from, now, Rc::new(move || executor.now()))
            });
            (request, presentation)
        }
    };
    let (sender, receiver) = channel();
    let timeout = callout.timeout;
    world.spawn_outside("callout", wire(world.clone(), peer, fate, (callout, request), call, sender));
    let executor = world.executor.clone();
    let deadline = executor.sleep(timeout);
    Box::pin(async move {
        // Ends when the caller has its reply, or no longer waits.
        let _presentation: Option<Presentation> = presentation;
        match select(receiver, deadline).await {
            Either::Left((Ok(answer), _)) => answer,
            // There will be no reply, but Envoy notices only at the timeout.
            Either::Left((Err(_), deadline)) => {
                deadline.await;
                timed_out(peer)
            }
            Either::Right(_) => timed_out(peer),
        }
    })
}

/// Envoy turns a timeout into a 504. A raw TCP connection without a reply is reset.
fn timed_out(peer: Peer) -> Answer {
    match peer {
        Peer::Redis => Err(CalloutError::Reset),
        Peer::Provider => Ok(status(504)),
    }
}

fn status(status: u16) -> CalloutReply {
    CalloutReply { status, ..CalloutReply::default() }
}

/// The way to the peer and back.
async fn wire(
    world: Rc<World>,
    peer: Peer,
    fate: Fate,
    (callout, request): (Callout, Option<Request>),
    call: u64,
    sender: Sender<Answer>,
) {
    let pause = |most| world.executor.sleep(Duration::from_micros(world.net_rng.between(50, most)));
    match fate {
        Fate::Refused => {
            pause(3_000).await;
            return answer(&world, call, sender, Ok(status(503)));
        }
        Fate::LostRequest => {
            pause(20_000).await;
            return answer(&world, call, sender, Err(CalloutError::Reset));
        }
        Fate::Swallowed => return,
        _ => {}
    }
    let limit = callout.timeout;
    latency(&world, peer, limit).await;
    // The worker is gone, so its request may or may not have been sent.
    if sender.is_canceled() && world.net_rng.permille(300) {
        return;
    }
    let reply = match peer {
        Peer::Redis => redis(&world, fate, &callout.body).await,
        Peer::Provider => provider(&world, fate, request.as_ref()),
    };
    match fate {
        Fate::LostReply | Fate::Cut(_) => {
            latency(&world, peer, limit).await;
            if world.net_rng.permille(500) {
                answer(&world, call, sender, Err(CalloutError::Reset));
            }
        }
        Fate::Late => {
            world.executor.sleep(limit + Duration::from_millis(world.net_rng.between(1, 3_000))).await;
            answer(&world, call, sender, Ok(reply));
        }
        _ => {
            latency(&world, peer, limit).await;
            answer(&world, call, sender, Ok(reply));
        }
    }
}

fn answer(world: &World, call: u64, sender: Sender<Answer>, reply: Answer) {
    let status = reply.as_ref().map_or(0, |reply| reply.status);
    world.trace.event(world.executor.now(), "answer", call, || {
        let body = match &reply {
            Ok(reply) => String::from_utf8_lossy(&reply.body).chars().take(90).collect::<String>(),
            Err(error) => error.to_string(),
        };
        format!("#{call} {status} {}", body.escape_debug())
    });
    // The caller may no longer wait.
    let _ = sender.send(reply);
}

/// The latency of one direction: mostly short, sometimes long. Both directions together stay below the timeout.
async fn latency(world: &World, peer: Peer, limit: Duration) {
    let rng = &world.net_rng;
    let (usual, slow) = match peer {
        Peer::Redis => (1_500, 30_000),
        Peer::Provider => (12_000, 200_000),
    };
    let share = match peer {
        Peer::Redis => 2,
        Peer::Provider => 4,
    };
    let longest = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX) / 10 * share;
    let micros = match rng.below(100) {
        drawn if drawn < world.plan.slow_calls && peer == Peer::Provider => longest,
        0 => longest,
        1..7 => rng.between(usual, slow),
        _ => rng.between(100, usual),
    };
    world.executor.sleep(Duration::from_micros(micros.min(longest))).await;
}

async fn redis(world: &World, fate: Fate, body: &[u8]) -> CalloutReply {
    let body = match fate {
        Fate::Cut(part) => &body[..body.len() * usize::try_from(part).unwrap_or_default() / 1000],
        _ => body,
    };
    let mut connection = Connection::default();
    let mut reply = Vec::new();
    // Sometimes the bytes arrive in two pieces, with other commands in between.
    let split = if world.net_rng.permille(100) { world.net_rng.index(body.len()) } else { 0 };
    let (first, second) = body.split_at(split);
    for (index, piece) in [first, second].into_iter().enumerate() {
        if index == 1 && !first.is_empty() {
            world.executor.sleep(Duration::from_micros(world.net_rng.between(10, 2_000))).await;
        }
        let now = world.executor.now();
        let mood = world.faults.mood(fate, now);
        reply.extend(world.redis.feed(&mut connection, piece, world.redis_clock(now), mood));
    }
    if world.plan.sabotage == Some(Sabotage::GrantEveryCode) {
        reply = grant(body, reply);
    }
    if world.plan.sabotage == Some(Sabotage::NoteMessagesFirst) {
        note_message(world, body);
    }
    CalloutReply { status: 200, headers: Vec::new(), body: reply }
}

/// For a planted bug: a lookup of a logout token records it as processed.
fn note_message(world: &World, request: &[u8]) {
    let text = String::from_utf8_lossy(request);
    if text.contains("EXISTS")
        && let Some(key) = text.split("\r\n").find(|word| word.starts_with("mlflow:jti:"))
    {
        world.redis.tamper(world.redis_clock(world.executor.now()), &["SET", key, "1"]);
    }
}

/// For a planted bug: every request to claim a flow succeeds.
fn grant(request: &[u8], reply: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&reply);
    match request.windows(6).any(|window| window == b":code:") {
        true => text.replace("$-1\r\n", "+OK\r\n").into_bytes(),
        false => reply,
    }
}

fn provider(world: &World, fate: Fate, request: Option<&Request>) -> CalloutReply {
    if let Fate::Error(code) = fate {
        return status(u16::try_from(code).unwrap_or(500));
    }
    let Some(request) = request else { return status(404) };
    let reply = world.provider.handle(request, world.executor.now());
    let headers = reply.headers().into_iter().map(|(name, value)| (name, value.into_bytes()));
    CalloutReply { status: reply.status, headers: headers.collect(), body: reply.body() }
}

/// A callout as the provider receives it. `None` if there is no such endpoint.
fn request(callout: &Callout) -> Option<Request> {
    Request::new(header(callout, ":method"), header(callout, ":path"), callout.headers.clone(), &callout.body)
}

fn header<'a>(callout: &'a Callout, name: &str) -> &'a str {
    let found = callout.headers.iter().find(|(candidate, _)| candidate == name);
    found.map(|(_, value)| value.as_str()).unwrap_or_default()
}

fn describe(callout: &Callout) -> String {
    let body: String = String::from_utf8_lossy(&callout.body)
        .chars()
        .map(|c| if c == '\r' { ' ' } else { c })
        .filter(|c| !c.is_control() && c.is_ascii())
        .take(240)
        .collect();
    format!("{} {} {body}", header(callout, ":method"), header(callout, ":path"))
}
