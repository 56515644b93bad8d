//! Debian packages, for what no other registry carries.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::command::{find, run};
use crate::progress::{Progress, Task};

/// Two installations at once would wait for dpkg's lock without saying so.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Installs packages with apt-get.
///
/// # Errors
/// When this is no Debian, when not root (the message then has the command to type), or when apt-get fails.
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
        // A machine that is new has no package lists, and one that is old has lists of versions that are gone.
        crate::signals::check()?;
        run(&mut apt_get("update", &[]), task)?;
        run(&mut apt_get("install", packages), task).with_context(|| format!("installing {names}"))?;
    }
    Ok(())
}

/// A program that is a Debian package of the same name.
///
/// # Errors
/// As [`install`].
pub fn ensure(program: &str, progress: &Progress) -> Result<()> {
    ensure_from(program, program, progress)
}

/// A program that a Debian package of another name has.
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

/// Debian starts the service of what it installs, and at every boot; whoever wants the program only says so here.
/// Nothing answers where no service manager runs, and that is fine.
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
