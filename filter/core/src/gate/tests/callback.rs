//! Callbacks: once only, of the right browser and provider, with an ID token that keeps every rule.

use std::time::Duration;

use serde_json::{Value, json};

use super::{API, forwarded};
use crate::config::Config;
use crate::host::{CalloutError, CalloutReply};
use crate::jose::algorithm::Algorithm;
use crate::jose::testing::sign;
use crate::testing::provider::{ISSUER, reply};
use crate::testing::world::{NAVIGATION, World, callback, config, header, replied};

#[test]
fn cb03_cb04_a_state_of_another_browser_is_refused_before_the_code_is_spent() {
    let (alice, mallory) = (World::new(), World::new());
    let own = alice.begin_login("/");
    // Both worlds draw the same random values, so only the second login of one is new to the other.
    mallory.begin_login("/");
    let stolen = mallory.begin_login("/");
    assert_ne!(own["state"], stolen["state"]);
    let reply = replied(alice.navigate(&callback(&stolen["state"], "code")));
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("Missing OAuth state"));
    assert!(alice.provider.token_requests.borrow().is_empty());
}

#[test]
fn cb06_a_callback_works_once_and_going_back_leads_to_a_safe_page() {
    let world = World::new();
    let request = world.begin_login("/");
    world.provider.id_token.borrow_mut()["nonce"] = request["nonce"].clone().into();
    let target = callback(&request["state"], "code-1");
    let cookies = world.cookies.borrow().clone();
    assert_eq!(replied(world.navigate(&target)).status, 303);
    let again = replied(world.navigate(&target));
    assert_eq!((again.status, header(&again, "location")), (303, Some("/")), "signed in: goes on");
    // The same with the login cookie still present: the flow is known to be used.
    *world.cookies.borrow_mut() = cookies;
    let replay = replied(world.navigate(&target));
    assert_eq!(replay.status, 400);
    assert!(replay.body.contains("already used"));
    assert_eq!(world.provider.token_requests.borrow().len(), 1);
}

/// A signed-in user who goes back while Redis is unavailable gets that answer, and not that a sign-in failed.
#[test]
fn cb06_ss04_going_back_while_redis_is_away_is_503() {
    let world = World::new();
    let request = world.begin_login("/");
    world.finish_login(&request, "code-1");
    let target = callback(&request["state"], "code-1");
    let other = world.other_worker().with_cookies_of(&world);
    other.redis.set_down(Some(CalloutError::Reset));
    let back = replied(other.navigate(&target));
    assert_eq!((back.status, header(&back, "retry-after").is_some()), (503, true), "{}", back.body);
    assert!(!back.body.contains("code-1"));
    other.redis.set_down(None);
    assert_eq!(replied(other.navigate(&target)).status, 303);
    other.cookies.borrow_mut().clear();
    assert_eq!(replied(other.navigate(&target)).status, 400, "nobody is signed in here");
}

#[test]
fn f603_a_login_that_this_browser_gave_up_still_knows_where_it_was_to_lead() {
    let world = World::new();
    let tabs: Vec<_> = (0..6)
        .map(|tab| {
            world.host.advance(Duration::from_millis(10));
            world.begin_login(&format!("/experiments/{tab}?view=a%2Fb&x=1"))
        })
        .collect();
    let page = replied(world.finish_login(&tabs[0], "code-0"));
    assert_eq!(page.status, 400);
    assert!(page.body.contains("Missing OAuth state"), "{}", page.body);
    let link = "/oauth2/login?rd=%2Fexperiments%2F0%3Fview%3Da%252Fb%26x%3D1";
    assert!(page.body.contains(&format!("href=\"{link}\"")), "{}", page.body);
    assert!(world.provider.token_requests.borrow().is_empty(), "no login follows from a path");
    // The button works.
    let again = world.begin_login(link);
    let end = replied(world.finish_login(&again, "code-again"));
    assert_eq!(header(&end, "location"), Some("/experiments/0?view=a%2Fb&x=1"));
    // A user who has signed in in another tab meanwhile goes on at once.
    let end = replied(world.finish_login(&tabs[1], "code-1"));
    assert_eq!((end.status, header(&end, "location")), (303, Some("/experiments/1?view=a%2Fb&x=1")));
    assert_eq!(world.provider.token_requests.borrow().len(), 1);
}

