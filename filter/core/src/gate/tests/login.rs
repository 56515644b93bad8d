//! Logins: from a navigation to the page that was wanted, and what may not change on the way.

use std::time::Duration;

use super::{API, forwarded, mlflow};
use crate::testing::world::{NAVIGATION, World, config, header, replied};

#[test]
fn a_login_lands_on_the_deep_link_that_started_it() {
    let world = World::new();
    assert_eq!(world.log_in("/experiments/7?view=a%2Fb"), "/experiments/7?view=a%2Fb");
    let permit = forwarded(world.navigate("/experiments/7"));
    assert_eq!(permit.subject(), Some("s-1"));
    let exchange = &world.provider.token_requests.borrow()[0];
    assert_eq!(exchange["grant_type"], "authorization_code");
    assert_eq!(exchange["redirect_uri"], "https://mlflow.example/oauth2/callback");
    let names: Vec<String> = world.cookies.borrow().keys().cloned().collect();
    assert_eq!(names, ["__Host-oidc-gate", "__Host-oidc-gate-attempts"], "the login cookie is gone");
}

#[test]
fn the_client_secret_is_form_encoded_before_it_is_sent() {
    let world = World::signed_in();
    let calls = world.host.calls();
    let token = calls.iter().find(|call| call.headers[1].1.ends_with("/token")).unwrap();
    let sent = token.headers.iter().find(|(name, _)| name == "authorization").unwrap();
    assert_eq!(sent.1, format!("Basic {}", crate::encoding::base64("mlflow:client-s3cret%2B%25")));
    assert!(token.headers.contains(&(":authority".into(), "idp.example".into())));
}

#[test]
fn az07_every_redirect_is_unique_and_carries_s256() {
    let world = World::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        world.cookies.borrow_mut().clear();
        let request = world.begin_login("/deep");
        for name in ["state", "nonce", "code_challenge"] {
            // A state with a return path begins with random characters, too.
            let random = request[name].get(..43).expect("256 bits");
            assert!(seen.insert(random.to_owned()), "{name}");
        }
        assert_eq!(request["code_challenge_method"], "S256");
        assert_eq!(request["response_type"], "code");
    }
}

#[test]
fn az04_az05_az08_nothing_of_the_request_reaches_the_authorization_request() {
    let world = World::new();
    // The browser was already redirected to the public address (F604).
    world.cookies.borrow_mut().insert("__Host-oidc-gate-redirected".into(), "1".into());
    let headers = [
        NAVIGATION,
        &[
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-prefix", "/evil"),
            ("forwarded", "host=evil.example"),
            ("x-original-url", "/evil"),
            ("x-rewrite-url", "/evil"),
        ],
    ]
    .concat();
    let target =
        "/x?client_id=evil&scope=admin&redirect_uri=https://evil.example&prompt=none&request_uri=urn:x";
    let reply = replied(world.browse("GET", target, &headers));
    let location = url::Url::parse(header(&reply, "location").unwrap()).unwrap();
    let mut names: Vec<String> = location.query_pairs().map(|(name, _)| name.into_owned()).collect();
    names.sort();
    let expected = [
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
    ];
    assert_eq!(names, expected);
    assert!(!header(&reply, "location").unwrap().contains("evil"));
    assert!(!reply.headers.iter().any(|(_, value)| value.contains("evil")), "{reply:?}");
}

#[test]
fn f604_a_login_begins_at_the_public_address_and_goes_on_where_host_is_changed_on_the_way() {
    let world = World::new();
    world.provider.down.set(true);
    for target in ["/experiments/7?view=a%2Fb", "/oauth2/login?rd=%2Fx"] {
        world.cookies.borrow_mut().clear();
        world.authority.set("www.mlflow.example");
        let reply = replied(world.navigate(target));
        assert_eq!(reply.status, 302, "the provider is not needed");
        assert_eq!(header(&reply, "location"), Some(format!("https://mlflow.example{target}").as_str()));
        assert_eq!(header(&reply, "cache-control"), Some("no-store"));
        let names: Vec<String> = world.cookies.borrow().keys().cloned().collect();
        assert_eq!(names, ["__Host-oidc-gate-redirected"], "no login has begun");
        assert_eq!(replied(world.navigate(target)).status, 503, "the second time it begins");
    }
    world.provider.down.set(false);
    world.host.advance(Duration::from_secs(5));
    assert_eq!(world.log_in("/deep"), "/deep", "a proxy in front changes Host");
    forwarded(world.navigate("/deep"));
    // Scripts, API clients and signed-in users are not redirected.
    assert_eq!(replied(world.send("GET", "/", API)).status, 401);
    world.cookies.borrow_mut().remove("__Host-oidc-gate-redirected");
    forwarded(world.navigate("/deep"));
}

