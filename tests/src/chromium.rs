//! Headless Chromium, for tests that need a real browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::process::{Process, Trouble, accepts_connections, free_port, required_path};
use tempfile::TempDir;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver};
use tokio::runtime::Runtime;

/// Long, because the machine may be busy.
const START: Duration = Duration::from_secs(60);
/// Time limit for loading a page.
const PAGE_LOAD: Duration = Duration::from_secs(60);

/// A browser with a new profile. Dropping it stops the browser.
#[derive(Debug)]
pub struct Chromium {
    // `driver` needs it and is dropped first.
    runtime: Runtime,
    driver: WebDriver,
    _chromedriver: Process,
    _profile: TempDir,
}

impl Chromium {
    /// Starts a browser.
    ///
    /// # Errors
    /// chromedriver or the browser does not start. Contains the end of the log.
    pub fn start() -> Result<Self, Trouble> {
        Self::start_with(&[])
    }

    /// Starts a browser in which no page can run a script.
    ///
    /// # Errors
    /// As [`Chromium::start`].
    pub fn start_without_scripts() -> Result<Self, Trouble> {
        Self::start_with(&["--blink-settings=scriptEnabled=false"])
    }

    fn start_with(arguments: &[&str]) -> Result<Self, Trouble> {
        let profile = TempDir::new()?;
        let port = free_port();
        let mut command = Command::new(required_path("OIDC_GATE_CHROMEDRIVER")?);
        command.arg(format!("--port={port}"));
        let log = profile.path().join("chromedriver.log");
        let mut chromedriver = Process::start("chromedriver", &mut command, &log)?;
        chromedriver.wait_until(START, || accepts_connections(port))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let driver = runtime.block_on(connect(port, &profile.path().join("profile"), arguments));
        let driver = driver.map_err(|error| chromedriver.trouble(&error.to_string()))?;
        Ok(Self { runtime, driver, _chromedriver: chromedriver, _profile: profile })
    }

    /// The WebDriver session.
    pub fn driver(&self) -> &WebDriver {
        &self.driver
    }

    /// Runs a WebDriver operation to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // If this fails, the browser stops together with chromedriver.
        let _ = self.runtime.block_on(self.driver.clone().quit());
    }
}

async fn connect(port: u16, profile: &Path, arguments: &[&str]) -> WebDriverResult<WebDriver> {
    let mut chromium = DesiredCapabilities::chrome();
    for argument in [
        "--headless=new",
        // Chromium's sandbox refuses to run as root, which is the user in a container.
        "--no-sandbox",
        "--disable-gpu",
        // A container has only a small /dev/shm.
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        // The browser must connect only to the servers of the test.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        "--lang=en",
    ] {
        chromium.add_arg(argument)?;
    }
    for argument in arguments {
        chromium.add_arg(argument)?;
    }
    chromium.add_arg(&format!("--user-data-dir={}", profile.display()))?;
    let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), chromium).await?;
    driver.set_page_load_timeout(PAGE_LOAD).await?;
    Ok(driver)
}
