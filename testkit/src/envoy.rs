//! A running Envoy and what its admin port tells about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::browser::{Client, Response};
use crate::envoy_config::EnvoyConfig;
use crate::process::{Process, Trouble, free_port, wait_until};

/// How long Envoy may take from start to ready: it loads and compiles the filter once per worker.
const START: Duration = Duration::from_secs(120);

/// What an Envoy is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    config: EnvoyConfig,
    workers: u32,
    environment: BTreeMap<String, String>,
    log_level: String,
    component_log_level: Option<String>,
    ready: Readiness,
}

/// When a start counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// When the admin port says so.
    Required,
    /// When the admin port answers at all.
    AdminOnly,
}

impl Launch {
    /// An Envoy from the binary `program`.
    pub fn new(program: &Path, config: EnvoyConfig) -> Self {
        Self {
            program: program.to_owned(),
            config,
            workers: 1,
            environment: BTreeMap::new(),
            log_level: "info".to_owned(),
            component_log_level: None,
            ready: Readiness::Required,
        }
    }

    /// Where its browsers connect.
    #[must_use]
    pub fn listener_port(mut self, port: u16) -> Self {
        self.config = self.config.listener_port(port);
        self
    }

    /// How many worker threads.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// An environment variable; Envoy gets these and no others.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// `trace`, `debug`, `info`, `warning`, `error`.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Levels of single components, such as `wasm:debug`.
    #[must_use]
    pub fn component_log_level(mut self, levels: &str) -> Self {
        self.component_log_level = Some(levels.to_owned());
        self
    }

    /// When [`Envoy::start`] returns.
    #[must_use]
    pub fn readiness(mut self, ready: Readiness) -> Self {
        self.ready = ready;
        self
    }
}

/// A running Envoy; dropping it ends it.
#[derive(Debug)]
pub struct Envoy {
    process: std::sync::Mutex<Process>,
    admin_port: u16,
    workers: u32,
    folder: TempDir,
}

/// Counters of the Wasm host that move when a filter's VM fails or is loaded anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasmHealth {
    /// Everything about reloads and failures, by its full name.
    pub incidents: BTreeMap<String, u64>,
    /// VMs alive.
    pub active: u64,
    /// VMs made since the start.
    pub created: u64,
}

impl Envoy {
    /// Starts Envoy and waits for it.
    ///
    /// # Errors
    /// Envoy ended or was not ready in two minutes, with the tail of its log.
    pub fn start(launch: Launch) -> Result<Self, Trouble> {
        let folder = TempDir::new()?;
        let admin_port = free_port();
        let path = folder.path().join("envoy.json");
        launch.config.admin_port(admin_port).write(&path)?;
        let mut command = Command::new(&launch.program);
        command
            .arg("--config-path")
            .arg(&path)
            // A listener that was replaced is gone after a second, and not only after a minute, as shipped.
            .args(["--drain-time-s", "1", "--drain-strategy", "immediate"])
            .args(["--disable-hot-restart", "--concurrency", &launch.workers.to_string()])
            .args(["--log-level", &launch.log_level])
            .args(launch.component_log_level.iter().flat_map(|levels| ["--component-log-level", levels]))
            .env_clear()
            .envs(&launch.environment)
            .current_dir(folder.path());
        let process = Process::start("Envoy", &mut command, &folder.path().join("envoy.log"))?;
        let envoy = Self { process: process.into(), admin_port, workers: launch.workers, folder };
        let ready = || match (envoy.admin("GET", "/ready"), launch.ready) {
            (Ok(response), Readiness::Required) => response.status == 200,
            (Ok(_), Readiness::AdminOnly) => true,
            (Err(_), _) => false,
        };
        envoy.lock().wait_until(START, ready)?;
        Ok(envoy)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The admin port.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// How many workers it runs.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// The folder of its configuration, log and whatever else a test puts there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the process still runs.
    pub fn is_running(&self) -> bool {
        self.lock().is_running()
    }

    /// The whole log: Envoy's, the filter's, and the access log.
    pub fn log(&self) -> String {
        self.lock().log()
    }

    /// Ends Envoy and returns its whole log; the access log is written out at the end.
    pub fn stop(self) -> String {
        let mut process = self.lock();
        process.stop();
        process.log()
    }

    /// Ends Envoy at once, as a crash does, and returns its whole log.
    pub fn kill(self) -> String {
        let mut process = self.lock();
        process.kill();
        process.log()
    }

    /// `what` went wrong, with the tail of the log.
    pub fn trouble(&self, what: &str) -> Trouble {
        self.lock().trouble(what)
    }

    /// Waits until the log has `text`.
    ///
    /// # Errors
    /// It did not come within `bound`; with the tail of the log.
    pub fn wait_for_log(&self, text: &str, bound: Duration) -> Result<(), Trouble> {
        if wait_until(bound, || self.log().contains(text)) {
            return Ok(());
        }
        Err(self.trouble(&format!("did not log {text:?} within {bound:?}")))
    }

    /// Asks the admin port.
    ///
    /// # Errors
    /// It does not answer.
    pub fn admin(&self, method: &str, path: &str) -> Result<Response, Trouble> {
        Client::new().request(method, &format!("http://127.0.0.1:{}{path}", self.admin_port)).send()
    }

    /// Bytes of memory that it holds now.
    ///
    /// # Errors
    /// It has ended.
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
    /// The admin port does not answer.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>, Trouble> {
        let text = self.admin("GET", "/stats")?.text();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
            .collect())
    }

    /// One counter or gauge; 0 when there is none of that name.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub fn stat(&self, name: &str) -> Result<u64, Trouble> {
        Ok(self.stats()?.get(name).copied().unwrap_or_default())
    }

    /// Waits until a cluster has a host that is healthy. An actively checked host counts as unhealthy until the first
    /// check is through, which may be a moment after Envoy is ready.
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
    /// The admin port does not answer.
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

    /// New downstream connections that each worker has taken, by worker.
    ///
    /// # Errors
    /// The admin port does not answer.
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

    /// What Envoy says its configuration is.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub fn config_dump(&self) -> Result<String, Trouble> {
        Ok(self.admin("GET", "/config_dump?include_eds")?.text())
    }

    /// Hands a new listener to the running Envoy (see [`EnvoyConfig::with_lds`]) and waits for its verdict.
    ///
    /// # Errors
    /// Envoy neither took nor refused it in 20 s.
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

/// What Envoy did with a pushed configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It serves the new one.
    Accepted,
    /// It keeps the old one.
    Rejected,
}
