//! Output about a stack: the summary after `up`, the table of `status`, the logs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use console::style;

use super::daemon::{Daemon, State};
use super::instance::{Instance, Mode};
use super::part::Part;
use super::{keycloak, secrets};
use crate::signals;

const POLL: Duration = Duration::from_millis(200);

/// URLs, users and the next steps.
pub fn summary(instance: &Instance) -> String {
    let public = instance.public_url();
    let provider = instance.provider_url();
    let env_file = instance.env_file().display();
    let (application, who) = match instance.plan.mode {
        Mode::Full => (
            "MLflow",
            format!(
                "Keycloak     {provider}   {}: {} in {env_file}",
                keycloak::ADMIN,
                secrets::KEYCLOAK_ADMIN_PASSWORD
            ),
        ),
        Mode::Light => ("Echo", format!("Provider     {provider}")),
    };
    let title =
        style(format!("oidc-gate is up: {application} behind the gate, {} workers", instance.plan.workers))
            .bold();
    format!(
        "\n{title}\n\n\
         \x20 {application:<12} {public}\n\
         \x20 {who}\n\n\
         {users}\n\n\
         \x20 Next  open {public} and log in\n\
         \x20       cargo xtask status · cargo xtask logs envoy --follow · cargo xtask down\n\n\
         \x20 With a token:\n\
         \x20   OIDC_CLIENT_SECRET=$(sed -n 's/^OIDC_CLIENT_SECRET=//p' {env_file} | tr -d \"\\\"'\")\n\
         \x20   TOKEN=$(curl -s {issuer}/protocol/openid-connect/token -d grant_type=password \\\n\
         \x20     -d client_id={client} -d client_secret=$OIDC_CLIENT_SECRET -d username=mlflow_user -d password=password123 \\\n\
         \x20     | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])')\n\
         \x20   curl {public}/api/2.0/mlflow/experiments/search -H \"Authorization: Bearer $TOKEN\" \\\n\
         \x20     -H 'Content-Type: application/json' -d '{{\"max_results\": 10}}'\n",
        users = users(),
        issuer = instance.issuer_url(),
        client = keycloak::CLIENT_ID,
    )
}

/// Part, state, pid, URL, memory.
pub fn status(instance: &Instance) -> Table {
    let mut table = plain_table(["part", "state", "pid", "url", "memory"]);
    for part in Part::of(instance.plan.mode) {
        let daemon = instance.daemon(*part);
        let (state, pid) = match daemon.state() {
            State::Running(pid) if part.is_ready(instance) => ("running", pid.to_string()),
            State::Running(pid) => ("not ready", pid.to_string()),
            State::Crashed(pid) => ("crashed", format!("(was {pid})")),
            State::Stopped => ("stopped", "-".to_owned()),
        };
        let memory = match daemon.memory() {
            0 => "-".to_owned(),
            bytes => format!("{} MiB", bytes / (1024 * 1024)),
        };
        table.add_row([part.name().to_owned(), state.to_owned(), pid, part.url(instance), memory]);
    }
    table
}

/// Prints the log of a part. With `follow`, continues with new lines until the user interrupts.
pub fn log(folder: &Path, part: Part, follow: bool) -> Result<()> {
    let daemon = Daemon::new(folder, part.name());
    let open = || {
        File::open(daemon.log()).with_context(|| format!("{} has no log; was it ever started?", part.name()))
    };
    let mut file = open()?;
    let mut out = std::io::stdout().lock();
    loop {
        std::io::copy(&mut file, &mut out)?;
        out.flush()?;
        if !follow || signals::interrupted() {
            return Ok(());
        }
        std::thread::sleep(POLL);
        if was_replaced(&file, daemon.log())? {
            std::io::copy(&mut file, &mut out)?;
            file = open()?;
        }
    }
}

/// A table that is readable in a log file too.
pub fn plain_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn users() -> Table {
    let mut table = plain_table(["user", "password", "may"]);
    table
        .add_row(["mlflow_user", "password123", "use MLflow"])
        .add_row(["mlflow_admin", "password123", "use and administer MLflow"])
        .add_row(["outsider", "password123", "log in, and is then refused"]);
    table
}

/// Whether a restarted part has created a new file under the same name.
fn was_replaced(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let read = file.metadata()?.ino();
    Ok(path.metadata().is_ok_and(|now| now.ino() != read))
}