#[test]
fn f603_only_a_path_that_was_sealed_with_this_very_state_is_offered() {
    let world = World::new();
    let request = world.begin_login("/wanted");
    let (state, other) = (&request["state"], &world.begin_login("/other")["state"]);
    assert!(!state.contains("wanted") && state.len() > 43, "{state}");
    let mut long = World::new().begin_login(&format!("/{}", "a".repeat(600)))["state"].clone();
    assert_eq!(long.len(), 43, "a path that is too long for a state is left out");
    long.push_str(&"A".repeat(2000));
    let most = World::new().begin_login(&format!("/{}", "a".repeat(511)))["state"].clone();
    assert!((700..=1024).contains(&most.len()), "{}", most.len());
    world.cookies.borrow_mut().clear();
    let offered = |state: &str| {
        let page = replied(world.navigate(&callback(state, "c")));
        assert_eq!(page.status, 400, "{state}");
        let (_, link) = page.body.split_once("/oauth2/login?rd=").expect("a button");
        link.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(offered(state), "%2Fwanted");
    let mixed = format!("{}{}", &other[..43], &state[43..]);
    let mut forged =
        vec![mixed, state[..43].to_owned(), state[..60].to_owned(), format!("{state}AAAA"), long];
    forged.extend([format!("{}//evil.example", &state[..43]), "é".repeat(43), String::new()]);
    for index in 0..state.len() {
        let mut changed = state.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        forged.push(String::from_utf8(changed).unwrap());
    }
    for state in forged {
        assert_eq!(offered(&state), "%2F", "{state}");
    }
    // Another tenant with the same key.
    let mut config = config();
    config.client.id = "other".into();
    let elsewhere = World::with(config);
    let page = replied(elsewhere.navigate(&callback(state, "c")));
    assert!(page.body.contains("/oauth2/login?rd=%2F\""), "{}", page.body);
}

#[test]
fn f603_a_login_that_began_without_a_path_in_its_state_is_completed() {
    // A path that is too long for a state. Logins that an older version began look the same.
    let world = World::new();
    let path = format!("/{}", "a".repeat(1000));
    let request = world.begin_login(&path);
    assert_eq!(request["state"].len(), 43);
    let end = replied(world.finish_login(&request, "code-1"));
    assert_eq!(header(&end, "location"), Some(path.as_str()));
}

#[test]
fn cb07_after_its_time_a_login_begins_anew() {
    let world = World::new();
    let request = world.begin_login("/deep");
    world.host.advance(Duration::from_secs(601));
    let reply = replied(world.navigate(&callback(&request["state"], "code")));
    assert_eq!(reply.status, 302);
    assert!(header(&reply, "location").unwrap().starts_with("https://idp.example/"));
    assert!(world.provider.token_requests.borrow().is_empty());
}

#[test]
fn cb08_the_issuer_of_the_answer_must_be_the_one_that_was_asked() {
    for iss in [
        None,
        Some("https://evil.example"),
        Some("https://idp.example/realms/mlflow/"),
        Some("https://IDP.example/realms/mlflow"),
        Some("https://idp.example:443/realms/mlflow"),
        Some(""),
    ] {
        let world = World::new();
        let request = world.begin_login("/");
        let mut target = format!("/oauth2/callback?state={}&code=c", request["state"]);
        if let Some(iss) = iss {
            target.push_str(&format!("&iss={iss}"));
        }
        for target in [target.clone(), target.replace("code=c", "error=access_denied")] {
            let request = world.begin_login("/");
            let target =
                target.replace(&target[target.find("state=").unwrap() + 6..][..43], &request["state"]);
            let reply = replied(world.navigate(&target));
            assert_eq!(reply.status, 400, "{iss:?}");
            assert!(reply.body.contains("did not come from the expected identity provider"), "{iss:?}");
        }
        assert!(world.provider.token_requests.borrow().is_empty());
    }
}

#[test]
fn cb09_cb10_an_error_wins_and_tokens_in_the_query_are_never_used() {
    let world = World::new();
    let request = world.begin_login("/");
    let target = format!("{}&error=access_denied&id_token=x&response=y", callback(&request["state"], "c"));
    assert_eq!(replied(world.navigate(&target)).status, 403);
    assert!(world.provider.token_requests.borrow().is_empty());
    let token = format!("{}&access_token=x", callback("s", "c"));
    assert_eq!(replied(world.navigate(&token)).status, 400);
}

#[test]
fn cb11_the_callback_takes_get_only_and_each_parameter_once() {
    let world = World::new();
    let request = world.begin_login("/");
    let reply = replied(world.browse("POST", &callback(&request["state"], "c"), &[]));
    assert_eq!((reply.status, header(&reply, "allow")), (405, Some("GET")));
    for extra in ["&code=d", "&state=x", "&iss=x"] {
        let target = format!("{}{extra}", callback(&request["state"], "c"));
        assert_eq!(replied(world.navigate(&target)).status, 400, "{extra}");
    }
    assert!(world.provider.token_requests.borrow().is_empty());
}

#[test]
fn cb14_two_tabs_finish_their_logins_in_any_order() {
    let world = World::new();
    let first = world.begin_login("/first");
    let second = world.begin_login("/second");
    let reply = replied(world.finish_login(&second, "code-2"));
    assert_eq!(header(&reply, "location"), Some("/second"));
    let reply = replied(world.finish_login(&first, "code-1"));
    assert_eq!(header(&reply, "location"), Some("/first"));
    forwarded(world.navigate("/"));
}

#[test]
fn cb15_what_only_looks_like_the_callback_is_not_it_and_needs_a_login() {
    let world = World::new();
    let request = world.begin_login("/");
    for path in ["/callback/", "/callback;x=y", "/CALLBACK", "/callback%2f", "/%63allback", "//callback"] {
        let target = callback(&request["state"], "c").replace("/callback", path);
        assert_eq!(replied(world.browse("GET", &target, API)).status, 401, "{path}");
    }
    assert!(world.provider.token_requests.borrow().is_empty());
}

#[test]
fn it01_to_it28_an_id_token_that_breaks_a_rule_makes_no_session() {
    let now = World::new().now();
    // F406: made by somebody else, or for somebody else.
    let forged: Vec<(&str, Value)> = vec![
        ("iss+1", json!({"iss": format!("{ISSUER}1")})),
        ("aud+1", json!({"aud": "mlflow1"})),
        ("nonce+1", json!({"nonce": "x"})),
        ("no nonce", json!({"nonce": null})),
        ("azp", json!({"azp": "other"})),
        ("at_hash", json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})),
        ("access token", json!({"typ": "Bearer"})),
        ("logout token", json!({"typ": "Logout"})),
    ];
    // Errors that a provider, a clock or a configuration can cause.
    let wrong: Vec<(&str, Value)> = vec![
        ("no iss", json!({"iss": null})),
        ("no aud", json!({"aud": null})),
        ("iss list", json!({"iss": [ISSUER]})),
        ("foreign aud", json!({"aud": ["mlflow", "other"]})),
        ("no sub", json!({"sub": null})),
        ("sub number", json!({"sub": 123})),
        ("sub empty", json!({"sub": ""})),
        ("no iat", json!({"iat": null})),
        ("no exp", json!({"exp": null})),
        ("expired", json!({"exp": now - 360})),
        ("a week old", json!({"iat": now - 604_800})),
        ("from the future", json!({"iat": now + 3600})),
        ("exp text", json!({"exp": "9999999999"})),
        ("exp huge", json!({"exp": 1e300})),
        ("exp negative", json!({"exp": -1})),
        ("nbf text", json!({"nbf": "x"})),
        ("groups object", json!({"groups": {"mlflow_users": true}})),
        ("groups number", json!({"groups": 7})),
    ];
    let forged = forged.into_iter().map(|(what, changes)| (what, changes, 400, "login_forged_id_token"));
    let wrong = wrong.into_iter().map(|(what, changes)| (what, changes, 503, "login_id_token"));
    for (what, changes, status, reason) in forged.chain(wrong) {
        let world = World::new();
        let request = world.begin_login("/");
        let mut claims = world.provider.id_token.borrow().clone();
        claims["nonce"] = request["nonce"].clone().into();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let token = sign(Algorithm::Rs256, Some("rsa"), json!({"typ": "JWT"}), claims);
        *world.provider.raw_id_token.borrow_mut() = Some(token.clone());
        let page = replied(world.navigate(&callback(&request["state"], "code-1")));
        assert_eq!((page.status, header(&page, "retry-after")), (status, None), "{what}");
        assert!(world.host.log_lines().concat().contains(&format!("reason={reason} ")), "{what}");
        assert!(
            !page.body.contains(&token) && !page.body.contains("at-secret"),
            "{what}: no secret is shown"
        );
        assert!(!world.cookies.borrow().contains_key("__Host-oidc-gate"), "{what}");
        assert_eq!(world.sessions(), 0, "{what}");
        assert!(!world.host.log_lines().concat().contains("at-secret"), "{what}");
    }
}

