//! Debian packages, for programs that no other registry has.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::command::{find, run};
use crate::progress::{Progress, Task};

/// A second installation would wait silently for dpkg's lock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

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

/// Ensures a program whose Debian package has the same name.
///
/// # Errors
/// As [`install`].
pub fn ensure(program: &str, progress: &Progress) -> Result<()> {
    ensure_from(program, program, progress)
}

/// Ensures a program from a Debian package with another name.
///
/// # Errors
/// As [`install`].
pub fn ensure_from(package: &str, program: &str, progress: &Progress) -> Result<()> {
    if find(program).is_none() {
        let task = progress.task(program);
        install(&[package], &task)?;
        task.finish("Debian package");
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

/// Stops and disables a service. Debian starts the service of a package after the installation and at every boot, but
/// only the program is needed here. Without a service manager this does nothing.
pub fn stop_service(name: &str) {
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
