//! Serves one request to the provider: records it, misbehaves if told to, and responds.

use std::sync::{Arc, Mutex};

use futures_util::stream;
use http::Response;
use http::request::Parts;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};

use oidc_gate_provider_model::{Reply, Request};

use super::admin_api;
use super::back_channel::{Delivery, Outgoing};
use super::misbehaviour::Behaviour;
use super::state::State;
use super::traffic::UnderWay;
use crate::server::{Body, BrokenOff, full};

pub(super) async fn serve(
    state: Arc<Mutex<State>>,
    request: http::Request<Incoming>,
) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let Some(request) = received(&head, &body) else {
        let reply = admin_api::answer(&state, &head).await;
        return Some(on_the_wire(&reply));
    };
    let under_way = UnderWay::begin(&state, &request);
    let behaviour = State::lock(&state).misbehaviour.take(&request);
    if matches!(behaviour, Some(Behaviour::Hang)) {
        // The future is dropped when the client disconnects.
        return std::future::pending().await;
    }
    // A separate task, because a real provider continues after the client has disconnected.
    let task = tokio::spawn(async move {
        let _under_way = under_way;
        respond(&state, &request, behaviour).await
    });
    task.await.ok().flatten()
}

fn received(head: &Parts, body: &[u8]) -> Option<Request> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    Request::new(head.method.as_str(), &target, headers.collect(), body)
}

async fn respond(
    state: &Mutex<State>,
    request: &Request,
    behaviour: Option<Behaviour>,
) -> Option<Response<Body>> {
    match behaviour {
        None | Some(Behaviour::Hang) => Some(on_the_wire(&right(state, request).await)),
        Some(Behaviour::Answer { status, headers, body }) => Some(response(status, &headers, body)),
        Some(Behaviour::Delay(duration)) => {
            tokio::time::sleep(duration).await;
            Some(on_the_wire(&right(state, request).await))
        }
        Some(Behaviour::Hold(hold)) => {
            hold.before().await;
            let reply = right(state, request).await;
            hold.after().await;
            Some(on_the_wire(&reply))
        }
        Some(Behaviour::Refuse) => None,
        Some(Behaviour::DropAnswer) => {
            let _ = right(state, request).await;
            None
        }
        Some(Behaviour::CloseMidBody) => Some(broken_off(&right(state, request).await)),
    }
}

/// The correct response, after the calls to the client that must come first.
async fn right(state: &Mutex<State>, request: &Request) -> Reply {
    let (reply, first) = {
        let mut state = State::lock(state);
        let mut reply = state.realm.respond(request);
        state.traffic.count(request, &reply);
        state.misbehaviour.edit(request, &mut reply);
        let first = reply.ended.take().and_then(|ended| state.announcement(&ended));
        (reply, first)
    };
    make_calls(state, first).await;
    reply
}

/// Makes the calls one after the other, as Keycloak does. The receiver may query the provider before it responds.
pub(super) async fn make_calls(
    state: &Mutex<State>,
    calls: impl IntoIterator<Item = Outgoing>,
) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for call in calls {
        let delivery = call.send().await;
        State::lock(state).deliveries.push(delivery.clone());
        deliveries.push(delivery);
    }
    deliveries
}

fn on_the_wire(reply: &Reply) -> Response<Body> {
    response(reply.status, &reply.headers(), reply.body())
}

fn response(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Response<Body> {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    crate::server::response(status, &headers, body)
}

/// Announces the whole body, sends half of it, and closes the connection.
fn broken_off(reply: &Reply) -> Response<Body> {
    let mut half = reply.body();
    let length = half.len().to_string();
    half.truncate(half.len() / 2);
    let frames = stream::iter([Ok(Frame::data(Bytes::from(half))), Err(BrokenOff)]);
    let mut response = on_the_wire(reply).map(|_| full(Bytes::new()));
    if let Ok(length) = length.parse() {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    }
    response.map(|_| StreamBody::new(frames).boxed_unsync())
}
