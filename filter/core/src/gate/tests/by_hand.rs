//! What happens only when a person wants it: not ahead of time, and not because of what stands in a page.

use super::{API, TYPED, forwarded};
use crate::gate::Decision;
use crate::http::reply::Reply;
use crate::testing::world::{NAVIGATION, World, callback, header, replied};

const AHEAD: [(&str, &str); 5] = [
    ("sec-purpose", "prefetch"),
    ("sec-purpose", "prefetch;prerender"),
    ("purpose", "prefetch"),
    ("x-moz", "prefetch"),
    ("x-purpose", "preview"),
];
/// The headers of a navigation from this origin that no click caused.
fn without_click() -> Vec<(&'static str, &'static str)> {
    let mut headers = TYPED[..4].to_vec();
    headers[1].1 = "same-origin";
    headers
}

fn get_ahead(world: &World, target: &str, purpose: (&str, &str), site: &str) -> Reply {
    let mut headers = without_click();
    headers[1].1 = if site == "none" { "none" } else { "same-origin" };
    let headers = [&headers[..], &[purpose]].concat();
    let decision = world.browse("GET", target, &headers);
    let reply = replied(decision);
    assert_eq!(header(&reply, "cache-control"), Some("no-store"), "{target} {purpose:?}");
    assert_eq!(header(&reply, "set-cookie"), None, "{target} {purpose:?}");
    assert_eq!(header(&reply, "location"), None, "{target} {purpose:?}");
    reply
}

#[test]
fn f501_what_a_browser_loads_ahead_of_time_ends_nothing_and_the_click_that_follows_does() {
    let world = World::signed_in();
    for purpose in AHEAD {
        for site in ["same-origin", "none"] {
            for path in ["/oauth2/logout", "/oauth2/signed-out", "/oauth2/account", "/oauth2/login"] {
                let reply = get_ahead(&world, path, purpose, site);
                assert_eq!(reply.status, 503, "{path} {purpose:?}: no browser keeps it");
                assert!(reply.body.contains("ahead of time"), "{}", reply.body);
            }
        }
        forwarded(world.browse("GET", "/", API));
    }
    assert_eq!(replied(world.browse("GET", "/oauth2/logout", TYPED)).status, 303);
    assert_eq!(world.status(), 401);
}

#[test]
fn f501_a_page_loaded_ahead_of_time_starts_no_login_and_takes_no_ones_place() {
    let world = World::new();
    let request = world.begin_login("/deep");
    let cookies = world.cookies.borrow().clone();
    for purpose in AHEAD {
        for _ in 0..6 {
            let reply = get_ahead(&world, "/x", purpose, "none");
            assert_eq!(reply.status, 401, "{purpose:?}");
            assert!(
                reply.body.contains("/oauth2/login?rd=%2Fx"),
                "whoever sees it can sign in: {}",
                reply.body
            );
        }
    }
    assert_eq!(*world.cookies.borrow(), cookies);
    let reply = replied(world.finish_login(&request, "code"));
    assert_eq!((reply.status, header(&reply, "location")), (303, Some("/deep")));
    let ahead = world.browse("GET", "/x", &[NAVIGATION, &AHEAD[..1]].concat());
    assert!(matches!(ahead, Decision::Forward { .. }), "pages of the application may be loaded so");
}

#[test]
fn f501_a_callback_loaded_ahead_of_time_spends_no_code_and_works_afterwards() {
    let world = World::new();
    let request = world.begin_login("/deep");
    world.provider.id_token.borrow_mut()["nonce"] = request["nonce"].clone().into();
    for purpose in AHEAD {
        let reply = get_ahead(&world, &callback(&request["state"], "code"), purpose, "none");
        assert_eq!(reply.status, 503);
        assert!(reply.body.contains("href=\"\"") && !reply.body.contains("code="), "{}", reply.body);
    }
    assert!(world.provider.token_requests.borrow().is_empty() && world.redis.keys().is_empty());
    let reply = replied(world.finish_login(&request, "code"));
    assert_eq!((reply.status, header(&reply, "location")), (303, Some("/deep")));
}

#[test]
fn f1201_a_sign_out_that_nobody_clicked_on_asks_first() {
    let world = World::signed_in();
    // A refresh in a page, a bookmark that a browser opens by itself, a browser without `Sec-Fetch-User`.
    let refresh = without_click();
    // The same within seconds after a click or a key press on the page.
    let after_a_click = [without_click(), vec![("sec-fetch-user", "?1")]].concat();
    let plain = vec![("accept", "text/html")];
    for headers in [refresh, after_a_click, plain] {
        let reply = replied(world.browse("GET", "/oauth2/logout", &headers));
        assert_eq!(reply.status, 200, "{headers:?}");
        assert!(reply.body.contains("<form method=\"post\" action=\"/oauth2/logout\">"));
        forwarded(world.browse("GET", "/", API));
    }
    assert_eq!(world.sign_out().status, 303);
    assert_eq!(world.status(), 401);
}

#[test]
fn f1201_nothing_that_a_page_sends_by_itself_signs_anybody_out() {
    let world = World::signed_in();
    let from =
        |mode, dest| [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
    for target in ["/oauth2/logout", "/oauth2/account/sign-out?everywhere=true"] {
        for headers in [
            &from("no-cors", "empty")[..],
            &from("cors", "empty"),
            &from("same-origin", "empty"),
            &from("navigate", "iframe"),
            &from("navigate", "object"),
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "https://mlflow.example"), ("content-type", "text/ping")],
            &[("ping-to", "https://mlflow.example/oauth2/logout")],
        ] {
            assert_eq!(replied(world.browse("POST", target, headers)).status, 403, "{target} {headers:?}");
        }
        forwarded(world.browse("GET", "/", API));
    }
    for (mode, dest) in [("no-cors", "image"), ("navigate", "iframe"), ("cors", "empty")] {
        for path in ["/oauth2/logout", "/oauth2/login"] {
            let reply = replied(world.browse("GET", path, &from(mode, dest)));
            assert_eq!((reply.status, header(&reply, "set-cookie")), (403, None), "{path} {dest}");
        }
    }
    forwarded(world.browse("GET", "/", API));
}
