//! Actions that need the user's intent. Neither a prefetch nor content in a page may cause them.

use oidc_gate_testkit::browser::{Client, Request};
use oidc_gate_testkit::provider::Endpoint;
use oidc_gate_tests::{Gate, assert_refused};

const AHEAD: [(&str, &str); 5] = [
    ("sec-purpose", "prefetch"),
    ("sec-purpose", "prefetch;prerender"),
    ("purpose", "prefetch"),
    ("x-moz", "prefetch"),
    ("x-purpose", "preview"),
];

fn from_site(request: Request, site: &str) -> Request {
    request.without("sec-fetch-site").header("sec-fetch-site", site)
}

/// A navigation without a click.
fn unclicked(browser: &Client, url: &str, site: &str) -> Request {
    from_site(browser.navigation("GET", url), site).without("sec-fetch-user")
}

#[test]
fn f501_what_is_loaded_ahead_of_time_ends_nothing_and_the_click_that_follows_does() {
    let (gate, browser) = Gate::with_browser();
    let cookie = gate.session_cookie(&browser);
    let url = gate.url("/oauth2/logout");
    for (name, value) in AHEAD {
        for site in ["same-origin", "none"] {
            let ahead = || unclicked(&browser, &url, site).header(name, value);
            assert_refused(&gate, 503, || ahead().send());
            assert_refused(&gate, 503, || ahead().header("sec-fetch-user", "?1").send());
        }
    }
    assert_eq!(gate.session_cookie(&browser), cookie);
    assert_eq!(gate.provider.count(Endpoint::EndSession), 0);
    assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
    let journey = browser.follow(browser.navigate(&url).unwrap()).unwrap();
    assert!(journey.end().url.starts_with(&gate.url("/oauth2/signed-out")), "{:#?}", journey.urls());
    assert_eq!(gate.provider.sessions_of("mlflow_user").len(), 0);
}

#[test]
fn f501_a_page_loaded_ahead_of_time_starts_no_login_and_a_callback_spends_no_code() {
    let gate = Gate::start();
    let (browser, callback) = gate.at_callback("mlflow_user", "/deep?link=1");
    let cookies = || browser.jar().header_for(&gate.url("/").parse().unwrap());
    let before = cookies();
    for (name, value) in AHEAD {
        for _ in 0..6 {
            let page = assert_refused(&gate, 401, || {
                unclicked(&browser, &gate.url("/x"), "none").header(name, value).send()
            });
            assert_eq!((page.header("location"), page.header("set-cookie")), (None, None), "{page}");
        }
        assert_refused(&gate, 503, || {
            unclicked(&browser, &callback, "cross-site").header(name, value).send()
        });
    }
    assert_eq!(cookies(), before);
    assert_eq!(gate.provider.count(Endpoint::Token), 0);
    let page = browser.navigate(&callback).unwrap();
    assert_eq!((page.status, page.header("location")), (303, Some("/deep?link=1")), "{page}");
}

#[test]
fn f1201_what_stands_in_a_page_of_the_application_signs_nobody_out() {
    let (gate, browser) = Gate::with_browser();
    let url = gate.url("/oauth2/logout");
    // `<meta http-equiv=refresh>`, and the same shortly after a click anywhere on the page.
    for refresh in
        [unclicked(&browser, &url, "same-origin"), from_site(browser.navigation("GET", &url), "same-origin")]
    {
        let asks = refresh.send().unwrap();
        assert_eq!(asks.status, 200, "{asks}");
        assert!(asks.text().contains("<form method=\"post\" action=\"/oauth2/logout\">"), "{asks}");
    }
    for target in [url.as_str(), &gate.url("/oauth2/account/sign-out?everywhere=true")] {
        // `<a ping>`, as sent by browsers with Fetch Metadata and by older ones; a fetch; a form in a frame.
        let post =
            || from_site(browser.request("POST", target), "same-origin").header("origin", gate.origin());
        let of =
            |mode: &str, dest: &str| post().header("sec-fetch-mode", mode).header("sec-fetch-dest", dest);
        assert_refused(&gate, 403, || of("no-cors", "empty").header("content-type", "text/ping").send());
        assert_refused(&gate, 403, || of("cors", "empty").send());
        assert_refused(&gate, 403, || of("navigate", "iframe").form(&[]).send());
        assert_refused(&gate, 403, || {
            let old = browser.request("POST", target).header("origin", gate.origin());
            old.header("content-type", "text/ping").header("ping-to", target).body("PING").send()
        });
    }
    assert_eq!(gate.provider.count(Endpoint::EndSession), 0);
    assert_eq!(browser.fetch(&gate.url("/x")).unwrap().status, 200);
    // The button on the confirmation page works.
    gate.sign_out(&browser);
}
