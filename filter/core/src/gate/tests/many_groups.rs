//! People with hundreds of groups: tokens of the size that Envoy lets through get in, and what does not fit says so.

use serde_json::{Value, json};

use super::{forwarded, log_in};
use crate::policy::{HeaderChange, Permit};
use crate::testing::world::{World, header, replied};

/// This many groups with names of 45 characters, and the one that the policy names.
fn groups(number: usize) -> Value {
    let names = (0..number).map(|number| format!("/department/research-and-development/team-{number:03}"));
    names.chain(["/mlflow_users".to_owned()]).collect()
}

fn groups_header(permit: &Permit) -> String {
    let set = permit.changes().iter().find_map(|change| match change {
        HeaderChange::Set(name, value) if name == "x-forwarded-groups" => {
            Some(String::from_utf8(value.clone()).unwrap())
        }
        _ => None,
    });
    set.unwrap()
}

#[test]
fn f601_five_hundred_long_groups_sign_in_are_renewed_and_sign_out() {
    let world = World::new();
    {
        let mut claims = world.provider.id_token.borrow_mut();
        claims["groups"] = groups(500);
        let length = world.provider.signed(claims.clone()).len();
        assert!((30_000..36_000).contains(&length), "{length}");
    }
    world.log_in("/");
    let permit = forwarded(world.navigate("/x"));
    // If the list is too long for the application's server, it gets only the groups that the policy names.
    assert_eq!(groups_header(&permit), "/mlflow_users");
    // Another worker reads the record from Redis.
    let other = world.other_worker().with_cookies_of(&world);
    forwarded(other.navigate("/x"));
    world.host.advance(std::time::Duration::from_secs(301));
    {
        let mut claims = world.provider.id_token.borrow_mut();
        claims["iat"] = world.now().into();
        claims["exp"] = (world.now() + 300).into();
    }
    forwarded(world.navigate("/x"));
    assert_eq!(world.host.counted(crate::metrics::refresh(crate::metrics::Refresh::Renewed)), 1);
    // The ID token is too long for a hint, so it was not stored. Signing out works without it.
    let reply = world.sign_out();
    let location = header(&reply, "location").unwrap();
    assert!(location.contains("client_id=mlflow&post_logout_redirect_uri="), "{location}");
    assert!(!location.contains("id_token_hint"), "{location}");
    assert_eq!(replied(other.browse("GET", "/x", super::API)).status, 401);
}

#[test]
fn f601_five_hundred_long_groups_get_in_as_bearer_and_are_remembered_within_bounds() {
    let world = World::new();
    let token = world.provider.access_token(world.now(), json!({"groups": groups(500)}));
    assert!(token.len() > 30_000, "{}", token.len());
    let bearer = format!("Bearer {token}");
    for _ in 0..2 {
        let permit = forwarded(world.send("GET", "/x", &[("authorization", &bearer)]));
        assert_eq!(groups_header(&permit), "/mlflow_users");
    }
}

#[test]
fn f601_what_does_not_fit_is_refused_with_its_size_and_the_limit() {
    // A token that can be read, but whose session exceeds the limit for values in Redis.
    let world = World::new();
    let page = log_in(&world, &json!({"groups": groups(1400)}));
    assert_eq!(page.status, 400, "{page:?}");
    assert!(page.body.contains(" bytes, and the limit is 61440."), "{}", page.body);
    let log = world.host.log_lines().join("\n");
    assert!(log.contains("reason=login_too_large") && log.contains(" bytes, the limit is 61440\""), "{log}");

    // A token that exceeds the length limit and is not parsed.
    let world = World::new();
    let page = log_in(&world, &json!({"groups": groups(2000)}));
    assert_eq!(page.status, 503, "{page:?}");
    let token = world.provider.access_token(world.now(), json!({"groups": groups(2000)}));
    let bearer = format!("Bearer {token}");
    assert_eq!(replied(world.send("GET", "/x", &[("authorization", &bearer)])).status, 401);
    let log = world.host.log_lines().join("\n");
    let said = format!("token_too_long: {} bytes, the limit is 98304", token.len());
    assert!(log.contains(&said), "{said}: {log}");
    assert!(log.contains("reason=login_id_token") && !log.contains(&token[..100]), "{log}");
}