#[test]
fn az10_only_navigations_are_redirected() {
    let world = World::new();
    type Case = (&'static str, &'static [(&'static str, &'static str)]);
    let cases: [Case; 6] = [
        ("POST", &[("accept", "text/html")]),
        ("DELETE", &[("accept", "text/html")]),
        ("GET", &[("accept", "application/json")]),
        ("GET", &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "text/html")]),
        ("GET", &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")]),
        ("GET", &[("accept", "text/html"), ("upgrade", "websocket")]),
    ];
    for (method, headers) in cases {
        let reply = replied(world.browse(method, "/", headers));
        assert_eq!(reply.status, 401, "{method} {headers:?}");
        assert_eq!(
            header(&reply, "www-authenticate"),
            Some("Bearer realm=\"oidc-gate\""),
            "BT14: no error code"
        );
        assert_eq!(header(&reply, "set-cookie"), None);
        assert!(reply.body.contains("\"error_code\":\"UNAUTHENTICATED\""));
    }
    let grpc = replied(world.browse("POST", "/", &[("content-type", "application/grpc")]));
    assert_eq!((grpc.status, grpc.grpc_status), (401, Some(16)));
}

#[test]
fn az11_a_browser_keeps_five_logins_and_redis_hears_of_none() {
    let world = World::new();
    for number in 0..50 {
        world.begin_login(&format!("/{number}"));
        world.host.advance(Duration::from_millis(10));
        let logins = world.cookies.borrow().keys().filter(|name| name.contains("-login-")).count();
        assert!(logins <= 5, "{logins}");
    }
    assert!(world.redis.keys().is_empty());
    assert!(world.redis.operations.get() == 0);
}

#[test]
fn az12_a_browser_that_keeps_coming_back_gets_a_page() {
    let world = World::new();
    for _ in 0..5 {
        world.log_in("/");
        world.redis.forget_everything();
        world.host.advance(Duration::from_secs(6));
    }
    let page = replied(world.navigate("/"));
    assert_eq!(page.status, 400);
    assert!(page.body.contains("Sign-in keeps coming back"));
    assert_eq!(replied(world.navigate("/")).status, 302, "the page begins to count anew");
}

#[test]
fn a_provider_that_is_not_there_is_waited_for_and_then_503() {
    let world = World::new();
    world.provider.down.set(true);
    let reply = replied(world.navigate("/"));
    assert_eq!((reply.status, header(&reply, "retry-after")), (503, Some("5")));
    world.provider.down.set(false);
    world.host.advance(Duration::from_secs(2));
    assert_eq!(replied(world.navigate("/")).status, 302);
}

#[test]
fn somebody_without_a_group_gets_the_page_that_says_so() {
    let world = World::new();
    world.provider.id_token.borrow_mut().as_object_mut().unwrap().remove("groups");
    world.log_in("/");
    let page = replied(world.navigate("/"));
    assert_eq!(page.status, 403);
    for text in ["mona", "mlflow_users", "mlflow_admins", "Sign out", "User is not allowed"] {
        assert!(page.body.contains(text), "{text}");
    }
    assert!(
        header(&page, "content-security-policy").unwrap().contains("form-action 'self' https://idp.example")
    );
}

#[test]
fn what_is_open_to_nobody_is_no_matter_of_groups() {
    let world = World::with(mlflow());
    world.log_in("/");
    let page = replied(world.navigate("/ajax-api/3.0/mlflow/assistant/sessions"));
    assert_eq!(page.status, 403);
    assert!(
        page.body.contains("nobody has access") && !page.body.contains("not in a group"),
        "{}",
        page.body
    );
}

#[test]
fn a_gate_without_login_offers_browsers_none() {
    let mut config = config();
    config.browser = None;
    let page = replied(World::with(config).navigate("/"));
    assert_eq!(page.status, 401);
    assert!(!page.body.contains("/oauth2/login"), "{}", page.body);
    assert!(
        page.body.contains("not signed in") && page.body.contains("Authorization header"),
        "{}",
        page.body
    );
}

#[test]
fn every_reply_is_private_and_leaks_nothing() {
    let world = World::signed_in();
    let replies = [
        world.send("GET", "/", NAVIGATION),
        world.send("GET", "/", API),
        world.send("GET", "/a/../b", API),
        world.send("GET", "/oauth2/signed-out", NAVIGATION),
        world.send("GET", "/", &[("authorization", "Bearer x")]),
    ];
    for decision in replies {
        let reply = replied(decision);
        assert_eq!(header(&reply, "cache-control"), Some("no-store"));
        assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&reply, "referrer-policy"), Some("no-referrer"));
    }
    let log = world.host.log_lines().join("\n");
    let ticket = world.cookies.borrow()["__Host-oidc-gate"].clone();
    for secret in ["client-s3cret", "redis-s3cret", "at-secret", "0123456789abcdef", ticket.as_str(), "code-"]
    {
        assert!(!log.contains(secret), "{secret}");
    }
}
