//! What only a real browser does by itself: refreshes, frames, pings, prefetched pages.

use std::time::Duration;

use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::Endpoint;
use oidc_gate_tests::{Chromium, Gate, assert_workers_alive};
use thirtyfour::By;

/// Long, because the machine may be busy.
const BOUND: Duration = Duration::from_secs(60);
const COOKIE: &str = "oidc-gate";

/// Content of an application's page, and its trigger: none, or a click on the element that hides it.
const IN_A_PAGE: [(&str, &str, Option<&str>); 18] = [
    ("refresh", "<meta http-equiv=refresh content='0;url=/oauth2/logout'>", None),
    // The reader clicks on something else meanwhile.
    (
        "refresh after a click",
        "<meta http-equiv=refresh content='10;url=/oauth2/logout'><p>some text</p>",
        Some("p"),
    ),
    ("script", "<script>location = '/oauth2/logout'</script>", None),
    ("window", "<script>window.open('/oauth2/logout')</script>", None),
    ("ping", "<a href=/elsewhere ping=/oauth2/logout>a</a>", Some("a")),
    ("ping of all", "<a href=/elsewhere ping='/oauth2/account/sign-out?everywhere=true'>a</a>", Some("a")),
    ("image", "<img src=/oauth2/logout>", None),
    ("frame", "<iframe src=/oauth2/logout></iframe>", None),
    ("object", "<object data=/oauth2/logout></object>", None),
    ("embed", "<embed src=/oauth2/logout>", None),
    ("style", "<link rel=stylesheet href=/oauth2/logout>", None),
    ("source", "<script src=/oauth2/logout></script>", None),
    ("prefetch", "<link rel=prefetch href=/oauth2/logout>", None),
    (
        "speculation: prefetch",
        r#"<script type=speculationrules>
            {"prefetch": [{"source": "list", "urls": ["/oauth2/logout"], "eagerness": "immediate"}]}</script>"#,
        None,
    ),
    (
        "speculation: prerender",
        r#"<script type=speculationrules>
            {"prerender": [{"source": "list", "urls": ["/oauth2/logout"], "eagerness": "immediate"}]}</script>"#,
        None,
    ),
    (
        "form in a frame",
        "<iframe name=f></iframe><form id=g method=post action=/oauth2/logout target=f></form>\
         <script>g.submit()</script>",
        None,
    ),
    ("beacon", "<script>navigator.sendBeacon('/oauth2/logout')</script>", None),
    ("fetch", "<script>fetch('/oauth2/logout', {method: 'POST'})</script>", None),
];

/// The same on another site, or on another port of the same site. `GATE` stands for the gate.
const ELSEWHERE: [(&str, &str, Option<&str>); 5] = [
    ("form", "<form id=f method=post action=GATE/oauth2/logout></form><script>f.submit()</script>", None),
    ("refresh", "<meta http-equiv=refresh content='0;url=GATE/oauth2/logout'>", None),
    ("window", "<script>window.open('GATE/oauth2/logout')</script>", None),
    ("link", "<a href=GATE/oauth2/logout>a</a>", Some("a")),
    ("frame", "<iframe src=GATE/oauth2/logout></iframe>", None),
];

/// A user with a browser.
struct Person<'a> {
    gate: &'a Gate,
    chromium: Chromium,
}

