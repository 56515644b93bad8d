//! Claims that decide, and claims that only give or describe: the first are strict, the others keep nobody out.

use std::time::Duration;

use serde_json::{Value, json};

use super::back_channel::logout;
use super::{API, forwarded, log_in, said, upstream};
use crate::config::{Config, GroupsFormat};
use crate::gate::Decision;
use crate::testing::world::{NAVIGATION, World, config, replied};

/// Presents a bearer token with these members, null included.
fn present(world: &World, members: &Value) -> Decision {
    let now = world.now();
    let mut claims = json!({
        "iss": crate::testing::provider::ISSUER, "sub": "s-1", "aud": "mlflow", "typ": "Bearer", "iat": now,
        "exp": now + 300, "groups": ["/mlflow_users"],
    });
    claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let token = world.provider.signed(claims);
    world.send("GET", "/api", &[("authorization", &format!("Bearer {token}"))])
}

fn with_format(format: GroupsFormat) -> Config {
    let mut config = config();
    config.groups.format = format;
    config
}

#[test]
fn f101_a_single_group_may_be_one_text_at_login_at_refresh_and_as_bearer() {
    for (groups, allowed) in [
        ("mlflow_users", true),
        ("/mlflow_admins", true),
        ("mlflow_users ", false),
        ("x mlflow_users", false),
        ("x,mlflow_users", false),
        ("[\"mlflow_users\"]", false),
        ("", false),
    ] {
        let members = json!({ "groups": groups });
        let world = World::new();
        assert_eq!(log_in(&world, &members).status, 303, "{groups:?}");
        let check = |decision: Decision| match allowed {
            true => drop(forwarded(decision)),
            false => assert_eq!(replied(decision).status, 403, "{groups:?}"),
        };
        check(world.browse("GET", "/", API));
        *world.provider.refreshed.borrow_mut() = members.clone();
        world.host.advance(Duration::from_secs(301));
        check(world.browse("GET", "/", API));
        assert_eq!(world.provider.refreshes(), 1);
        check(present(&world, &members));
    }
}

#[test]
fn f102_null_is_not_there() {
    let world = World::new();
    let null = json!({
        "groups": null, "email": null, "name": null, "preferred_username": null, "sid": null, "azp": null,
        "auth_time": null, "nbf": null, "at_hash": null, "typ": null, "client_id": null,
    });
    assert_eq!(log_in(&world, &null).status, 303, "{:#?}", world.host.log_lines());
    let page = replied(world.navigate("/"));
    assert_eq!(page.status, 403, "no groups");
    assert!(page.body.contains("<dd>none") && page.body.contains("s-1"), "{}", page.body);
    assert!(!said(&world, "is ignored"), "null is nothing to speak of");
    assert_eq!(replied(present(&world, &json!({"groups": null}))).status, 403);
    let described =
        json!({"email": null, "name": null, "preferred_username": null, "sid": null, "nbf": null});
    assert_eq!(upstream(present(&world, &described), "x-forwarded-email"), None);
}

#[test]
fn f102_what_only_describes_is_left_out_where_it_cannot_be_used() {
    for odd in [json!(""), json!(7), json!(["a"]), json!({"a": 1}), json!(true)] {
        let world = World::new();
        let members = json!({
            "preferred_username": odd, "name": odd, "email": odd, "sid": odd, "azp": odd, "auth_time": odd,
        });
        assert_eq!(log_in(&world, &members).status, 303, "{odd}: {:#?}", world.host.log_lines());
        let page = world.navigate("/");
        assert_eq!(upstream(page, "x-forwarded-preferred-username"), None, "{odd}");
        assert!(said(&world, "claim sid is ignored"), "{odd}: {:#?}", world.host.log_lines());
        assert!(said(&world, "the provider can log out this session by sub only"), "{odd}");
        // A refresh accepts it like a login, and the session ends with the others of its user.
        *world.provider.refreshed.borrow_mut() = members.clone();
        world.host.advance(Duration::from_secs(301));
        assert_eq!(upstream(world.navigate("/"), "x-forwarded-user").as_deref(), Some("s-1"), "{odd}");
        assert_eq!(upstream(present(&world, &members), "x-forwarded-email"), None, "{odd}");
        world.host.advance(Duration::from_secs(1));
        let reply = logout(&world, json!({"sid": null}));
        assert_eq!(reply.status, 200, "{odd}: {reply:?}");
        assert_eq!(world.status(), 401, "{odd}");
    }
}

