//! A running Envoy, with the data of its admin port.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::browser::{Client, Response};
use crate::envoy_config::EnvoyConfig;
use crate::process::{Process, Trouble, free_port, wait_until};

/// Time limit for Envoy to become ready. It loads and compiles the filter once per worker.
const START: Duration = Duration::from_secs(120);

/// The settings that an Envoy is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The binary.
    pub program: PathBuf,
    /// The configuration. The admin port is set at the start.
    pub config: EnvoyConfig,
    /// The number of worker threads.
    pub workers: u32,
    /// The environment variables. Envoy gets no others.
    pub environment: BTreeMap<String, String>,
    /// The log levels of single components, such as `wasm:debug`. The others log at `info`.
    pub component_log_level: &'static str,
}

/// A running Envoy. Dropping it stops the process.
#[derive(Debug)]
pub struct Envoy {
    process: std::sync::Mutex<Process>,
    admin_port: u16,
    workers: u32,
    _folder: TempDir,
}

/// Counters of the Wasm host that change when a filter's VM fails or is reloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasmHealth {
    /// All counters of reloads and failures, by their full names.
    pub incidents: BTreeMap<String, u64>,
    /// Live VMs.
    pub active: u64,
    /// VMs created since the start.
    pub created: u64,
}

impl Envoy {
    /// Starts Envoy and waits until it is ready.
    ///
    /// # Errors
    /// Envoy stopped or was not ready within two minutes. Contains the end of its log.
    pub fn start(launch: Launch) -> Result<Self, Trouble> {
        let folder = TempDir::new()?;
        let admin_port = free_port();
        let path = folder.path().join("envoy.json");
        launch.config.admin_port(admin_port).write(&path)?;
        let mut command = Command::new(&launch.program);
        command
            .arg("--config-path")
            .arg(&path)
            // Removes a replaced listener after one second, not after the minute that is shipped.
            .args(["--drain-time-s", "1", "--drain-strategy", "immediate"])
            .args(["--disable-hot-restart", "--concurrency", &launch.workers.to_string()])
            .args(["--log-level", "info", "--component-log-level", launch.component_log_level])
            .env_clear()
            .envs(&launch.environment)
            .current_dir(folder.path());
        let process = Process::start("Envoy", &mut command, &folder.path().join("envoy.log"))?;
        let envoy = Self { process: process.into(), admin_port, workers: launch.workers, _folder: folder };
        let ready = || envoy.admin("GET", "/ready").is_ok_and(|response| response.status == 200);
        envoy.lock().wait_until(START, ready)?;
        Ok(envoy)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many workers it runs.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// The whole log: Envoy's, the filter's and the access log.
    pub fn log(&self) -> String {
        self.lock().log()
    }

    /// Stops Envoy and returns its whole log. Envoy writes the rest of the access log when it stops.
    pub fn stop(self) -> String {
        let mut process = self.lock();
        process.stop();
        process.log()
    }

    /// Kills Envoy, as a crash does, and returns its whole log.
    pub fn kill(self) -> String {
        let mut process = self.lock();
        process.kill();
        process.log()
    }

    /// An error `what`, with the end of the log.
    pub fn trouble(&self, what: &str) -> Trouble {
        self.lock().trouble(what)
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    /// It did not appear within `bound`. Contains the end of the log.
    pub fn wait_for_log(&self, text: &str, bound: Duration) -> Result<(), Trouble> {
        if wait_until(bound, || self.log().contains(text)) {
            return Ok(());
        }
        Err(self.trouble(&format!("did not log {text:?} within {bound:?}")))
    }

    /// Sends a request to the admin port.
    ///
    /// # Errors
    /// The admin port does not respond.
    pub fn admin(&self, method: &str, path: &str) -> Result<Response, Trouble> {
        Client::new().request(method, &format!("http://127.0.0.1:{}{path}", self.admin_port)).send()
    }

    /// The memory that Envoy uses now, in bytes.
    ///
    /// # Errors
    /// The process has stopped.
    pub fn resident_bytes(&self) -> Result<u64, Trouble> {
        let pid = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| self.trouble("does not say how big it is"))
    }

    /// All counters and gauges by name.
    ///
    /// # Errors
    /// The admin port does not respond.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>, Trouble> {
        let text = self.admin("GET", "/stats")?.text();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
            .collect())
    }

    /// One counter or gauge. 0 if there is none with this name.
    ///
    /// # Errors
    /// The admin port does not respond.
    pub fn stat(&self, name: &str) -> Result<u64, Trouble> {
        Ok(self.stats()?.get(name).copied().unwrap_or_default())
    }

    /// Waits until a cluster has a healthy host. With active health checks a host is unhealthy until the first check
    /// succeeds, which may be shortly after Envoy is ready.
    ///
    /// # Errors
    /// There was none within `bound`.
    pub fn wait_for_healthy(&self, cluster: &str, bound: Duration) -> Result<(), Trouble> {
        let name = format!("cluster.{cluster}.membership_healthy");
        if wait_until(bound, || self.stat(&name).is_ok_and(|healthy| healthy > 0)) {
            return Ok(());
        }
        Err(self.trouble(&format!("sees no healthy host in cluster {cluster} after {bound:?}")))
    }

    /// The counters of the Wasm host.
    ///
    /// # Errors
    /// The admin port does not respond.
    pub fn wasm_health(&self) -> Result<WasmHealth, Trouble> {
        let stats = self.stats()?;
        let incidents = stats
            .iter()
            .filter(|(name, _)| name.starts_with("wasm"))
            .filter(|(name, _)| ["reload", "fail", "crash", "error"].iter().any(|word| name.contains(word)))
            .filter(|(name, _)| !name.starts_with("wasmcustom."))
            .map(|(name, value)| (name.clone(), *value))
            .collect();
        let sum = |suffix: &str| {
            let matching =
                stats.iter().filter(|(name, _)| name.starts_with("wasm.") && name.ends_with(suffix));
            matching.map(|(_, value)| value).sum()
        };
        Ok(WasmHealth { incidents, active: sum(".active"), created: sum(".created") })
    }

    /// How many downstream connections each worker has accepted, by worker.
    ///
    /// # Errors
    /// The admin port does not respond.
    pub fn connections_by_worker(&self) -> Result<BTreeMap<String, u64>, Trouble> {
        let stats = self.stats()?;
        Ok(stats
            .into_iter()
            .filter(|(name, _)| name.starts_with("listener.") && !name.starts_with("listener.admin."))
            .filter_map(|(name, value)| {
                let worker = name.strip_suffix(".downstream_cx_total")?.split_once(".worker_")?.1.to_owned();
                Some((worker, value))
            })
            .collect())
    }

    /// Envoy's dump of its own configuration.
    ///
    /// # Errors
    /// The admin port does not respond.
    pub fn config_dump(&self) -> Result<String, Trouble> {
        Ok(self.admin("GET", "/config_dump?include_eds")?.text())
    }

    /// Gives the running Envoy a new listener (see [`EnvoyConfig::with_lds`]) and waits until Envoy accepts or rejects
    /// it.
    ///
    /// # Errors
    /// Envoy did neither within 20 s.
    pub fn push_listener(&self, config: &EnvoyConfig) -> Result<Verdict, Trouble> {
        const LDS: &str = "listener_manager.lds.";
        let before = self.stats()?;
        config.publish_listener()?;
        let mut verdict = None;
        let moved = |after: &BTreeMap<String, u64>, name: &str| {
            let name = format!("{LDS}{name}");
            after.get(&name).copied().unwrap_or_default() > before.get(&name).copied().unwrap_or_default()
        };
        wait_until(Duration::from_secs(20), || {
            if let Ok(after) = self.stats() {
                if moved(&after, "update_rejected") {
                    verdict = Some(Verdict::Rejected);
                } else if moved(&after, "update_success") {
                    verdict = Some(Verdict::Accepted);
                }
            }
            verdict.is_some()
        });
        verdict.ok_or_else(|| self.trouble("said nothing about its new listener in 20 s"))
    }
}

/// Envoy's reaction to a pushed configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It uses the new configuration.
    Accepted,
    /// It keeps the old configuration.
    Rejected,
}
