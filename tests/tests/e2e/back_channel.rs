//! Back-channel logout: which logout tokens are valid, how they must be sent, and which sessions they end.

use oidc_gate_testkit::browser::{Client, raw};
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::forgeries::wrong_logout_tokens;
use oidc_gate_testkit::provider::{Endpoint, Forgery, Times};
use oidc_gate_testkit::redis::{Fault, On};
use oidc_gate_tests::forge::{claim, header, without_header};
use oidc_gate_tests::{
    BOUND, Gate, Signed, assert_accepted, assert_everywhere, assert_refused, assert_soon_everywhere,
    assert_workers_alive,
};
use serde_json::json;

const PATH: &str = "/oauth2/backchannel-logout";

/// Caches and tokens live long, so sessions in these tests end only because of a message.
fn gate() -> Gate {
    Gate::builder().set("session.cache_ttl", "1m").start()
}

#[test]
fn lo01_to_lo10_a_wrong_logout_token_is_400_and_ends_nothing() {
    let gate = gate();
    let signed = Signed::in_as(&gate, "mlflow_user");
    for (name, forgery) in wrong_logout_tokens(&gate.provider) {
        let token = gate.provider.logout_token(&signed.sid, &forgery);
        let response = gate.post_logout_token(0, &token);
        assert_eq!(response.status, 400, "{name}: {response}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{name}: {response}");
        let still = signed.browser.fetch(&gate.url("/x")).unwrap();
        assert_eq!(still.status, 200, "{name}: the session is gone");
    }
    signed.assert(&gate, 200);
    assert_workers_alive(&gate);
    // The correct token works, so the others were refused for their defects.
    assert_accepted(&gate.provider.deliver_logout_token(&signed.logout_token(&gate)));
    signed.assert_ends(&gate);
}

#[test]
fn lo10_no_token_of_another_kind_signs_anybody_out_and_a_logout_token_lets_nobody_in() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let id_token = gate.provider.id_token("mlflow_user", "nonce");
    for (name, token) in [
        ("an ID token", id_token),
        ("an access token", gate.provider.access_token_in(&sid)),
        ("no token", "x".to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(gate.post_logout_token(0, &token).status, 400, "{name}");
    }
    let logout_token = gate.provider.logout_token(&sid, &Forgery::new());
    assert_refused(&gate, 401, || gate.with_token("/x", &logout_token).send());
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
}

#[test]
fn lo11_the_token_comes_by_post_in_a_form_once() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let url = gate.url(PATH);
    let token = || gate.provider.logout_token(&sid, &Forgery::new());
    let form = |token: &str| format!("logout_token={token}");
    const FORM: &str = "application/x-www-form-urlencoded";
    let client = Client::new();
    let post = |content_type: &str, body: String| {
        client.request("POST", &url).header("content-type", content_type).body(body)
    };
    for (name, status, request) in [
        ("GET", 405, client.request("GET", &format!("{url}?logout_token={}", token()))),
        ("PUT", 405, client.request("PUT", &url).form(&[("logout_token", &token())])),
        ("HEAD", 405, client.request("HEAD", &url)),
        ("in the query", 400, client.request("POST", &format!("{url}?logout_token={}", token()))),
        ("no content type", 400, client.request("POST", &url).body(form(&token()))),
        ("JSON", 400, post("application/json", json!({"logout_token": token()}).to_string())),
        ("a form that says it is JSON", 400, post("application/json", form(&token()))),
        ("a bare token", 400, post("application/jwt", token())),
        ("two tokens", 400, post(FORM, format!("{}&{}", form(&token()), form(&token())))),
        ("the same token twice", 400, {
            let token = token();
            post(FORM, format!("{}&{}", form(&token), form(&token)))
        }),
        ("another field", 400, post(FORM, format!("token={}", token()))),
        ("no body", 400, post(FORM, String::new())),
        ("a megabyte", 400, post(FORM, form(&"A".repeat(1_000_000)))),
        ("a megabyte besides", 400, post(FORM, format!("x={}&{}", "A".repeat(1_000_000), form(&token())))),
        ("bytes that are no text", 400, post(FORM, "logout_token=%ff%fe".to_owned())),
    ] {
        let response = request.send().unwrap();
        assert!(response.status == status || response.status == 413, "{name}: {response}");
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200, "{name}: the session is gone");
    }
    assert_workers_alive(&gate);
    // In pieces, with other fields, and with a content type in upper case.
    let good = format!("a=b&{}&c=d", form(&token()));
    let (first, second) = good.split_at(good.len() / 2);
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    let response = raw::exchange(gate.port(), chunked).unwrap();
    assert!([200, 204].contains(&response.status), "{response}");
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
}

