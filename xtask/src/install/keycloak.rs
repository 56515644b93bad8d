//! Keycloak's distribution from Maven Central, built once with the options that need a build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{apt, folder_at_once, unzip};
use crate::command::{find, run};
use crate::progress::{Progress, Task};
use crate::workspace::Workspace;
use crate::{download, signals};

const VERSION: &str = "26.7.3";
const SHA256: &str = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f";
const CENTRAL: &str = "https://repo1.maven.org/maven2/org/keycloak/keycloak-quarkus-dist";
const COPY_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

/// A file database and the health endpoints, which are enough for one developer. They are set at build time, because
/// `start --optimized` is four times faster than `start`.
const BUILD_OPTIONS: [&str; 2] = ["--db=dev-file", "--health-enabled=true"];

/// The folder of a built Keycloak. Nothing may run in it: a stack starts from a copy with its own `data`.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let folder = workspace.tools().join(format!("keycloak-{VERSION}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let task = progress.task(format!("Keycloak {VERSION}"));
    apt::JAVA.ensure(progress)?;
    let archive = archive(workspace, &task)?;
    folder_at_once(&folder, |new| {
        task.detail("unpacking");
        unzip(&archive, new)?;
        let home = new.join(format!("keycloak-{VERSION}"));
        task.detail("building the server");
        run(Command::new(home.join("bin/kc.sh")).arg("build").args(BUILD_OPTIONS), &task)?;
        for entry in fs::read_dir(&home)? {
            let entry = entry?;
            fs::rename(entry.path(), new.join(entry.file_name()))?;
        }
        Ok(fs::remove_dir(home)?)
    })?;
    fs::remove_file(archive)?;
    task.finish("from Maven Central, built");
    Ok(folder)
}

/// Tries Maven first, because it has the user's mirror and proxy settings. If it is missing or fails, there is another
/// way.
fn archive(workspace: &Workspace, task: &Task) -> Result<PathBuf> {
    let name = format!("keycloak-quarkus-dist-{VERSION}.zip");
    let archive = workspace.downloads().join(&name);
    if archive.is_file() && download::file_sha256(&archive)? == SHA256 {
        return Ok(archive);
    }
    let by_maven = match find("mvn") {
        Some(maven) => copy_with_maven(&maven, &archive, task),
        None => Err(anyhow::anyhow!("mvn is not installed")),
    };
    if let Err(maven) = by_maven {
        signals::check()?;
        download::fetch(&format!("{CENTRAL}/{VERSION}/{name}"), &archive, SHA256, task)
            .with_context(|| format!("the download with Maven failed, too: {maven:#}"))?;
    }
    Ok(archive)
}

fn copy_with_maven(maven: &Path, archive: &Path, task: &Task) -> Result<()> {
    let unchecked = archive.with_extension("maven");
    task.detail("downloading with Maven");
    let mut copy = Command::new(maven);
    copy.args(["--batch-mode", "--no-transfer-progress", "--strict-checksums", COPY_GOAL])
        .arg(format!("-Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"))
        .arg(format!("-DoutputDirectory={}", unchecked.display()))
        // A pom.xml in the user's current folder must have no effect.
        .current_dir(archive.parent().context("an archive has a folder")?);
    run(&mut copy, task)?;
    let copied = unchecked.join(archive.file_name().context("an archive has a name")?);
    download::verify(&copied, SHA256)?;
    fs::rename(copied, archive)?;
    Ok(fs::remove_dir(unchecked)?)
}
