//! Programs from Debian packages, which no other registry has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::command::{find, run};
use crate::progress::{Progress, Task};

/// A second installation would wait silently for dpkg's lock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A program, and what has to be installed if it is missing.
pub struct Program {
    name: &'static str,
    packages: &'static [&'static str],
    /// The service that Debian starts after the installation. Only the program is needed.
    service: Option<&'static str>,
}

/// The driver of headless Chromium. It finds the browser by itself.
pub const CHROMEDRIVER: Program = program("chromedriver", &["chromium", "chromium-driver"]);
pub const CURL: Program = program("curl", &["curl"]);
pub const GO: Program = program("go", &["golang-go"]);
/// Forwards to the primary of a replicated Redis.
pub const HAPROXY: Program = program("haproxy", &["haproxy"]).of_service("haproxy");
pub const IP: Program = program("ip", &["iproute2"]);
pub const JAVA: Program = program("java", &["default-jre-headless"]);
pub const JQ: Program = program("jq", &["jq"]);
pub const NODE: Program = program("node", &["nodejs"]);
/// For MLflow's databases. Debian keeps the server's programs out of the path; this one starts them.
pub const POSTGRESQL: Program = program("pg_ctlcluster", &["postgresql"]).of_service("postgresql");
pub const PROMTOOL: Program = program("promtool", &["prometheus"]).of_service("prometheus");
/// The stack runs its own Redis with a password on another port.
pub const REDIS: Program = program("redis-server", &["redis-server"]).of_service("redis-server");
pub const SHELLCHECK: Program = program("shellcheck", &["shellcheck"]);

const fn program(name: &'static str, packages: &'static [&'static str]) -> Program {
    Program { name, packages, service: None }
}

impl Program {
    const fn of_service(self, service: &'static str) -> Self {
        Self { service: Some(service), ..self }
    }

    /// The program's path.
    ///
    /// # Errors
    /// As [`install`].
    pub fn ensure(&self, progress: &Progress) -> Result<PathBuf> {
        if let Some(path) = self.find() {
            return Ok(path);
        }
        let task = progress.task(self.name);
        install(self.packages, &task)?;
        if let Some(service) = self.service {
            stop_service(service);
        }
        task.finish("Debian package");
        self.find().with_context(|| format!("{} installed no {}", self.packages.join(" "), self.name))
    }

    /// Some programs are in an administrator's folder, which not every user has on the path.
    fn find(&self) -> Option<PathBuf> {
        let usual = Path::new("/usr/sbin").join(self.name);
        find(self.name).or_else(|| usual.exists().then_some(usual))
    }
}

/// Installs packages with apt-get.
///
/// # Errors
/// If this is not Debian, if the user is not root (the message then contains the command to type), or if apt-get fails.
pub fn install(packages: &[&str], task: &Task) -> Result<()> {
    let names = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("{names} missing, and there is no apt-get here: install it with your system's packages");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("{names} missing; install it with: sudo apt-get install {names}");
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if run(&mut apt_get("install", packages), task).is_err() {
        // A new machine has no package lists. Those of an old machine name versions that no longer exist.
        crate::signals::check()?;
        run(&mut apt_get("update", &[]), task)?;
        run(&mut apt_get("install", packages), task).with_context(|| format!("installing {names}"))?;
    }
    Ok(())
}

fn apt_get(verb: &str, packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", verb])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    if verb == "install" {
        command.arg("--no-install-recommends");
    }
    command
}

/// Stops and disables a service. Debian starts the service of a package after the installation and at every boot.
/// Without a service manager this does nothing.
fn stop_service(name: &str) {
    let unit = format!("{name}.service");
    let stop: &[&[&str]] = if Path::new("/run/systemd/system").exists() {
        &[&["systemctl", "disable", "--now", &unit]]
    } else {
        &[&["service", name, "stop"], &["update-rc.d", name, "disable"]]
    };
    for words in stop {
        if let [program, arguments @ ..] = *words {
            let _ = Command::new(program).args(arguments).output();
        }
    }
}
