//! The phases of a stream.

use std::time::Duration;

use oidc_gate_core::host::{CalloutError, CalloutReply};
use oidc_gate_core::http::body::MAX_BODY_LEN;

use super::host::{Exchange, MemoryHost, Sent};
use super::provider::{bearer, provide, serving, session_cookie};
use crate::context::{HeaderMap, Owner};
use crate::instance::Instance;
use crate::stream::{Action, MAX_BODIES, MAX_WAITING};

const LOGOUT: &str = "/oauth2/backchannel-logout";
/// The reason for an invalid logout token.
const BAD_TOKEN: &str = "invalid_logout_token";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Sends a request with a session cookie, and runs until its own callout is in progress. First the request waits for
/// the revocation log, which cannot be read.
fn asking(host: &MemoryHost, instance: &Instance, request: &Exchange) -> Sent {
    let cookie = session_cookie();
    assert_eq!(request.request("GET", "/", &[("cookie", &cookie)], true), Action::StopAllAndWatermark);
    host.run(instance, Duration::from_secs(6));
    let mut sent = host.take_sent();
    sent.retain(|sent| sent.owner != Owner::Root);
    assert_eq!(sent.len(), 1, "{:#?}", host.log.borrow());
    assert_eq!(sent[0].owner, Owner::Stream(request.id), "sent with its own stream effective");
    sent.remove(0)
}

#[test]
fn a_request_that_is_decided_about_at_once_is_never_held() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    let headers = [("x-forwarded-user", "admin"), ("cookie", "a=b")];
    assert_eq!(request.request("GET", "/health", &headers, false), Action::Continue);
    assert_eq!(request.seen.resumed.get(), 0, "it was not held");
    assert_eq!(request.seen.state("oidc_reason").as_deref(), Some("public"));
    assert_eq!(request.seen.state("oidc_user"), None);
    let removed = request.seen.values(HeaderMap::RequestHeaders, "x-forwarded-user");
    assert!(removed.is_empty(), "the permit is carried out: {removed:?}");
    assert_eq!(request.body(b"of the application", true), Action::Continue);
    assert_eq!(request.trailers(&[("x-checksum", "1")]), Action::Continue);
}

#[test]
fn a_refusal_is_an_answer_and_the_rest_of_the_request_goes_nowhere() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    let headers = [("authorization", "Basic eA=="), ("accept", "application/json")];
    assert_eq!(request.request("POST", "/api", &headers, false), Action::StopAllAndWatermark);
    let reply = request.seen.reply.borrow().clone().unwrap();
    assert_eq!(reply.status, 401);
    assert_eq!(reply.details, format!("oidc_gate_{}", request.seen.state("oidc_reason").unwrap()));
    assert!(reply.headers.contains(&("cache-control".to_owned(), "no-store".to_owned())));
    assert!(reply.body.contains("\"error_code\":\"UNAUTHENTICATED\""), "{}", reply.body);
    assert_eq!(request.body(b"more", true), Action::StopNoBuffer);
    assert_eq!(request.trailers(&[]), Action::Stop);
    assert_eq!(request.seen.resumed.get(), 0);
}

#[test]
fn a_grpc_client_is_told_by_a_grpc_status() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.request("POST", "/mlflow.Service/Get", &[("content-type", "application/grpc")], false);
    let reply = request.seen.reply.borrow().clone().unwrap();
    assert_eq!((reply.status, reply.grpc_status), (401, Some(16)));
}

#[test]
fn a_request_that_waits_is_held_and_goes_on_with_its_permit() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    let token = bearer();
    let headers = [("authorization", token.as_str()), ("x-user", "admin")];
    let decision = request.request("POST", "/api/2.0/mlflow/runs/create", &headers, false);
    assert_eq!(decision, Action::StopAllAndWatermark);
    assert_eq!(request.body(b"early", false), Action::StopNoBuffer, "nothing overtakes the decision");
    assert!(request.seen.reply.borrow().is_none());
    provide(&host, &instance);
    host.run(&instance, Duration::from_secs(6));
    assert_eq!(request.seen.resumed.get(), 1, "{:?} {:#?}", request.seen.reply.borrow(), host.log.borrow());
    assert_eq!(request.seen.state("oidc_user").as_deref(), Some("s-1"));
    assert_eq!(request.seen.state("oidc_reason").as_deref(), Some("bearer"));
    let seen = |name| request.seen.values(HeaderMap::RequestHeaders, name);
    assert!(seen("authorization").is_empty(), "no credential reaches the application");
    assert!(seen("x-user").is_empty());
    assert_eq!(request.body(b"late", true), Action::Continue);
    assert_eq!(request.seen.resumed.get(), 1);
}

#[test]
fn requests_that_wait_for_the_same_thing_are_each_decided_about_in_their_own_context() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let token = bearer();
    let requests: Vec<_> = (0..3).map(|_| Exchange::new(&host, &instance)).collect();
    for (number, request) in requests.iter().enumerate() {
        let headers = [("authorization", if number == 1 { "Bearer a.b.c" } else { &token })];
        request.request("GET", "/", &headers, true);
    }
    provide(&host, &instance);
    host.run(&instance, Duration::from_secs(6));
    let seen: Vec<_> =
        requests.iter().map(|request| (request.seen.resumed.get(), request.seen.status())).collect();
    assert_eq!(seen, [(1, None), (0, Some(401)), (1, None)]);
}

