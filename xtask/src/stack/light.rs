//! Small replacements for Keycloak and MLflow, served by this program itself.

use std::collections::BTreeMap;

use anyhow::Result;

use super::daemon::Launch;
use super::instance::Instance;
use super::secrets::OIDC_CLIENT_SECRET;

/// How the light provider is started.
pub fn provider(instance: &Instance) -> Result<Launch> {
    let port = instance.plan.ports.provider;
    let secret = instance.secrets.required(OIDC_CLIENT_SECRET);
    let environment = BTreeMap::from([(OIDC_CLIENT_SECRET.to_owned(), secret.to_owned())]);
    this_program(
        ["serve", "provider", "--port", &port.to_string(), "--public-url", &instance.public_url()],
        environment,
    )
}

/// How the echo application is started.
pub fn echo(instance: &Instance) -> Result<Launch> {
    this_program(["serve", "echo", "--port", &instance.plan.ports.application.to_string()], BTreeMap::new())
}

fn this_program<const N: usize>(words: [&str; N], environment: BTreeMap<String, String>) -> Result<Launch> {
    let program = std::env::current_exe()?;
    Ok(Launch {
        inputs: vec![program.clone()],
        program,
        arguments: words.map(Into::into).to_vec(),
        environment,
    })
}