#[test]
fn it17_it18_an_id_token_of_another_algorithm_or_key_makes_no_session() {
    type Forge = fn(Value) -> String;
    let forge: [(u16, Forge); 6] = [
        (503, |claims| sign(Algorithm::Es256, Some("p256"), json!({}), claims)),
        (503, |claims| sign(Algorithm::Rs256, Some("rsa"), json!({"alg": "PS256"}), claims)),
        (400, |claims| sign(Algorithm::Rs256, Some("rsa"), json!({"alg": "none"}), claims)),
        (400, |claims| sign(Algorithm::Rs256, Some("rsa"), json!({"alg": "HS256"}), claims)),
        (400, |claims| sign(Algorithm::Rs256, Some("nobody's"), json!({}), claims)),
        (400, |claims| format!("{}AAAA", sign(Algorithm::Rs256, Some("rsa"), json!({}), claims))),
    ];
    for (number, (status, forged)) in forge.into_iter().enumerate() {
        let world = World::new();
        let request = world.begin_login("/");
        let mut claims = world.provider.id_token.borrow().clone();
        claims["nonce"] = request["nonce"].clone().into();
        *world.provider.raw_id_token.borrow_mut() = Some(forged(claims));
        let page = replied(world.navigate(&callback(&request["state"], "code-1")));
        assert_eq!((page.status, header(&page, "retry-after")), (status, None), "{number}");
        assert!(!world.cookies.borrow().contains_key("__Host-oidc-gate"));
    }
}