impl Person<'_> {
    fn open(&self, url: &str) {
        self.chromium.block_on(self.chromium.driver().goto(url)).unwrap();
    }

    fn click(&self, selector: &str) {
        let click = async { self.chromium.driver().find(By::Css(selector)).await?.click().await };
        self.chromium.block_on(click).unwrap();
    }

    fn url(&self) -> String {
        self.chromium.block_on(self.chromium.driver().current_url()).map(String::from).unwrap_or_default()
    }

    fn sign_in(&self) {
        self.gate.provider.sign_in_as("mlflow_user");
        self.open(&self.gate.url("/"));
        self.gate.provider.ask_for_password();
        assert_eq!(self.url(), self.gate.url("/"));
        self.gate.plant_secret(&self.cookie().unwrap());
    }

    fn cookie(&self) -> Option<String> {
        let cookie = self.chromium.block_on(self.chromium.driver().get_named_cookie(COOKIE)).ok()?;
        Some(cookie.value)
    }

    /// Opens a page that leads to the sign-out, with or without a click, and waits until the gate gets a request.
    /// Asserts that the user is still signed in.
    #[track_caller]
    fn assert_stays(&self, what: &str, url: &str, click: Option<&str>) {
        let (cookie, before) = (self.cookie(), self.asked());
        self.open(url);
        if let Some(selector) = click {
            self.click(selector);
        }
        assert!(
            wait_until(BOUND, || self.asked() > before),
            "{what}: nobody asks for a sign-out at {}",
            self.url()
        );
        self.close_other_windows();
        // The next page has the session.
        self.open(&self.gate.url("/afterwards"));
        let text = self.chromium.block_on(self.chromium.driver().source()).unwrap();
        assert!(text.contains("x-forwarded-user"), "{what}: {text}");
        assert_eq!(self.cookie(), cookie, "{what}");
        assert_eq!(self.gate.provider.count(Endpoint::EndSession), 0, "{what}");
    }

    /// Closes other windows, because a window in the background does not prefetch.
    fn close_other_windows(&self) {
        let driver = self.chromium.driver();
        let close = async {
            let ours = driver.window().await?;
            for window in driver.windows().await?.into_iter().filter(|window| *window != ours) {
                driver.switch_to_window(window).await?;
                driver.close_window().await?;
            }
            driver.switch_to_window(ours).await
        };
        self.chromium.block_on(close).unwrap();
    }

    /// How many requests the gate has answered itself.
    fn asked(&self) -> u64 {
        let statistics = self.gate.envoy().stats().unwrap();
        let of_the_gate = |name: &str| {
            name.contains("oidc_gate_decisions_total")
                && ["session", "bearer", "public"].iter().all(|by| !name.contains(&format!("outcome.{by}.")))
        };
        statistics.iter().filter(|(name, _)| of_the_gate(name)).map(|(_, count)| count).sum()
    }

    #[track_caller]
    fn assert_signed_out(&self, sessions_before: usize) {
        let out = || self.url().starts_with(&self.gate.url("/oauth2/signed-out"));
        assert!(wait_until(BOUND, out), "not signed out at {}", self.url());
        assert_eq!(self.cookie(), None);
        assert_eq!(self.gate.provider.sessions_of("mlflow_user").len(), sessions_before - 1);
    }
}

#[test]
fn f1201_in_chromium_nothing_in_a_page_signs_anybody_out_and_a_click_of_a_person_does() {
    let gate = Gate::start();
    let elsewhere = Echo::start().unwrap();
    let person =
        Person { gate: &gate, chromium: Chromium::start().unwrap_or_else(|trouble| panic!("{trouble}")) };
    person.sign_in();
    for (number, (what, html, click)) in IN_A_PAGE.into_iter().enumerate() {
        let path = format!("/page/{number}");
        gate.echo.show(&path, html);
        person.assert_stays(what, &gate.url(&path), click);
    }
    for (number, (what, html, click)) in ELSEWHERE.into_iter().enumerate() {
        let path = format!("/page/{number}");
        elsewhere.show(&path, &html.replace("GATE", &gate.origin()));
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("http://{host}:{}{path}", elsewhere.port());
            person.assert_stays(&format!("{what} at {host}"), &url, click);
        }
    }
    assert_workers_alive(&gate);

    gate.echo.show("/link", "<a href=/oauth2/logout>Sign out</a>");
    gate.echo.show("/refresh", "<meta http-equiv=refresh content='0;url=/oauth2/logout'>");
    gate.echo.show("/form", "<form method=post action=/oauth2/logout><button>Sign out</button></form>");
    let logout = gate.url("/oauth2/logout");
    for (path, button) in [
        ("/form", "button"),
        // The confirmation page that a link or refresh leads to.
        ("/link", "form[action='/oauth2/logout'] button"),
        ("/refresh", "form[action='/oauth2/logout'] button"),
        ("/oauth2/account", "form[action='/oauth2/logout'] button"),
    ] {
        if person.cookie().is_none() {
            person.sign_in();
        }
        let before = gate.provider.sessions_of("mlflow_user").len();
        person.open(&gate.url(path));
        if path == "/link" {
            person.click("a");
        }
        if ["/link", "/refresh"].contains(&path) {
            assert!(wait_until(BOUND, || person.url() == logout), "{}", person.url());
        }
        person.click(button);
        person.assert_signed_out(before);
    }
}
