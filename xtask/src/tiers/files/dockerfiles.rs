//! Checks Dockerfiles with hadolint.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::{Source, lay};

/// # Errors
/// If there is no Dockerfile, or hadolint finds something. The message is hadolint's.
pub fn check(hadolint: &Path, sources: &[Source]) -> Result<()> {
    let files: Vec<_> = sources.iter().filter(|source| is_dockerfile(source.file_name())).collect();
    ensure!(files.len() >= 2, "there are only {} Dockerfiles", files.len());
    let complaints = complaints(hadolint, &files)?;
    ensure!(complaints.is_empty(), "{complaints}");
    Ok(())
}

/// Checks that hadolint finds every kind of problem that it is expected to find.
pub fn control(hadolint: &Path) -> Result<()> {
    let text = "FROM debian:latest\n\
                MAINTAINER somebody\n\
                WORKDIR here\n\
                # hadolint ignore=DL3008,DL3009,DL3014,DL3015\n\
                RUN apt-get update && apt-get install curl\n\
                RUN sudo true\n\
                RUN rm -rf $PLACE/*\n\
                USER root\n";
    let planted = Source { name: "Dockerfile".to_owned(), content: text.as_bytes().to_vec() };
    let said = complaints(hadolint, &[&planted])?;
    // A moving tag, a relative folder, sudo, packages without a version, root as the last user, and shellcheck's
    // findings in the commands.
    for code in ["DL3007", "DL4000", "DL3000", "DL3004", "DL3008", "DL3014", "DL3002", "SC2086"] {
        ensure!(said.contains(code), "{code} is not found: {said}");
    }
    Ok(())
}

fn is_dockerfile(name: &str) -> bool {
    name == "Dockerfile" || name.starts_with("Dockerfile.") || name.ends_with(".Dockerfile")
}

fn complaints(hadolint: &Path, files: &[&Source]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    lay(folder.path(), files.iter().map(|file| (file.name.as_str(), file.content.as_slice())))?;
    // Without an explicit configuration it would search for one, also in the home folder.
    lay(folder.path(), [("hadolint.yaml", b"{}".as_slice())])?;
    let mut command = Command::new(hadolint);
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.args(["--config", "hadolint.yaml", "--no-color", "--failure-threshold", "style"]);
    command.arg("--disable-ignore-pragma").args(files.iter().map(|file| &file.name));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() == said.is_empty(),
        "hadolint ended with {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::is_dockerfile;

    #[test]
    fn dockerfiles_are_known_by_their_usual_names() {
        assert!(["Dockerfile", "Dockerfile.test", "api.Dockerfile"].into_iter().all(is_dockerfile));
        assert!(!["dockerfiles.rs", ".dockerignore", "docker-compose.yml"].into_iter().any(is_dockerfile));
    }
}