#[test]
fn f102_a_claim_that_decides_is_still_refused_when_it_is_null_or_of_another_type() {
    for name in ["iss", "sub", "aud", "exp", "iat", "nonce"] {
        for wrong in [json!(null), json!(true), json!([1]), json!({})] {
            let world = World::new();
            let reply = log_in(&world, &json!({ name: wrong }));
            // F406: without a nonce it does not belong to this login.
            let expected = if name == "nonce" && wrong.is_null() { 400 } else { 503 };
            assert_eq!(reply.status, expected, "{name}: {wrong}");
            assert!(!world.cookies.borrow().contains_key("__Host-oidc-gate"), "{name}: {wrong}");
        }
    }
    let world = World::new();
    for name in ["iss", "sub", "aud", "exp"] {
        for wrong in [json!(null), json!(true), json!([1]), json!({})] {
            assert_eq!(replied(present(&world, &json!({ name: wrong }))).status, 401, "{name}: {wrong}");
        }
    }
    for (name, wrong) in [("nbf", json!("1")), ("iat", json!("1")), ("cnf", json!(null)), ("typ", json!(1))] {
        assert_eq!(replied(present(&world, &json!({ name: wrong }))).status, 401, "{name}: {wrong}");
    }
    // The name of another client is refused; it is not an odd form of ours.
    assert_eq!(log_in(&World::new(), &json!({"azp": "other"})).status, 400);
}

#[test]
fn f102_what_is_null_in_userinfo_leaves_what_the_id_token_says() {
    let world = World::changed(|config| config.browser.as_mut().unwrap().login.userinfo = true);
    *world.provider.userinfo.borrow_mut() = json!({"sub": "s-1", "groups": null, "preferred_username": null, "email": "mona@example.com", "name": 7});
    assert_eq!(log_in(&world, &json!({})).status, 303);
    let permit = world.navigate("/");
    assert_eq!(upstream(permit, "x-forwarded-preferred-username").as_deref(), Some("mona"));
    *world.provider.userinfo.borrow_mut() = json!({"sub": "s-1", "groups": "mlflow_admins"});
    world.host.advance(Duration::from_secs(301));
    let permit = world.navigate("/");
    assert_eq!(upstream(permit, "x-forwarded-groups").as_deref(), Some("mlflow_admins"), "F101 in UserInfo");
}

#[test]
fn f103_a_refresh_token_that_is_null_or_empty_is_none() {
    for none in [json!(null), json!("")] {
        let world = World::new();
        *world.provider.token_members.borrow_mut() = json!({
            "refresh_token": none, "refresh_expires_in": none, "expires_in": none, "scope": none,
        });
        assert_eq!(log_in(&world, &json!({})).status, 303, "{none}: {:#?}", world.host.log_lines());
        forwarded(world.navigate("/"));
        world.host.advance(Duration::from_secs(301));
        assert_eq!(world.status(), 401, "{none}: it ends with its access token");
        assert_eq!(world.provider.refreshes(), 0);
    }
}

#[test]
fn f103_at_a_refresh_too_none_is_none_and_the_old_refresh_token_goes_on() {
    for none in [json!(null), json!("")] {
        let world = World::signed_in();
        *world.provider.token_members.borrow_mut() = json!({
            "refresh_token": none, "id_token": none, "refresh_expires_in": none, "expires_in": "300", "scope": none,
        });
        let first = world.provider.refresh_token.borrow().clone();
        world.host.advance(Duration::from_secs(301));
        forwarded(world.navigate("/"));
        world.provider.refresh_token.replace(first.clone());
        world.host.advance(Duration::from_secs(301));
        forwarded(world.navigate("/"));
        let requests = world.provider.token_requests.borrow();
        let presented: Vec<&str> =
            requests.iter().filter_map(|form| form.get("refresh_token")).map(String::as_str).collect();
        assert_eq!(presented, [&first, &first], "{none}");
    }
    // At a login there must be an ID token.
    let world = World::new();
    *world.provider.token_members.borrow_mut() = json!({"id_token": null});
    assert_eq!(log_in(&world, &json!({})).status, 503);
}

