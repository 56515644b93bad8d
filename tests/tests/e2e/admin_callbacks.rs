//! Keycloak's administrative callbacks, its only messages about "logout all" and a pushed "not before".

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_testkit::provider::forgeries::{wrong_callbacks, wrong_lists};
use oidc_gate_testkit::provider::{Callback, Forgery, TokenKind};
use oidc_gate_tests::forge::{claim, without_claim};
use oidc_gate_tests::{
    Gate, assert_accepted, assert_everywhere, assert_soon_everywhere, assert_workers_alive,
};
use serde_json::json;

fn gate() -> Gate {
    Gate::builder().set("session.cache_ttl", "1m").start()
}

fn post(gate: &Gate, callback: Callback, body: &str) -> Response {
    let request = Client::new().request("POST", &gate.url(&format!("/oauth2/{}", callback.path())));
    request.header("content-type", "text/plain; charset=ISO-8859-1").body(body.to_owned()).send().unwrap()
}

#[test]
fn lo08_a_wrong_callback_is_400_and_ends_nothing() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    for callback in [Callback::LogOut, Callback::PushNotBefore] {
        let now = gate.provider.now();
        for (name, forgery) in wrong_callbacks(&gate.provider) {
            let response = post(&gate, callback, &gate.provider.callback(callback, now, &forgery));
            assert_eq!(response.status, 400, "{callback:?}, {name}: {response}");
            assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200, "{callback:?}, {name}");
        }
        let other = match callback {
            Callback::LogOut => Callback::PushNotBefore,
            Callback::PushNotBefore => Callback::LogOut,
        };
        for (name, body) in [
            ("the other path's", gate.provider.callback(other, now, &Forgery::new())),
            ("a logout token", gate.provider.logout_token(&sid, &Forgery::new())),
            ("an access token", gate.provider.access_token_in(&sid)),
            ("an ID token", gate.provider.id_token("mlflow_user", "n")),
            ("nothing", String::new()),
            ("no token", "{}".to_owned()),
            ("a form", format!("token={}", gate.provider.callback(callback, now, &Forgery::new()))),
            ("a megabyte", "A".repeat(1_000_000)),
        ] {
            let response = post(&gate, callback, &body);
            assert!([400, 413].contains(&response.status), "{callback:?}, {name}: {response}");
        }
        let get = Client::new().request("GET", &gate.url(&format!("/oauth2/{}", callback.path())));
        assert_eq!(get.send().unwrap().status, 405);
    }
    // A "not before" in the future, which would lock everybody out.
    let future = gate.provider.now() + 86_400;
    let locked = gate.provider.callback(Callback::PushNotBefore, future, &Forgery::new());
    assert_eq!(post(&gate, Callback::PushNotBefore, &locked).status, 400);
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_workers_alive(&gate);
}

#[test]
fn f1002_a_logout_whose_list_of_sessions_cannot_be_read_ends_nobody() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    for (name, forgery) in wrong_lists() {
        let body = gate.provider.callback(Callback::LogOut, gate.provider.now(), &forgery);
        let response = post(&gate, Callback::LogOut, &body);
        assert_eq!(response.status, 400, "{name}: {response}");
    }
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_workers_alive(&gate);
}

#[test]
fn f1002_a_logout_that_names_no_session_of_ours_ends_nobody() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let other = gate.signed_in("mlflow_admin");
    let token = gate.provider.access_token("mlflow_admin");
    let say = |members: serde_json::Value| {
        let forgery = Forgery::new().claims(move |claims| {
            claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        });
        let body = gate.provider.callback(Callback::LogOut, gate.provider.now(), &forgery);
        post(&gate, Callback::LogOut, &body)
    };
    for members in [
        json!({"keycloakSessionIds": []}),
        json!({"adapterSessionIds": []}),
        json!({"adapterSessionIds": [sid]}),
        json!({"adapterSessionIds": [sid], "keycloakSessionIds": []}),
        json!({"keycloakSessionIds": ["somebody-elses"]}),
    ] {
        let response = say(members.clone());
        assert_eq!(response.status, 200, "{members}: {response}");
    }
    // A worker that knows the later message knows the earlier ones too.
    assert_eq!(say(json!({"keycloakSessionIds": [sid]})).status, 200);
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| other.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| Client::new().request("GET", url).bearer(&token));
}

#[test]
fn lo10_a_callback_lets_nobody_in_and_is_no_logout_token() {
    let gate = gate();
    gate.signed_in("mlflow_user");
    let callback = gate.provider.callback(Callback::LogOut, gate.provider.now(), &Forgery::new());
    let bearer = gate.with_token("/x", &callback).send().unwrap();
    assert_eq!(bearer.status, 401, "{bearer}");
    assert_eq!(gate.provider.deliver_logout_token(&callback).status, Some(400));
}

#[test]
fn lo09_a_callback_that_comes_again_does_not_end_what_began_after_it() {
    let gate = gate();
    let old = gate.signed_in("mlflow_user");
    // Without a time it means "everything until now". If replays were accepted, it would apply each time.
    gate.provider.forge(TokenKind::Logout, without_claim("notBefore"));
    let delivery = gate.provider.log_out_all().remove(0);
    gate.provider.behave();
    assert_accepted(&delivery);
    assert_soon_everywhere(&gate, 401, "/x", |url| old.fetching("GET", url));
    // In whole seconds: sessions that begin in the same second end too.
    let not_before = gate.provider.user("mlflow_user").not_before.max(gate.provider.now());
    gate.wait_for_second_after(not_before + 1);
    let new = gate.signed_in("mlflow_user");
    for _ in 0..3 {
        let again = gate.provider.deliver_callback("k_logout", &delivery.token);
        assert_accepted(&again);
    }
    let (marker, marker_sid) = gate.signed_in_with_sid("mlflow_admin");
    gate.provider.delete_session(&marker_sid);
    assert_soon_everywhere(&gate, 401, "/x", |url| marker.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| new.fetching("GET", url));
}

#[test]
fn a_pushed_not_before_ends_what_is_older_and_nothing_else() {
    let gate = gate();
    let old = gate.signed_in("mlflow_user");
    let old_token = gate.provider.access_token("mlflow_admin");
    let then = gate.provider.now() + 1;
    gate.wait_for_second_after(then);
    gate.provider.set_not_before(then);
    let new = gate.signed_in("mlflow_user");
    let new_token = gate.provider.access_token("mlflow_admin");
    let delivery = gate.provider.push_not_before().remove(0);
    assert_accepted(&delivery);
    assert_soon_everywhere(&gate, 401, "/x", |url| old.fetching("GET", url));
    assert_soon_everywhere(&gate, 401, "/x", |url| Client::new().request("GET", url).bearer(&old_token));
    assert_everywhere(&gate, 200, "/x", |url| new.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| Client::new().request("GET", url).bearer(&new_token));
    // Without a time it has no effect.
    let nothing = gate.provider.callback(Callback::PushNotBefore, 0, &claim("notBefore", 0));
    post(&gate, Callback::PushNotBefore, &nothing);
    assert_everywhere(&gate, 200, "/x", |url| new.fetching("GET", url));
}
