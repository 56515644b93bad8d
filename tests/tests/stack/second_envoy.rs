//! A second Envoy with the same configuration and environment, and with the same Redis and Keycloak.

use std::process::Command;

use oidc_gate_testkit::envoy_config::EnvoyConfig;
use oidc_gate_testkit::process::{Process, accepts_connections, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::stack::{BOUND, Stack};

/// Dropping this stops it.
pub struct SecondEnvoy {
    _process: Process,
    _folder: TempDir,
    port: u16,
    admin_port: u16,
}

impl SecondEnvoy {
    /// Starts it and waits until it accepts connections.
    pub fn start(stack: &Stack) -> Self {
        Self::start_with(stack, |_| {})
    }

    /// The same with a changed configuration of the filter.
    pub fn start_with(stack: &Stack, edit: impl FnOnce(&mut Value)) -> Self {
        Self::start_changed(stack, |config| config.plugin(edit))
    }

    /// In front of another application on this port.
    pub fn start_before(stack: &Stack, application: u16) -> Self {
        Self::start_changed(stack, |config| config.cluster("mlflow", "127.0.0.1", application))
    }

    fn start_changed(stack: &Stack, edit: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin_port) = (free_port(), free_port());
        let file = folder.path().join("envoy.json");
        edit(EnvoyConfig::load(&stack.folder().join("run/envoy.json")).unwrap())
            .listener_port(port)
            .admin_port(admin_port)
            .write(&file)
            .unwrap();

        // The program and the secrets of the first Envoy.
        let first = stack.envoy_pid();
        let program = std::fs::read_link(format!("/proc/{first}/exe")).unwrap();
        let variables = environment_of(first);
        let mut command = Command::new(program);
        command.arg("--config-path").arg(&file).args(["--concurrency", "2", "--disable-hot-restart"]);
        command.args(["--log-level", "warning", "--component-log-level", "wasm:info"]);
        command.env_clear().envs(variables);
        let mut process =
            Process::start("second envoy", &mut command, &folder.path().join("envoy.log")).unwrap();
        process.wait_until(BOUND, || accepts_connections(port)).unwrap();
        Self { _process: process, _folder: folder, port, admin_port }
    }

    /// The port of its admin interface.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The URL of a path behind it. It has the host of the first Envoy, because cookies are not isolated by port.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }
}

/// The environment of a running process.
pub fn environment_of(pid: u64) -> Vec<(String, String)> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let variables = environment.split(|byte| *byte == 0).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    variables.collect()
}
