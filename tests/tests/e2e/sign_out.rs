//! Signing out.

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::provider::Endpoint;
use oidc_gate_tests::{Gate, assert_refused, assert_soon_everywhere};

#[test]
fn signing_out_ends_the_session_here_and_at_the_provider_and_offers_a_way_back() {
    let (gate, browser) = Gate::with_browser();
    let cookie = gate.session_cookie(&browser).unwrap();
    let journey = gate.sign_out(&browser);
    assert_eq!(journey.hops[0].status, 303, "{}", journey.hops[0]);
    assert!(journey.end().text().contains("/oauth2/login"), "{}", journey.end());
    assert_eq!(gate.session_cookie(&browser), None);
    assert_eq!(gate.provider.sessions(), 0);
    assert_eq!(gate.redis().keys("mlflow:s:*").unwrap(), Vec::<String>::new());

    // A stolen copy of the cookie is useless, and the user must sign in again.
    let thief = gate.browser_with(&cookie);
    assert_soon_everywhere(&gate, 401, "/x", |url| thief.fetching("GET", url));
    let again = browser.visit(&gate.url("/")).unwrap();
    assert!(again.end().form_action().is_some(), "{}", again.end());
}

#[test]
fn lo16_another_site_cannot_sign_anybody_out() {
    let (gate, browser) = Gate::with_browser();
    let url = gate.url("/oauth2/logout");
    // On another site's page, or in content of the application.
    for site in ["cross-site", "same-origin"] {
        assert_refused(&gate, 403, || {
            let image = browser.request("GET", &url).header("sec-fetch-site", site);
            image.header("sec-fetch-dest", "image").header("sec-fetch-mode", "no-cors").send()
        });
    }
    assert_refused(&gate, 403, || {
        let form =
            browser.navigation("POST", &url).without("sec-fetch-site").header("sec-fetch-site", "cross-site");
        form.header("origin", "http://evil.example").form(&[]).send()
    });
    let link = browser
        .navigation("GET", &url)
        .without("sec-fetch-site")
        .header("sec-fetch-site", "cross-site")
        .send();
    let page = link.unwrap();
    assert_eq!(page.status, 200, "{page}");
    assert_eq!(gate.provider.count(Endpoint::EndSession), 0);
    assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
}

#[test]
fn lo16_sign_out_leads_nowhere_but_to_our_own_page() {
    let gate = Gate::start();
    for query in [
        "?rd=http://evil.example",
        "?post_logout_redirect_uri=http://evil.example",
        "?state=x&redirect=//evil.example",
    ] {
        let browser = gate.signed_in("mlflow_user");
        let response = browser.submit(&gate.url(&format!("/oauth2/logout{query}")), &[]).unwrap();
        let journey = browser.follow(response).unwrap();
        assert!(journey.end().url.starts_with(&gate.url("/oauth2/signed-out")), "{:#?}", journey.urls());
    }
}

#[test]
fn signing_out_without_a_session_is_harmless() {
    let gate = Gate::start();
    let response = Client::new().submit(&gate.url("/oauth2/logout"), &[]).unwrap();
    assert!([200, 302, 303].contains(&response.status), "{response}");
    oidc_gate_tests::assert_workers_alive(&gate);
}

#[test]
fn lo19_with_the_provider_down_the_session_here_still_ends() {
    let (gate, browser) = Gate::with_browser();
    gate.provider.stop();
    let response = browser.submit(&gate.url("/oauth2/logout"), &[]).unwrap();
    assert!([200, 303].contains(&response.status), "{response}\n{}", gate.envoy().trouble("is asked why"));
    assert_eq!(gate.session_cookie(&browser), None);
    assert_eq!(gate.redis().keys("mlflow:s:*").unwrap(), Vec::<String>::new());
}

#[test]
fn lo17_the_signed_out_page_survives_any_state() {
    let gate = Gate::start();
    for query in ["", "?state=", "?state=wrong", "?state=a&state=b", "?state=%ff%00", "?error=x"] {
        let response = Client::new().navigate(&gate.url(&format!("/oauth2/signed-out{query}"))).unwrap();
        assert!([200, 400].contains(&response.status), "{query}: {response}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{query}");
    }
}

#[test]
fn lo18_there_is_no_front_channel_that_signs_anybody_out() {
    let gate = Gate::start();
    let (browser, sid) = gate.signed_in_with_sid("mlflow_user");
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("iss", &gate.provider.issuer())
        .append_pair("sid", &sid)
        .finish();
    let paths = [
        "frontchannel-logout",
        "front-channel-logout",
        "frontchannel_logout",
        "backchannel-logout",
        "k_logout",
    ];
    for path in paths {
        let url = gate.url(&format!("/oauth2/{path}?{query}"));
        let frame = browser.request("GET", &url).header("sec-fetch-site", "cross-site");
        let response =
            frame.header("sec-fetch-dest", "iframe").header("sec-fetch-mode", "navigate").send().unwrap();
        assert!([404, 405].contains(&response.status), "{path}: {response}");
        assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200, "{path}");
    }
    assert_eq!(gate.provider.count(Endpoint::Revocation), 0);
}
