//! The servers of the light stack, as separate processes.

use std::time::Duration;

use anyhow::{Context, Result};
use oidc_gate_testkit::echo::Echo;
use oidc_gate_testkit::provider::{Provider, Setup};

use super::keycloak::CLIENT_ID;
use super::secrets::OIDC_CLIENT_SECRET;
use crate::signals;

const POLL: Duration = Duration::from_millis(200);

/// Serves the provider until a signal stops it. The client secret comes from the environment.
pub fn provider(port: u16, public_url: &str) -> Result<()> {
    let client_secret =
        std::env::var(OIDC_CLIENT_SECRET).with_context(|| format!("{OIDC_CLIENT_SECRET} is not set"))?;
    let provider = Provider::start(Setup::new(port, CLIENT_ID, &client_secret, public_url))?;
    println!("{} is up", provider.issuer());
    until_signalled();
    Ok(())
}

/// Serves the echo application until a signal stops it.
pub fn echo(port: u16) -> Result<()> {
    let echo = Echo::start_on(port)?;
    println!("http://localhost:{} is up", echo.port());
    until_signalled();
    Ok(())
}

fn until_signalled() {
    while !signals::interrupted() {
        std::thread::sleep(POLL);
    }
}
