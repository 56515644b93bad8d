//! Headless Chromium, driven like a user does: addresses, clicks, keys, tabs.

use std::path::{Path, PathBuf};

use oidc_gate_testkit::process::{Trouble, wait_until};
use oidc_gate_tests::Chromium;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{By, WebDriver, WindowHandle};

use crate::stack::{BOUND, PASSWORD, SESSION_COOKIE, Stack};

/// A browser with a new profile. If the test fails, dropping it leaves a screenshot.
pub struct Browser {
    chromium: Chromium,
    failures: PathBuf,
}

/// A tab of a browser.
#[derive(Clone, Debug)]
pub struct Tab(WindowHandle);

impl Browser {
    /// Starts a browser.
    pub fn start(stack: &Stack) -> Self {
        Self::of(stack, Chromium::start())
    }

    /// Starts a browser in which no page can run a script.
    pub fn start_without_scripts(stack: &Stack) -> Self {
        Self::of(stack, Chromium::start_without_scripts())
    }

    fn of(stack: &Stack, chromium: Result<Chromium, Trouble>) -> Self {
        let chromium = chromium.unwrap_or_else(|trouble| panic!("{trouble}"));
        Self { chromium, failures: stack.folder().join("failures") }
    }

    /// Opens an address and waits until the page is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.try_open(url).unwrap_or_else(|error| panic!("{url} is not shown: {error}"));
    }

    /// Like [`Browser::open`], if the server may be unreachable.
    pub fn try_open(&self, url: &str) -> WebDriverResult<()> {
        self.chromium.block_on(self.driver().goto(url))
    }

    /// Reloads the page.
    pub fn reload(&self) {
        self.chromium.block_on(self.driver().refresh()).unwrap();
    }

    /// The current address.
    pub fn url(&self) -> String {
        self.chromium.block_on(self.driver().current_url()).map(String::from).unwrap_or_default()
    }

    /// The visible text of the page. Empty while another page is loading.
    pub fn text(&self) -> String {
        self.evaluate("return document.body ? document.body.innerText : ''")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The HTTP status of the page.
    pub fn status(&self) -> Option<u64> {
        self.evaluate("return performance.getEntriesByType('navigation')[0].responseStatus").as_u64()
    }

    /// The result of a script. Null if the page is replaced meanwhile.
    pub fn evaluate(&self, script: &str) -> serde_json::Value {
        let result = self.chromium.block_on(self.driver().execute(script, Vec::new()));
        result.map(|value| value.json().clone()).unwrap_or_default()
    }

    /// What a script passes to its last argument, if it does.
    pub fn evaluate_async(&self, script: &str) -> serde_json::Value {
        let result = self.chromium.block_on(self.driver().execute_async(script, Vec::new()));
        result.map(|value| value.json().clone()).unwrap_or_else(|error| panic!("{error}\n{}", self.shown()))
    }

    /// Whether the page has an element that matches.
    pub fn has(&self, selector: &str) -> bool {
        self.chromium.block_on(self.driver().find(By::Css(selector))).is_ok()
    }

    /// Clicks the first element that matches.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.try_click(selector)
            .unwrap_or_else(|error| panic!("{selector} can't be clicked: {error}\n{}", self.shown()));
    }

    /// Like [`Browser::click`], on a page that may be replaced before the click arrives.
    pub fn try_click(&self, selector: &str) -> WebDriverResult<()> {
        self.chromium.block_on(async { self.driver().find(By::Css(selector)).await?.click().await })
    }

    /// Types into the first element that matches.
    #[track_caller]
    pub fn write(&self, selector: &str, text: &str) {
        self.try_write(selector, text)
            .unwrap_or_else(|error| panic!("{selector} can't be filled: {error}\n{}", self.shown()));
    }

    fn try_write(&self, selector: &str, text: &str) -> WebDriverResult<()> {
        self.chromium.block_on(async {
            let field = self.driver().find(By::Css(selector)).await?;
            field.clear().await?;
            field.send_keys(text).await
        })
    }

    /// Waits until a condition on the page holds.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(BOUND, condition), "not within {BOUND:?}: {what}\n{}", self.shown());
    }

    /// Waits until the text is visible on the page.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for(text, || self.text().contains(text));
    }

    /// Waits for Keycloak's login form. It must be on Keycloak's origin.
    #[track_caller]
    pub fn wait_for_login_form(&self, stack: &Stack) {
        self.wait_for("Keycloak's login form", || self.has("#kc-form-login"));
        assert!(self.url().starts_with(stack.keycloak()), "{}", self.shown());
    }

    /// Fills in and submits Keycloak's login form.
    #[track_caller]
    pub fn submit_login(&self, user: &str) {
        self.try_submit_login(user)
            .unwrap_or_else(|error| panic!("the form can't be sent: {error}\n{}", self.shown()));
    }

    /// Like [`Browser::submit_login`], for a form that may submit itself meanwhile.
    pub fn try_submit_login(&self, user: &str) -> WebDriverResult<()> {
        self.try_write("#username", user)?;
        self.try_write("#password", PASSWORD)?;
        self.try_click("#kc-login")
    }

    /// Opens a page of the gate, logs in, and waits until the browser is back at the gate.
    #[track_caller]
    pub fn sign_in(&self, stack: &Stack, path: &str, user: &str) {
        self.open(&stack.url(path));
        self.wait_for_login_form(stack);
        self.submit_login(user);
        self.wait_for("the way back from Keycloak", || {
            let url = self.url();
            url.starts_with(&stack.url("/")) && !url.contains("/oauth2/callback")
        });
    }

    /// A new browser that has logged in, as [`Browser::sign_in`].
    #[track_caller]
    pub fn signed_in(stack: &Stack, path: &str, user: &str) -> Self {
        let browser = Self::start(stack);
        browser.sign_in(stack, path, user);
        browser
    }

    /// The gate's session cookie.
    pub fn session_cookie(&self) -> Option<String> {
        let cookie = self.chromium.block_on(self.driver().get_named_cookie(SESSION_COOKIE)).ok()?;
        Some(cookie.value)
    }

    /// Deletes a cookie of the current page.
    pub fn forget_cookie(&self, name: &str) {
        self.chromium.block_on(self.driver().delete_cookie(name)).unwrap();
    }

    /// The current tab.
    pub fn tab(&self) -> Tab {
        Tab(self.chromium.block_on(self.driver().window()).unwrap())
    }

    /// Opens a tab and switches to it.
    pub fn new_tab(&self) -> Tab {
        let tab = self.chromium.block_on(self.driver().new_tab()).unwrap();
        let tab = Tab(tab);
        self.switch_to(&tab);
        tab
    }

    /// Switches to a tab.
    pub fn switch_to(&self, tab: &Tab) {
        self.chromium.block_on(self.driver().switch_to_window(tab.0.clone())).unwrap();
    }

    /// Takes a screenshot for the documentation, if a folder for screenshots is set.
    pub fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("OIDC_GATE_SCREENSHOTS") {
            self.screenshot(&PathBuf::from(folder).join(name)).unwrap();
        }
    }

    /// The current state of the browser, for failed assertions.
    pub fn shown(&self) -> String {
        format!("the browser is at {} (status {:?}) and shows:\n{}", self.url(), self.status(), self.text())
    }

    fn screenshot(&self, path: &Path) -> WebDriverResult<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        self.chromium.block_on(self.driver().screenshot(path))
    }

    fn driver(&self) -> &WebDriver {
        self.chromium.driver()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
            let path = self.failures.join(format!("{test}.png"));
            match self.screenshot(&path) {
                Ok(()) => eprintln!("{}\nA picture of it is {}", self.shown(), path.display()),
                Err(error) => eprintln!("there is no picture of the failure: {error}"),
            }
        }
    }
}