#[test]
fn a_header_that_can_not_be_taken_out_ends_the_request() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.seen.keeps.set(Some("authorization"));
    let token = bearer();
    request.request("GET", "/", &[("authorization", &token)], true);
    provide(&host, &instance);
    host.run(&instance, Duration::from_secs(6));
    let reply = request.seen.reply.take().unwrap();
    assert_eq!((reply.status, reply.details.as_str()), (503, "oidc_gate_headers"));
    assert_eq!(request.seen.resumed.get(), 0);
    assert_eq!(request.body(b"", true), Action::StopNoBuffer);
}

#[test]
fn an_endpoint_that_reads_a_body_gets_it_in_parts() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    assert_eq!(request.request("POST", LOGOUT, &[FORM], false), Action::Stop, "the body is handed over");
    assert_eq!(request.body(b"logout_", false), Action::StopNoBuffer);
    assert!(request.seen.reply.borrow().is_none(), "the rest is still coming");
    assert_eq!(request.body(b"token=x", true), Action::StopNoBuffer);
    // The session is ended by a background job. No time passes: nothing waits for more of the body.
    host.tick(&instance);
    assert_eq!(request.seen.status(), Some(400));
    assert_eq!(request.seen.state("oidc_reason").as_deref(), Some(BAD_TOKEN), "both parts arrived");
    assert_eq!(request.seen.filter_state.borrow().len(), 1, "decided once");
    assert_eq!(request.body(b"after the answer", true), Action::StopNoBuffer);
}

#[test]
fn a_body_ends_with_trailers_too() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.request("POST", LOGOUT, &[FORM], false);
    request.body(b"logout_token=x", false);
    assert_eq!(request.trailers(&[]), Action::Stop);
    host.tick(&instance);
    assert_eq!(request.seen.state("oidc_reason").as_deref(), Some(BAD_TOKEN));
}

#[test]
fn an_endpoint_that_reads_a_body_and_gets_none_does_not_wait_for_it() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    assert_eq!(request.request("POST", LOGOUT, &[FORM], true), Action::StopAllAndWatermark);
    assert_eq!(request.seen.status(), Some(400));
}

#[test]
fn a_body_that_does_not_come_is_waited_for_with_a_limit() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.request("POST", LOGOUT, &[FORM], false);
    host.run(&instance, Duration::from_secs(4));
    assert_eq!(request.seen.state("oidc_reason").as_deref(), Some("body_unavailable"));
    assert_eq!(request.body(b"logout_token=x", true), Action::StopNoBuffer, "decided already");
}

#[test]
fn a_body_is_read_up_to_its_limit_and_no_further() {
    for (len, status) in [(MAX_BODY_LEN, 400), (MAX_BODY_LEN + 1, 400), (MAX_BODY_LEN * 9, 400)] {
        let host = MemoryHost::new();
        let instance = serving(&host);
        let request = Exchange::new(&host, &instance);
        request.request("POST", LOGOUT, &[FORM], false);
        request.body(&vec![b'a'; len], false);
        let is_too_long = len > MAX_BODY_LEN;
        assert_eq!(request.seen.status().is_some(), is_too_long, "{len}: an answer before its end");
        request.body(b"", true);
        assert_eq!(request.seen.status(), Some(status), "{len}");
        assert!(request.seen.asked_for.get() <= MAX_BODY_LEN + 1, "{len}: no more is taken from the host");
    }
}

#[test]
fn a_body_that_is_too_long_in_sum_only_is_read_no_further_either() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.request("POST", LOGOUT, &[FORM], false);
    let part = vec![b'a'; MAX_BODY_LEN * 2 / 3];
    request.body(&part, false);
    assert_eq!(request.seen.asked_for.get(), part.len());
    assert_eq!(request.seen.status(), None);
    request.body(&part, false);
    assert_eq!(
        request.seen.asked_for.get(),
        MAX_BODY_LEN + 1 - part.len(),
        "one byte tells that it is too long"
    );
    assert_eq!(request.seen.status(), Some(400));
}

#[test]
fn bodies_that_are_read_at_once_have_a_limit_that_ends_with_them() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let mut requests: Vec<_> = (0..=MAX_BODIES).map(|_| Exchange::new(&host, &instance)).collect();
    for request in &requests[..MAX_BODIES] {
        assert_eq!(request.request("POST", LOGOUT, &[FORM], false), Action::Stop);
    }
    let last = requests.pop().unwrap();
    assert_eq!(last.request("POST", LOGOUT, &[FORM], false), Action::StopAllAndWatermark);
    assert_eq!(last.seen.reply.borrow().as_ref().unwrap().details, "oidc_gate_overloaded");
    let other = Exchange::new(&host, &instance);
    assert_eq!(other.request("GET", "/health", &[], true), Action::Continue, "others pass");
    requests[0].close();
    let next = Exchange::new(&host, &instance);
    assert_eq!(next.request("POST", LOGOUT, &[FORM], false), Action::Stop, "a place is free");
}

