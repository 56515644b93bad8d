//! The account page, sign-out of one session and of all, and where sign-out leads.

use serde_json::json;

use super::{API, OWN_FORM, forwarded};
use crate::testing::world::{World, config, header, replied};

/// Two sessions of one user: one in the world's cookies, the other in the returned cookies.
fn twice() -> (World, std::collections::BTreeMap<String, String>) {
    let world = World::signed_in();
    let first = world.cookies.take();
    world.log_in("/");
    (world, first)
}

fn other_name(page: &str) -> String {
    let (_, rest) = page.split_once("/oauth2/account/sign-out?session=").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn the_page_shows_who_is_in_where_and_until_when_and_no_token() {
    let (world, _) = twice();
    let reply = replied(world.navigate("/oauth2/account"));
    assert_eq!((reply.status, header(&reply, "cache-control")), (200, Some("no-store")));
    for expected in
        ["mona", "/mlflow_users", "2026-01-01 00:00 UTC", "2026-01-01 12:00 UTC", "Sign out everywhere"]
    {
        assert!(reply.body.contains(expected), "{expected}: {}", reply.body);
    }
    assert_eq!(reply.body.matches("account/sign-out?session=").count(), 1, "the other one");
    for secret in ["refresh-secret", "at-secret", "eyJ"] {
        assert!(!reply.body.contains(secret), "cf03: {secret}");
    }
    assert!(!reply.body.contains("<script"));
    assert_eq!(replied(world.send("GET", "/oauth2/account", API)).status, 401);
    assert_eq!(replied(world.browse("POST", "/oauth2/account", OWN_FORM)).status, 405);
}

/// The headers of `<a ping>`, which users can write into the application's pages.
const PING: &[(&str, &str)] =
    &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty")];

#[test]
fn one_of_the_other_sessions_can_be_ended() {
    let (world, first) = twice();
    let name = other_name(&replied(world.navigate("/oauth2/account")).body);
    let target = format!("/oauth2/account/sign-out?session={name}");
    for (method, headers) in [
        ("POST", &[("sec-fetch-site", "cross-site")][..]),
        ("POST", &[("origin", "https://evil")]),
        ("POST", PING),
    ] {
        assert_eq!(replied(world.browse(method, &target, headers)).status, 403, "ck15");
    }
    assert_eq!(replied(world.browse("GET", &target, OWN_FORM)).status, 405);
    let reply = replied(world.browse("POST", &target, OWN_FORM));
    assert_eq!((reply.status, header(&reply, "location")), (303, Some("/oauth2/account")));
    forwarded(world.navigate("/"));
    let second = world.cookies.replace(first);
    assert_eq!(world.status(), 401);
    world.cookies.replace(second);
    assert!(replied(world.navigate("/oauth2/account")).body.contains("You have no other sessions"));
}

/// This holds for any number of sessions, including expired ones that are still listed.
#[test]
fn the_page_shows_sessions_that_live_and_says_how_many_more_there_are() {
    let world = World::new();
    let log_in = || {
        world.cookies.take();
        world.provider.id_token.borrow_mut()["iat"] = world.now().into();
        world.log_in("/");
        world.host.advance(std::time::Duration::from_secs(1));
    };
    let page = || replied(world.navigate("/oauth2/account")).body;
    log_in();
    let oldest = world.cookies.borrow().clone();
    for _ in 0..30 {
        log_in();
    }
    let mut shown = page();
    assert_eq!(shown.matches("account/sign-out?session=").count(), 20);
    assert!(shown.contains("And 10 more"), "{shown}");
    // A screen reader can tell the buttons apart.
    let labels: std::collections::BTreeSet<_> =
        shown.split("aria-label=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(labels.len(), 20, "{labels:?}");
    // End the twenty shown sessions one by one: others take their place.
    for _ in 0..20 {
        let target = format!("/oauth2/account/sign-out?session={}", other_name(&shown));
        assert_eq!(replied(world.browse("POST", &target, OWN_FORM)).status, 303);
        shown = page();
    }
    assert_eq!(shown.matches("account/sign-out?session=").count(), 10, "{shown}");
    assert!(!shown.contains("more (older)"));
    let own = world.cookies.replace(oldest);
    forwarded(world.navigate("/"));
    // Ended sessions that are older than a minute are removed from the list and not looked up again.
    world.cookies.replace(own);
    world.host.advance(std::time::Duration::from_secs(61));
    page();
    world.host.run_jobs();
    let before = world.host.calls().len();
    page();
    let asked: Vec<_> = world.host.calls()[before..]
        .iter()
        .map(|call| String::from_utf8_lossy(&call.body).matches("\r\nidle\r\n").count())
        .collect();
    assert_eq!(asked.iter().sum::<usize>(), 10, "{asked:?}");
}

/// Each refresh moves the expiry of the refresh token, and the session goes on.
#[test]
fn the_page_says_when_a_session_ends_at_the_latest_also_where_its_refresh_token_ends_sooner() {
    let world = World::signed_in();
    world.host.advance(std::time::Duration::from_secs(301));
    let (provider, now) = (world.provider.clone(), world.now());
    *world.provider.token_override.borrow_mut() = Some(Box::new(move || {
        Ok(provider.refreshed_at(now, json!({"refresh_token": "r", "refresh_expires_in": 1800})))
    }));
    let page = replied(world.navigate("/oauth2/account")).body;
    assert!(
        page.contains("2026-01-01 12:00 UTC") && page.contains("2026-01-01 00:35 UTC</time> if unused"),
        "{page}"
    );
}

/// A user who has to sign in for the page, or presses one of its buttons too late, returns to it.
#[test]
fn whoever_has_to_sign_in_for_the_page_comes_back_to_it() {
    let world = World::new();
    assert_eq!(world.log_in("/oauth2/account"), "/oauth2/account");
    world.redis.forget_everything();
    world.host.advance(std::time::Duration::from_secs(6));
    let late = replied(world.browse(
        "POST",
        "/oauth2/account/sign-out?everywhere=true",
        &[
            OWN_FORM[0],
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("accept", "text/html"),
        ],
    ));
    assert_eq!(late.status, 401);
    assert!(late.body.contains("no longer signed in, so nothing was done"), "{}", late.body);
    assert!(late.body.contains("/oauth2/login?rd=%2Foauth2%2Faccount"), "{}", late.body);
}

#[test]
fn nobody_ends_the_sessions_of_others() {
    let (world, _) = twice();
    let name = other_name(&replied(world.navigate("/oauth2/account")).body);
    world.cookies.take();
    world.provider.id_token.borrow_mut()["sub"] = "s-2".into();
    world.log_in("/");
    let target = format!("/oauth2/account/sign-out?session={name}");
    assert_eq!(replied(world.browse("POST", &target, OWN_FORM)).status, 404);
    for wrong in [
        "",
        "?session=*",
        "?session=a",
        "?everywhere=1",
        "?session=a&session=b",
        "?everywhere=true&session=a",
    ] {
        let target = format!("/oauth2/account/sign-out{wrong}");
        assert_eq!(replied(world.browse("POST", &target, OWN_FORM)).status, 400, "{wrong}");
    }
    forwarded(world.navigate("/"));
}

#[test]
fn signing_out_everywhere_ends_all_sessions_and_leads_to_the_provider() {
    let (world, first) = twice();
    let second = world.cookies.borrow().clone();
    let reply = replied(world.browse("POST", "/oauth2/account/sign-out?everywhere=true", OWN_FORM));
    assert_eq!(reply.status, 303);
    assert!(header(&reply, "location").unwrap().contains("/protocol/openid-connect/logout?id_token_hint="));
    for cookies in [first, second] {
        world.cookies.replace(cookies);
        assert_eq!(world.status(), 401);
    }
    world.cookies.take();
    world.log_in("/");
    forwarded(world.navigate("/"));
}

/// `iat` is by the provider's clock, in whole seconds.
#[test]
fn signing_out_everywhere_goes_by_the_providers_clock() {
    for ahead in [0, 30] {
        let world = World::new();
        let clock = || world.now() - ahead;
        world.host.advance(std::time::Duration::from_millis(900));
        world.provider.id_token.borrow_mut()["iat"] = clock().into();
        world.log_in("/");
        world.host.advance(std::time::Duration::from_millis(500));
        let token = world.provider.access_token(clock(), json!({"exp": world.now() + 300}));
        let bearer = || world.present(&token);
        forwarded(bearer());
        world.host.advance(std::time::Duration::from_millis(650));
        let reply = replied(world.browse("POST", "/oauth2/account/sign-out?everywhere=true", OWN_FORM));
        assert_eq!(reply.status, 303, "{reply:?}");
        assert_eq!(replied(bearer()).status, 401, "what was issued before, with a clock {ahead} s ahead");
        world.host.advance(std::time::Duration::from_secs(1));
        world.provider.id_token.borrow_mut()["iat"] = clock().into();
        world.log_in("/");
        forwarded(world.navigate("/"));
    }
}

/// Found by the simulator (seed 811): the provider's clock was ahead, and Redis had lost the index of sessions.
#[test]
fn signing_out_everywhere_ends_ones_own_session_also_when_it_is_not_listed() {
    let world = World::new();
    world.provider.id_token.borrow_mut()["iat"] = (world.now() + 20).into();
    world.log_in("/");
    world.redis.forget_everything();
    let cookies = world.cookies.borrow().clone();
    forwarded(world.browse("GET", "/", API));
    let reply = replied(world.browse("POST", "/oauth2/account/sign-out?everywhere=true", OWN_FORM));
    assert_eq!(reply.status, 303, "{reply:?}");
    world.cookies.replace(cookies);
    assert_eq!(world.status(), 401);
}

#[test]
fn lo16_sign_out_leads_to_configured_addresses_and_nowhere_else() {
    let mut config = config();
    let allowed = "https://portal.example/bye?a=b";
    config.browser.as_mut().unwrap().login.logout_return_urls =
        vec!["https://other.example/".into(), allowed.into()];
    let world = World::with(config);
    let sign_out = |rd: &str| {
        world.log_in("/");
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("rd", rd).finish();
        let reply = replied(world.browse("POST", &format!("/oauth2/logout?{query}"), OWN_FORM));
        let location = url::Url::parse(header(&reply, "location").unwrap()).unwrap();
        let query: std::collections::BTreeMap<_, _> = location.query_pairs().into_owned().collect();
        assert_eq!(query["post_logout_redirect_uri"], "https://mlflow.example/oauth2/signed-out");
        replied(world.navigate(&format!("/oauth2/signed-out?state={}", query["state"])))
    };
    let back = sign_out(allowed);
    assert_eq!((back.status, header(&back, "location")), (303, Some(allowed)));
    for other in ["https://portal.example/bye", "https://evil.example/", "//evil.example", "/x", "", "1"] {
        assert_eq!(sign_out(other).status, 200, "{other}");
    }
    for forged in ["x.1", ".1", "x.99", "x.-1", "1"] {
        let reply = replied(world.navigate(&format!("/oauth2/signed-out?state={forged}")));
        assert_eq!((reply.status, header(&reply, "location")), (200, None), "{forged}");
    }
}

#[test]
fn where_the_provider_has_no_end_session_the_refresh_token_is_revoked() {
    let world = World::new();
    world.provider.metadata.borrow_mut()["end_session_endpoint"] = json!(null);
    world.log_in("/");
    let reply = world.sign_out();
    assert_eq!((reply.status, header(&reply, "location")), (303, Some("/oauth2/signed-out")));
    world.sleep(std::time::Duration::from_millis(50));
    assert_eq!(*world.provider.revoked.borrow(), ["refresh-secret-1"]);

    let world = World::signed_in();
    world.redis.set_down(Some(crate::host::CalloutError::Reset));
    let reply = world.sign_out();
    assert_eq!((reply.status, header(&reply, "retry-after")), (503, Some("5")), "ss06");
    assert!(reply.body.contains("not signed out yet") && reply.body.contains("href=\"/oauth2/logout\""));
    world.redis.set_down(None);
    world.browse("POST", "/oauth2/logout", OWN_FORM);
    world.sleep(std::time::Duration::from_millis(50));
    assert!(world.provider.revoked.borrow().is_empty(), "end_session does it");
}