#[test]
fn it21_a_token_endpoint_that_misbehaves_ends_in_a_page_and_nothing_else() {
    let status = |status| Ok(CalloutReply { status, ..CalloutReply::default() });
    let html = |status| {
        let headers = vec![("content-type".into(), b"text/html".to_vec())];
        Ok(CalloutReply { status, headers, body: b"{}".to_vec() })
    };
    let json = |status, body: Value| Ok(reply(status, &body));
    // Whether the problem passes by itself, or an administrator has to act (F402).
    let (passes, lasts, ours) = ((503, true), (503, false), (400, false));
    type Answer = Result<CalloutReply, CalloutError>;
    let answers: Vec<(&str, (u16, bool), Answer)> = vec![
        ("reset", passes, Err(CalloutError::Reset)),
        ("not sent", passes, Err(CalloutError::NotSent)),
        ("unknown cluster", lasts, Err(CalloutError::UnknownCluster)),
        ("timeout", passes, status(504)),
        ("204", lasts, status(204)),
        ("302", lasts, status(302)),
        ("307", lasts, status(307)),
        ("401", lasts, status(401)),
        ("403", lasts, html(403)),
        ("404", lasts, status(404)),
        ("405", lasts, status(405)),
        ("408", passes, status(408)),
        ("421", lasts, status(421)),
        ("425", passes, status(425)),
        ("429", passes, status(429)),
        ("500", passes, status(500)),
        ("html", lasts, html(200)),
        ("empty object", lasts, json(200, json!({}))),
        ("array", lasts, json(200, json!([]))),
        ("invalid_grant", ours, json(400, json!({"error": "invalid_grant"}))),
        ("invalid_grant with 403", ours, json(403, json!({"error": "invalid_grant"}))),
        ("unauthorized_client", lasts, json(401, json!({"error": "unauthorized_client"}))),
        ("server_error", passes, json(400, json!({"error": "server_error"}))),
    ];
    for (what, (status, passes), answer) in answers {
        let world = World::new();
        let request = world.begin_login("/deep");
        *world.provider.token_override.borrow_mut() = Some(Box::new(move || answer.clone()));
        let page = replied(world.navigate(&callback(&request["state"], "code-1")));
        assert_eq!(
            (page.status, header(&page, "retry-after").is_some()),
            (status, passes),
            "{what}: {page:?}"
        );
        let has_to_act = page.body.contains("An administrator has to act");
        assert_eq!(has_to_act, status == 503 && !passes, "{what}: {page:?}");
        let log = world.host.log_lines().concat();
        assert!(
            page.status == 400 || log.contains("token endpoint") || log.contains("login_"),
            "{what}: {log}"
        );
        assert!(world.cookies.borrow().is_empty(), "{what}: the login is over");
    }
}