#[test]
fn rx11_requests_that_wait_at_once_have_a_limit() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let token = bearer();
    let waiting = |host, instance| {
        let request = Exchange::new(host, instance);
        request.request("GET", "/", &[("authorization", &token)], true);
        request
    };
    // The core limits how many requests wait for the provider, so these wait for bodies and for the revocation log.
    let cookie = session_cookie();
    let mut requests = Vec::new();
    for _ in 0..MAX_WAITING {
        let request = Exchange::new(&host, &instance);
        request.request("GET", "/", &[("cookie", &cookie)], true);
        assert_eq!(request.seen.status(), None);
        requests.push(request);
    }
    let one_more = waiting(&host, &instance);
    assert_eq!(one_more.seen.reply.borrow().as_ref().unwrap().details, "oidc_gate_overloaded");
    assert_eq!(one_more.seen.status(), Some(503));
    requests.pop().unwrap().close();
    assert_eq!(waiting(&host, &instance).seen.status(), None, "a place is free");
}

#[test]
fn a_callout_belongs_to_its_stream_and_its_answer_decides() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    let sent = asking(&host, &instance, &request);
    assert_eq!(sent.callout.cluster, "redis");
    request.answered(&sent, Err(CalloutError::Reset));
    host.run(&instance, Duration::from_secs(6));
    assert_eq!(request.seen.status(), Some(503), "{:#?}", host.log.borrow());
}

#[test]
fn a_stream_that_goes_while_its_callout_is_under_way_takes_its_task_with_it() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let mut request = Exchange::new(&host, &instance);
    let sent = asking(&host, &instance, &request);
    assert_eq!(instance.host.executor.waiting(), 1);
    request.close();
    assert_eq!(instance.host.executor.waiting(), 0, "its task is gone with it");
    // The host does not send such a reply; no task would receive it.
    host.in_context(Owner::Root, || {
        instance.answered(sent.token, Ok(CalloutReply { status: 200, ..CalloutReply::default() }));
    });
    host.run(&instance, Duration::from_secs(60));
    assert!(request.seen.reply.borrow().is_none() && request.seen.resumed.get() == 0);
    assert!(instance.done(), "no task is left");
}

#[test]
fn a_stream_that_goes_while_it_waits_for_a_job_takes_only_its_own_task_with_it() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let token = bearer();
    let (mut gone, stays) = (Exchange::new(&host, &instance), Exchange::new(&host, &instance));
    for request in [&gone, &stays] {
        request.request("GET", "/", &[("authorization", &token)], true);
    }
    gone.close();
    provide(&host, &instance);
    host.run(&instance, Duration::from_secs(6));
    assert!(gone.seen.resumed.get() == 0 && gone.seen.reply.borrow().is_none());
    assert_eq!(stays.seen.resumed.get(), 1, "{:#?}", host.log.borrow());
}

#[test]
fn hd04_identity_in_trailers_is_taken_out_and_other_trailers_stay() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    assert_eq!(request.request("GET", "/health", &[], false), Action::Continue);
    let trailers = [("cookie", "a=b"), ("x-user", "admin"), ("x_user", "admin"), ("x-checksum", "1")];
    assert_eq!(request.trailers(&trailers), Action::Continue);
    let seen = |name| request.seen.values(HeaderMap::RequestTrailers, name);
    assert!(seen("cookie").is_empty() && seen("x-user").is_empty() && seen("x_user").is_empty());
    assert_eq!(seen("x-checksum"), ["1"]);
}

#[test]
fn ck12_cookies_that_the_application_sets_in_our_name_are_taken_out() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.request("GET", "/health", &[], true);
    let ours = ("set-cookie", "__Host-oidc-gate=x; Path=/; Secure");
    let cookies = |headers: &[(&str, &str)]| {
        request.response(headers);
        request.seen.values(HeaderMap::ResponseHeaders, "set-cookie")
    };
    assert_eq!(cookies(&[("set-cookie", "a=1"), ours, ("set-cookie", "b=2")]), ["a=1", "b=2"]);
    assert_eq!(cookies(&[ours]), [""; 0]);
    assert_eq!(cookies(&[("set-cookie", "a=1")]), ["a=1"]);
    request.response(&[ours, ("content-type", "text/plain")]);
    assert_eq!(request.seen.values(HeaderMap::ResponseHeaders, "content-type"), ["text/plain"]);
}

#[test]
fn cookies_of_our_own_replies_stay() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    let request = Exchange::new(&host, &instance);
    request.request("POST", "/api", &[("authorization", "Basic eA==")], true);
    request.response(&[("set-cookie", "__Host-oidc-gate=; Max-Age=0")]);
    assert_eq!(request.seen.values(HeaderMap::ResponseHeaders, "set-cookie").len(), 1);
}