#[test]
fn lo11_a_body_that_never_ends_holds_nothing_up() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let mut slow: Vec<_> = (0..20).map(|_| raw::Connection::open(gate.port()).unwrap()).collect();
    for connection in &mut slow {
        connection
            .send(format!(
                "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: 5000\r\n\r\nlogout_token="
            ))
            .unwrap();
    }
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_accepted(&gate.provider.delete_session(&sid)[0]);
    assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    drop(slow);
    assert_workers_alive(&gate);
}

#[test]
fn lo12_a_logout_of_nobody_we_know_is_fine() {
    let gate = gate();
    let browser = gate.signed_in("mlflow_user");
    for (subject, sid) in [(Some("nobody"), None), (None, Some("nowhere")), (Some("nobody"), Some("nowhere"))]
    {
        let token = gate.provider.logout_token_about(subject, sid, &Forgery::new());
        let response = gate.post_logout_token(0, &token);
        assert!([200, 204].contains(&response.status), "{response}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response}");
        assert_eq!(response.header_lines("set-cookie"), Vec::<String>::new());
    }
    let extra = Forgery::new().claims(|claims| {
        claims["extra"] = json!({"deep": [1, 2, 3]});
        claims["events"]["http://example.com/other"] = json!("x");
    });
    let token = gate.provider.logout_token_about(None, Some("nowhere"), &extra);
    assert!([200, 204].contains(&gate.post_logout_token(0, &token).status));
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
}