#[test]
fn f104_a_time_of_authentication_as_text_keeps_nobody_out() {
    let world = World::new();
    let text = json!({"auth_time": world.now().to_string()});
    assert_eq!(log_in(&world, &text).status, 303);
    *world.provider.refreshed.borrow_mut() = text;
    world.host.advance(Duration::from_secs(301));
    forwarded(world.navigate("/"));
}

#[test]
fn f105_groups_of_another_form_are_refused_by_default_and_read_where_the_setting_says_so() {
    let object = json!({"groups": {"mlflow_users": {"org": "a"}}});
    let text = json!({"groups": "reader mlflow_users"});
    let world = World::new();
    assert_eq!(log_in(&world, &object).status, 503);
    assert!(said(&world, "claim_wrong_type: groups"), "{:#?}", world.host.log_lines());
    assert_eq!(replied(present(&world, &object)).status, 401);
    assert_eq!(replied(present(&world, &text)).status, 403, "one text is one group");
    for (format, members) in [(GroupsFormat::ObjectKeys, object), (GroupsFormat::SpaceSeparated, text)] {
        let world = World::with(with_format(format));
        assert_eq!(log_in(&world, &members).status, 303, "{format:?}");
        forwarded(world.navigate("/"));
        forwarded(present(&world, &members));
        let list = log_in(&World::with(with_format(format)), &json!({}));
        assert_eq!(list.status, 503, "{format:?}: a list is another form");
    }
}

#[test]
fn f401_the_log_names_the_claim_and_never_its_value() {
    let far = json!(1e300);
    for (members, named) in [
        (json!({"exp": "s3cret-value"}), "claim_wrong_type: exp"),
        (json!({"sub": ["s3cret-value"]}), "claim_wrong_type: sub"),
        (json!({"sub": null}), "claim_missing: sub"),
        (json!({"iss": null}), "claim_missing: iss"),
        (json!({"exp": far}), "claim_out_of_range: exp"),
        (json!({"nbf": -7}), "claim_out_of_range: nbf"),
        (json!({"sub": "s3cret-value\u{7f}"}), "claim_malformed: sub"),
        (json!({"sub": "s3cret-value".repeat(30)}), "claim_too_long: sub"),
        (json!({"groups": ["s3cret-value", 1]}), "claim_wrong_type: groups"),
        (json!({"typ": ["s3cret-value"]}), "claim_wrong_type: typ"),
    ] {
        let world = World::new();
        assert_eq!(log_in(&world, &members).status, 503, "{named}");
        assert!(said(&world, &format!("detail=\"{named}\"")), "{named}: {:#?}", world.host.log_lines());
        assert_eq!(replied(present(&world, &members)).status, 401, "{named}");
        let lines = world.host.log_lines();
        assert_eq!(lines.iter().filter(|line| line.contains(named)).count(), 2, "{named}: {lines:#?}");
        assert!(!lines.concat().contains("s3cret-value"), "{named}");
    }
    let world = World::changed(|config| config.groups.claim = vec!["realm_access".into(), "roles".into()]);
    assert_eq!(log_in(&world, &json!({"realm_access": {"roles": 7}})).status, 503);
    assert!(said(&world, "claim_wrong_type: realm_access.roles"), "{:#?}", world.host.log_lines());
}

#[test]
fn f409_the_log_and_the_page_say_that_the_provider_sent_no_list_of_groups() {
    let world = World::new();
    let mut elsewhere =
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "x"}}});
    world.provider.id_token.borrow_mut().as_object_mut().unwrap().remove("groups");
    assert_eq!(log_in(&world, &elsewhere).status, 303);
    let page = replied(world.browse("GET", "/", NAVIGATION));
    assert_eq!(page.status, 403);
    assert!(page.body.contains("sent no list"), "{}", page.body);
    assert!(!page.body.contains("<dd>none"), "{}", page.body);
    assert!(said(&world, "the provider sent no list of groups"), "{:#?}", world.host.log_lines());
    assert!(replied(world.browse("GET", "/oauth2/account", NAVIGATION)).body.contains("sent no list"));
    elsewhere["groups"] = json!(null);
    let refused = replied(present(&world, &elsewhere));
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("sent no list"), "{}", refused.body);
}
