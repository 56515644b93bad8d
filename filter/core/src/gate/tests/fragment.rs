//! The fragment of the address, kept over a login; and the script of MLflow's page.

use std::time::Duration;

use super::{API, forwarded, mlflow};
use crate::config::Config;
use crate::http::reply::Reply;
use crate::testing::world::{NAVIGATION, World, callback, header, replied};

fn keeping() -> World {
    World::changed(keep)
}

fn keep(config: &mut Config) {
    config.browser.as_mut().unwrap().login.keep_fragment = true;
}

/// Where a browser without scripts goes from this page.
fn without_script(page: &Reply) -> String {
    let (_, rest) = page.body.split_once("<noscript><meta http-equiv=\"refresh\" content=\"0; url=").unwrap();
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

#[test]
fn a_navigation_gets_a_page_whose_script_begins_the_login() {
    let world = keeping();
    let page = replied(world.navigate("/x?a=%22&b=c"));
    assert_eq!(page.status, 401);
    assert_eq!(header(&page, "www-authenticate"), Some("Bearer realm=\"oidc-gate\""));
    assert_eq!(header(&page, "cache-control"), Some("no-store"));
    assert_eq!(header(&page, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&page, "x-frame-options"), Some("DENY"));
    let policy = header(&page, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';") && policy.contains("script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(header(&page, "set-cookie"), None, "no login has begun");
    assert_eq!(header(&page, "location"), None);
    assert!(world.cookies.borrow().is_empty() && world.redis.operations.get() == 0);
    let log = world.host.log_lines().join("\n");
    assert!(log.contains("status=401 reason=no_credential"), "{log}");
}

#[test]
fn the_login_leads_to_the_fragment() {
    let world = keeping();
    // What the script makes of /?x=1#/compare-runs?runs=["a"] in a browser.
    let rd = "%2F%3Fx%3D1%23%2Fcompare-runs%3Fruns%3D%5B%2522a%2522%5D";
    let landed = world.log_in(&format!("/oauth2/login?rd={rd}"));
    assert_eq!(landed, "/?x=1#/compare-runs?runs=[%22a%22]");
    forwarded(world.navigate("/?x=1"));
    // The longest one.
    let long = format!("/#{}", "a".repeat(2046));
    assert_eq!(world.log_in(&format!("/oauth2/login?rd=%2F%23{}", "a".repeat(2046))), long);
    assert_eq!(world.log_in(&format!("/oauth2/login?rd=%2F%23{}", "a".repeat(2047))), "/");
}

#[test]
fn a_fragment_survives_a_lost_login_cookie() {
    let world = keeping();
    let request = world.begin_login("/oauth2/login?rd=%2F%23%2Fexperiments%2F1");
    world.cookies.borrow_mut().clear();
    let page = replied(world.navigate(&callback(&request["state"], "code-1")));
    assert!(page.body.contains("/oauth2/login?rd=%2F%23%2Fexperiments%2F1"), "{}", page.body);
}

#[test]
fn without_scripts_everything_works_as_without_the_page() {
    let world = keeping();
    let target = "/x?a=%22&b='c'&d=<script>";
    let page = replied(world.navigate(target));
    assert!(page.body.matches("<script").count() == 1 && !page.body.contains("d=<"), "{}", page.body);
    assert_eq!(world.log_in(&without_script(&page)), target);
}

#[test]
fn whoever_may_be_no_browser_gets_the_redirect() {
    let world = keeping();
    const HTML: (&str, &str) = ("accept", "text/html");
    type Case = (&'static str, &'static [(&'static str, &'static str)]);
    let redirected: [Case; 4] = [
        ("HEAD", NAVIGATION),
        ("GET", &[HTML]),
        ("GET", &[("sec-fetch-mode", "navigate"), HTML]),
        ("GET", &[("sec-fetch-dest", "document")]),
    ];
    for (method, headers) in redirected {
        assert_eq!(replied(world.send(method, "/x", headers)).status, 302, "{method} {headers:?}");
    }
    let ahead = [NAVIGATION, &[("sec-purpose", "prefetch")]].concat();
    for reply in
        [world.send("GET", "/x", &ahead), world.send("GET", "/x", API), world.send("POST", "/x", NAVIGATION)]
    {
        let reply = replied(reply);
        assert!(reply.status == 401 && !reply.body.contains("<script"), "{reply:?}");
    }
}

#[test]
fn a_path_that_cannot_be_kept_and_pages_of_the_gate_get_the_redirect() {
    let world = keeping();
    let long = format!("/{}", "a".repeat(2048));
    for target in [long.as_str(), "//x", "/oauth2/account", "/oauth2/login", "/oauth2/unknown"] {
        assert_eq!(replied(world.navigate(target)).status, 302, "{target}");
    }
    assert_eq!(replied(world.navigate(&format!("/{}", "a".repeat(2047)))).status, 401);
}

#[test]
fn f604_the_public_address_comes_first() {
    let world = keeping();
    world.authority.set("www.mlflow.example");
    let reply = replied(world.navigate("/x"));
    assert_eq!((reply.status, header(&reply, "location")), (302, Some("https://mlflow.example/x")));
    assert_eq!(replied(world.navigate("/x")).status, 401, "a browser keeps the fragment over that redirect");
}

#[test]
fn what_needs_no_login_stays_as_it_is() {
    let mut config = mlflow();
    keep(&mut config);
    let world = World::with(config);
    forwarded(world.navigate("/health"));
    world.log_in("/oauth2/login?rd=%2F");
    forwarded(world.navigate("/"));
}

#[test]
fn az12_a_browser_that_keeps_coming_back_gets_the_page_that_says_so() {
    let world = keeping();
    for _ in 0..5 {
        world.log_in("/oauth2/login?rd=%2F");
        world.redis.forget_everything();
        world.host.advance(Duration::from_secs(6));
    }
    let page = replied(world.navigate("/"));
    assert_eq!(page.status, 400);
    assert!(page.body.contains("Sign-in keeps coming back"));
}

#[test]
fn trying_again_leads_to_the_fragment() {
    let world = keeping();
    world.provider.down.set(true);
    assert_eq!(replied(world.navigate("/")).status, 503, "no page promises a login");
    let page = replied(world.navigate("/oauth2/login?rd=%2F%23%2Fmodels"));
    assert_eq!(page.status, 503);
    assert!(page.body.contains("href=\"/#/models\""), "{}", page.body);
}

#[test]
fn mlflows_page_gets_its_script_without_a_session() {
    let world = World::with(mlflow());
    let ahead = [API, &[("sec-purpose", "prefetch")]].concat();
    for (method, headers) in [("GET", API), ("HEAD", API), ("GET", &ahead)] {
        let reply = replied(world.send(method, "/oauth2/mlflow.js", headers));
        assert_eq!(reply.status, 200);
        assert_eq!(header(&reply, "content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(header(&reply, "cache-control"), Some("no-cache"));
        assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&reply, "cross-origin-resource-policy"), Some("same-origin"));
        assert!(reply.body.contains("'use strict'") && reply.body.len() < 8192);
        assert!(!reply.body.contains("innerHTML"));
    }
    let reply = replied(world.send("GET", "/oauth2/mlflow.js", API));
    let tag = header(&reply, "etag").unwrap();
    for known in [tag, "*", &format!("\"x\", W/{tag}")] {
        let again = replied(world.send("GET", "/oauth2/mlflow.js", &[("if-none-match", known)]));
        assert_eq!((again.status, header(&again, "etag"), again.body.as_str()), (304, Some(tag), ""));
    }
    assert_eq!(replied(world.send("GET", "/oauth2/mlflow.js", &[("if-none-match", "\"x\"")])).status, 200);
    assert_eq!(replied(world.send("POST", "/oauth2/mlflow.js", API)).status, 405);
}

#[test]
fn without_the_preset_there_is_no_such_script() {
    assert_eq!(replied(World::new().send("GET", "/oauth2/mlflow.js", API)).status, 401);
    assert_eq!(replied(World::signed_in().browse("GET", "/oauth2/mlflow.js", API)).status, 404);
    let mut config = mlflow();
    config.browser = None;
    assert_eq!(replied(World::with(config).send("GET", "/oauth2/mlflow.js", API)).status, 401);
}
