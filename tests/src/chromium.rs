//! Headless Chromium, for tests of what only a real browser does.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::process::{Process, Trouble, accepts_connections, free_port, required_path};
use tempfile::TempDir;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver};
use tokio::runtime::Runtime;

/// The machine may be busy.
const START: Duration = Duration::from_secs(60);
/// A page that takes longer to load than this has failed.
const PAGE_LOAD: Duration = Duration::from_secs(60);

/// A browser with a profile of its own; dropping it ends it.
#[derive(Debug)]
pub struct Chromium {
    // Used by `driver`, which is gone before it.
    runtime: Runtime,
    driver: WebDriver,
    _chromedriver: Process,
    _profile: TempDir,
}

impl Chromium {
    /// Starts one.
    ///
    /// # Errors
    /// chromedriver or the browser does not start, with the tail of its log.
    pub fn start() -> Result<Self, Trouble> {
        let profile = TempDir::new()?;
        let port = free_port();
        let mut command = Command::new(required_path("OIDC_GATE_CHROMEDRIVER")?);
        command.arg(format!("--port={port}"));
        let log = profile.path().join("chromedriver.log");
        let mut chromedriver = Process::start("chromedriver", &mut command, &log)?;
        chromedriver.wait_until(START, || accepts_connections(port))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let driver = runtime.block_on(connect(port, &profile.path().join("profile")));
        let driver = driver.map_err(|error| chromedriver.trouble(&error.to_string()))?;
        Ok(Self { runtime, driver, _chromedriver: chromedriver, _profile: profile })
    }

    /// What drives it.
    pub fn driver(&self) -> &WebDriver {
        &self.driver
    }

    /// Waits for something that the driver does.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // When this fails, the end of chromedriver ends the browser.
        let _ = self.runtime.block_on(self.driver.clone().quit());
    }
}

async fn connect(port: u16, profile: &Path) -> WebDriverResult<WebDriver> {
    let mut chromium = DesiredCapabilities::chrome();
    for argument in [
        "--headless=new",
        // Chromium's sandbox refuses to run as root, as in a container.
        "--no-sandbox",
        "--disable-gpu",
        // /dev/shm of a container is small.
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        // It speaks to nobody but the servers of the test.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        "--lang=en",
    ] {
        chromium.add_arg(argument)?;
    }
    chromium.add_arg(&format!("--user-data-dir={}", profile.display()))?;
    let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), chromium).await?;
    driver.set_page_load_timeout(PAGE_LOAD).await?;
    Ok(driver)
}
