//! Loading a configuration, the probe, counters, and the end of an instance.

use std::rc::Rc;
use std::time::Duration;

use oidc_gate_core::host::{CalloutError, Host as _};
use serde_json::json;

use super::host::{Exchange, MemoryHost, Verdicts};
use super::provider::{answer, bearer, configuration, provide, serving};
use crate::context::Owner;
use crate::stream::Action;

#[test]
fn a_good_configuration_serves_and_its_work_begins_in_the_first_tick() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    assert!(instance.gate().is_some());
    assert!(host.take_sent().is_empty(), "an instance that only tries a configuration does nothing");
    assert_eq!(host.tick.get(), Some(Duration::ZERO));
    host.tick(&instance);
    let sent = host.take_sent();
    let clusters: Vec<_> = sent.iter().map(|sent| sent.callout.cluster.as_str()).collect();
    assert_eq!(clusters, ["keycloak", "redis"]);
    assert!(sent.iter().all(|sent| sent.owner == Owner::Root));
    assert!(host.counters.borrow().iter().any(|(name, _)| name.starts_with("oidc_gate_decisions_total.")));
}

#[test]
fn all_that_is_wrong_with_a_configuration_is_logged_and_no_request_passes() {
    let host = MemoryHost::new();
    let instance = host.instance();
    let mut configuration = configuration();
    configuration["public_url"] = json!("not a URL");
    configuration["sesion"] = json!({});
    assert!(!instance.configure(configuration.to_string().as_bytes()));
    assert!(instance.gate().is_none());
    assert!(
        host.logged("Error the configuration has 2 error(s) and is refused:"),
        "{:#?}",
        host.log.borrow()
    );
    assert!(host.logged("Error   "));
    assert_eq!(host.tick.get(), None, "there is nothing to do");
    assert!(host.counters.borrow().is_empty());
    let request = Exchange::new(&host, &instance);
    assert_eq!(request.request("GET", "/health", &[], true), Action::StopAllAndWatermark);
    let reply = request.seen.reply.take().unwrap();
    assert_eq!((reply.status, reply.details.as_str()), (503, "oidc_gate_overloaded"));
    assert_eq!(
        reply.headers,
        [("retry-after", "5"), ("cache-control", "no-store"), ("x-request-id", "r-1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn bytes_that_are_no_configuration_are_refused() {
    for bytes in [&b""[..], b"{", b"\xff\xff\xff", b"null", b"\x0a\x7f"] {
        let host = MemoryHost::new();
        assert!(!host.instance().configure(bytes), "{bytes:?}");
        assert!(host.logged("is refused"), "{bytes:?}");
    }
}

#[test]
fn a_secret_comes_from_the_environment() {
    let mut configuration = configuration();
    configuration["client"]["secret"] = json!({"env": "CLIENT_SECRET"});
    let host = MemoryHost::new();
    assert!(!host.instance().configure(configuration.to_string().as_bytes()));
    assert!(host.logged("CLIENT_SECRET"), "{:#?}", host.log.borrow());
    host.variables.borrow_mut().insert("CLIENT_SECRET".to_owned(), "from-the-environment".to_owned());
    assert!(host.instance().configure(configuration.to_string().as_bytes()), "{:#?}", host.log.borrow());
}

#[test]
fn a_host_whose_verdicts_are_wrong_is_refused_with_the_configuration() {
    for (verdicts, expected) in
        [(Verdicts::AlwaysGood, "accepted a bad signature"), (Verdicts::None, "cannot check it")]
    {
        let host = MemoryHost::new();
        host.verdicts.set(verdicts);
        let instance = host.instance();
        assert!(!instance.configure(configuration().to_string().as_bytes()), "{verdicts:?}");
        assert!(instance.gate().is_none());
        assert!(host.logged("Error RS256 can't be used in this Envoy: "), "{:#?}", host.log.borrow());
        assert!(host.logged(expected), "{:#?}", host.log.borrow());
        assert_eq!(host.tick.get(), None);
    }
}

#[test]
fn a_decision_is_counted() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    Exchange::new(&host, &instance).request("GET", "/health", &[], true);
    let counters = host.counters.borrow();
    let counted: Vec<_> = counters.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [&("oidc_gate_decisions_total.outcome.public.reason.none".to_owned(), 1)]);
}

#[test]
fn calls_that_can_not_be_sent_end_nothing() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    host.refuses_calls.set(Some(CalloutError::UnknownCluster));
    host.run(&instance, Duration::from_secs(3));
    let request = Exchange::new(&host, &instance);
    let token = bearer();
    request.request("GET", "/", &[("authorization", &token)], true);
    host.run(&instance, Duration::from_secs(60));
    assert_eq!(request.seen.status(), Some(503), "{:#?}", host.log.borrow());
}

#[test]
fn an_instance_that_is_replaced_goes_at_once_when_it_has_no_jobs() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    provide(&host, &instance);
    assert!(instance.done());
    host.run(&instance, Duration::from_secs(7200));
    let later = host.take_sent();
    assert!(later.is_empty(), "it takes no turn at fetching keys or reading the log");
    assert!(!host.is_done.get(), "the host knows already");
}

#[test]
fn an_instance_that_is_replaced_goes_when_its_jobs_are_done() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    provide(&host, &instance);
    let sleep = instance.host.sleep(Duration::from_millis(500));
    instance.host.spawn(sleep);
    assert!(!instance.done());
    host.tick(&instance);
    assert!(!host.is_done.get());
    host.run(&instance, Duration::from_secs(1));
    assert!(host.is_done.get(), "the host hears when the last job has ended");
}

#[test]
fn when_an_instance_goes_nothing_of_it_is_left() {
    let host = MemoryHost::new();
    let instance = serving(&host);
    host.tick(&instance);
    let sent = host.take_sent();
    drop(instance);
    assert_eq!(Rc::strong_count(&host), 1, "tasks and host no longer hold each other");
    let other = serving(&host);
    host.tick(&other);
    host.answer(&other, &sent[0], Ok(answer(&sent[0].callout)));
}