#[test]
fn with_redis_down_a_callback_spends_nothing_and_works_when_it_is_back() {
    let world = World::new();
    let request = world.begin_login("/deep");
    world.provider.id_token.borrow_mut()["nonce"] = request["nonce"].clone().into();
    world.redis.set_down(Some(CalloutError::NotSent));
    let target = callback(&request["state"], "code-1");
    let page = replied(world.navigate(&target));
    assert_eq!((page.status, header(&page, "retry-after")), (503, Some("5")));
    assert!(!page.body.contains("code-1"), "O4");
    assert!(world.provider.token_requests.borrow().is_empty());
    world.redis.set_down(None);
    assert_eq!(header(&replied(world.navigate(&target)), "location"), Some("/deep"));
}

#[test]
fn ck05_ck07_no_changed_or_misplaced_cookie_opens_anything() {
    let world = World::new();
    let request = world.begin_login("/");
    let (name, value) = world.cookies.borrow().iter().next().map(|(n, v)| (n.clone(), v.clone())).unwrap();
    let attempt = |name: &str, value: &str| {
        let cookie = format!("{name}={value}");
        let headers = [NAVIGATION, &[("cookie", cookie.as_str())]].concat();
        let reply = replied(world.send("GET", &callback(&request["state"], "c"), &headers));
        (reply.status, reply.body.replace(char::is_whitespace, ""))
    };
    let expected = attempt(&name, "");
    assert_eq!(expected.0, 400);
    for index in 0..value.len() {
        let mut changed = value.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        assert_eq!(attempt(&name, std::str::from_utf8(&changed).unwrap()), expected, "changed at {index}");
        assert_eq!(attempt(&name, &value[..index]), expected, "cut at {index}");
    }
    assert_eq!(attempt(&name, &format!("{value}AAAA")), expected);
    assert_eq!(attempt("__Host-oidc-gate", &value), expected, "in the session's place");
    let other = name.replace(&request["state"][..8], "AAAAAAAA");
    assert_eq!(attempt(&other, &value), expected, "under another flow's name");
    assert!(world.provider.token_requests.borrow().is_empty());
}

#[test]
fn cb16_ss12_another_tenant_with_the_same_key_opens_nothing() {
    type Change = fn(&mut Config);
    let changes: [Change; 3] = [
        |config| config.public_url.origin = "https://other.example".into(),
        |config| config.client.id = "other".into(),
        |config| config.browser.as_mut().unwrap().session.redis.prefix = "other".into(),
    ];
    for change in changes {
        let one = World::new();
        let request = one.begin_login("/");
        let mut config = config();
        change(&mut config);
        let other = World::with(config);
        *other.cookies.borrow_mut() = one.cookies.borrow().clone();
        assert_eq!(replied(other.navigate(&callback(&request["state"], "c"))).status, 400);
        assert!(other.provider.token_requests.borrow().is_empty());
    }
}