#[test]
fn lo13_a_sid_of_another_issuer_is_nobody_and_a_user_without_sid_is_all_of_that_user_and_nobody_else() {
    let gate = gate();
    let (first, sid) = gate.signed_in_with_sid("mlflow_user");
    let second = gate.signed_in("mlflow_user");
    let admin = gate.signed_in("mlflow_admin");
    let token = gate.provider.access_token("mlflow_user");
    let foreign = claim("iss", "http://localhost:1/realms/other");
    assert_eq!(gate.post_logout_token(0, &gate.provider.logout_token(&sid, &foreign)).status, 400);
    // A similar name.
    let subject = gate.provider.user("mlflow_user").subject;
    for other in [subject.to_uppercase(), format!("{subject} "), format!("{subject}\0")] {
        let token = gate.provider.logout_token_about(Some(&other), None, &Forgery::new());
        gate.post_logout_token(0, &token);
    }
    for browser in [&first, &second, &admin] {
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    // The token may be from the same second as the logout. It ends too (F1004).
    let by_user = gate.provider.logout_token_about(Some(&subject), None, &Forgery::new());
    assert_accepted(&gate.provider.deliver_logout_token(&by_user));
    for browser in [&first, &second] {
        assert_soon_everywhere(&gate, 401, "/x", |url| browser.fetching("GET", url));
    }
    assert_soon_everywhere(&gate, 401, "/x", |url| Client::new().request("GET", url).bearer(&token));
    assert_everywhere(&gate, 200, "/x", |url| admin.fetching("GET", url));
}

#[test]
fn lo09_a_logout_token_that_comes_again_does_not_end_what_began_after_it() {
    let gate = gate();
    let (old, sid) = gate.signed_in_with_sid("mlflow_user");
    let subject = gate.provider.user("mlflow_user").subject;
    let by_user = gate.provider.logout_token_about(Some(&subject), None, &Forgery::new());
    let by_sid = gate.provider.logout_token(&sid, &Forgery::new());
    for token in [&by_user, &by_sid] {
        assert_accepted(&gate.provider.deliver_logout_token(token));
    }
    assert_soon_everywhere(&gate, 401, "/x", |url| old.fetching("GET", url));
    let new = gate.signed_in("mlflow_user");
    for token in [&by_user, &by_sid] {
        assert_accepted(&gate.provider.deliver_logout_token(token));
    }
    // A worker that knows the later message knows the earlier one too.
    let (marker, marker_sid) = gate.signed_in_with_sid("mlflow_admin");
    assert_accepted(&gate.provider.delete_session(&marker_sid)[0]);
    assert_soon_everywhere(&gate, 401, "/x", |url| marker.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| new.fetching("GET", url));
}

#[test]
fn f304_a_logout_token_with_a_plain_type_or_none_ends_the_session_and_lets_nobody_in() {
    let gate = gate();
    for forgery in [header("typ", "JWT"), header("typ", "application/jwt"), without_header("typ")] {
        let signed = Signed::in_as(&gate, "mlflow_user");
        let token = gate.provider.logout_token(&signed.sid, &forgery);
        assert_refused(&gate, 401, || gate.with_token("/x", &token).send());
        assert_accepted(&gate.provider.deliver_logout_token(&token));
        signed.assert_ends(&gate);
    }
}

/// The Envoy that received the first delivery could not write the revocation, and is killed afterwards.
#[test]
fn f1003_a_logout_whose_first_delivery_failed_is_carried_out_by_the_second_at_another_envoy() {
    let mut gate = Gate::builder().envoys(2).redis_proxy().set("session.cache_ttl", "1m").start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    let token = signed.logout_token(&gate);
    let refused = Fault::Error("MISCONF Redis is configured to save RDB snapshots".to_owned());
    gate.redis_proxy().fail(On::Script("mlflow:revoked"), Times::Always, refused);
    let first = gate.post_logout_token(0, &token);
    assert_eq!((first.status, first.header("retry-after")), (400, Some("5")), "{first}");
    gate.kill_envoy(0);
    gate.redis_proxy().behave();
    assert_everywhere(&gate, 200, "/x", |url| signed.by_token(url));
    let second = gate.post_logout_token(1, &token);
    assert_eq!(second.status, 200, "{second}");
    signed.assert_ends(&gate);
    // The message was carried out: a second delivery ends no session that began since.
    let new = gate.signed_in("mlflow_user");
    assert_eq!(gate.post_logout_token(1, &token).status, 200);
    assert_everywhere(&gate, 200, "/x", |url| new.fetching("GET", url));
}

#[test]
fn f1004_a_token_of_the_very_second_of_a_logout_of_its_user_ends_on_every_envoy() {
    let gate = Gate::builder().envoys(2).start();
    let subject = gate.provider.user("mlflow_user").subject;
    let second = gate.provider.now();
    let of_that_second = || claim("iat", second);
    let token = gate.provider.forged_access_token("mlflow_user", &of_that_second());
    let other = gate.provider.forged_access_token("mlflow_admin", &of_that_second());
    let with = |token: &str, url: &str| Client::new().request("GET", url).bearer(token);
    assert_everywhere(&gate, 200, "/x", |url| with(&token, url));
    let by_user = gate.provider.logout_token_about(Some(&subject), None, &of_that_second());
    assert_accepted(&gate.provider.deliver_logout_token(&by_user));
    assert_soon_everywhere(&gate, 401, "/x", |url| with(&token, url));
    assert_everywhere(&gate, 200, "/x", |url| with(&other, url));
    // A login in the same second is not affected, and there is no redirect loop.
    let again = gate.signed_in("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| again.fetching("GET", url));
}

#[test]
fn lo15_a_flood_of_wrong_tokens_fetches_no_keys_and_stops_nobody() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    assert_workers_alive(&gate);
    let before = gate.provider.count(Endpoint::Jwks);
    let stranger = gate.provider.strangers_key();
    let unknown_keys: Vec<String> = (0..20)
        .map(|number| {
            let forgery = header("kid", format!("unknown-{number}")).key(stranger.clone());
            gate.provider.logout_token(&sid, &forgery)
        })
        .collect();
    let answers = oidc_gate_testkit::browser::load::burst(400, 40, |number| {
        let token = &unknown_keys[number % unknown_keys.len()];
        Client::new().request("POST", &gate.url(PATH)).form(&[("logout_token", token)])
    });
    assert!(answers.into_iter().all(|answer| answer.unwrap().status == 400));
    let fetched = gate.provider.count(Endpoint::Jwks) - before;
    // An unknown key causes an extra fetch, at most one per 10 s, however many tokens arrive.
    assert!(fetched <= 4, "{fetched} fetches of the keys");
    assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    assert_accepted(&gate.provider.delete_session(&sid)[0]);
}

#[test]
fn signing_out_here_is_answered_to_the_provider_while_the_browser_is_on_its_way() {
    let gate = gate();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let other_tab = gate.provider.access_token_in(&sid);
    gate.sign_out(&browser);
    let deliveries = gate.provider.deliveries();
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    assert_accepted(&deliveries[0]);
    println!("the provider waited {:?} for our answer", deliveries[0].took);
    // Bearer tokens of the same session end too.
    assert_soon_everywhere(&gate, 401, "/x", |url| Client::new().request("GET", url).bearer(&other_tab));
}

/// Keycloak waits five seconds for a response, and sends each message only once.
#[test]
fn a_logout_whose_sender_gave_up_while_redis_was_silent_counts_on_every_envoy() {
    let gate = Gate::builder().envoys(2).redis_proxy().set("session.cache_ttl", "1m").start();
    let signed = Signed::in_as(&gate, "mlflow_user");
    gate.redis_proxy().fail(On::Command("SET"), Times::Next(1), Fault::Silence);
    let token = signed.logout_token(&gate);
    let sent = Client::new().request("POST", &gate.url(PATH)).form(&[("logout_token", &token)]).begin();
    assert!(wait_until(BOUND, || gate.redis_proxy().applied() == 1), "Redis was not asked");
    sent.abort();
    signed.assert_ends(&gate);
    assert_workers_alive(&gate);
}
