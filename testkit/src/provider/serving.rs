//! Serves one request to the provider: records it, misbehaves if told to, and responds.

use std::sync::{Arc, Mutex};

use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};

use super::endpoints::{self, Reply};
use super::misbehaviour::Behaviour;
use super::realm::Realm;
use super::target::Endpoint;
use super::traffic::UnderWay;
use super::{REALM, Recorded, admin_api, lock};
use crate::server::{Body, BrokenOff, full};

pub(super) async fn serve(realm: Arc<Mutex<Realm>>, request: Request<Incoming>) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let endpoint = head.uri.path().strip_prefix(REALM).and_then(Endpoint::at);
    let Some(endpoint) = endpoint else {
        let reply = admin_api::answer(&realm, &head).await;
        return Some(on_the_wire(&reply));
    };
    let request = Recorded::new(endpoint, &head, &body);
    let under_way = UnderWay::begin(&realm, &request);
    let behaviour = lock(&realm).misbehaviour.take(&request);
    if behaviour == Some(Behaviour::Hang) {
        // The future is dropped when the client disconnects.
        return std::future::pending().await;
    }
    // A separate task, because a real provider continues after the client has disconnected.
    let task = tokio::spawn(async move {
        let _under_way = under_way;
        respond(&realm, &request, behaviour).await
    });
    task.await.ok().flatten()
}

async fn respond(
    realm: &Mutex<Realm>,
    request: &Recorded,
    behaviour: Option<Behaviour>,
) -> Option<Response<Body>> {
    match behaviour {
        None | Some(Behaviour::Hang) => Some(on_the_wire(&right(realm, request).await)),
        Some(Behaviour::Answer { status, headers, body }) => {
            Some(on_the_wire(&Reply { status, headers, body, first: Vec::new() }))
        }
        Some(Behaviour::Delay(duration)) => {
            tokio::time::sleep(duration).await;
            Some(on_the_wire(&right(realm, request).await))
        }
        Some(Behaviour::Hold(hold)) => {
            hold.before().await;
            let reply = right(realm, request).await;
            hold.after().await;
            Some(on_the_wire(&reply))
        }
        Some(Behaviour::Refuse) => None,
        Some(Behaviour::DropAnswer) => {
            let _ = right(realm, request).await;
            None
        }
        Some(Behaviour::CloseMidBody) => Some(broken_off(&right(realm, request).await)),
    }
}

/// The correct response, after the calls to the client that must come first.
async fn right(realm: &Mutex<Realm>, request: &Recorded) -> Reply {
    let mut reply = endpoints::answer(&mut lock(realm), request);
    for call in std::mem::take(&mut reply.first) {
        let delivery = call.send().await;
        lock(realm).deliveries.push(delivery);
    }
    reply
}

fn on_the_wire(reply: &Reply) -> Response<Body> {
    let headers: Vec<(&str, &str)> = reply.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    crate::server::response(reply.status, &headers, reply.body.clone())
}

/// Announces the whole body, sends half of it, and closes the connection.
fn broken_off(reply: &Reply) -> Response<Body> {
    let length = reply.body.len().to_string();
    let half: Bytes = reply.body.iter().take(reply.body.len() / 2).copied().collect();
    let frames = stream::iter([Ok(Frame::data(half)), Err(BrokenOff)]);
    let mut response = on_the_wire(reply).map(|_| full(Bytes::new()));
    if let Ok(length) = length.parse() {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    }
    response.map(|_| StreamBody::new(frames).boxed_unsync())
}
