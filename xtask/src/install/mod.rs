//! Everything that the repository needs besides Rust. It is installed once under `.oidc-gate/`, at exact versions.
//!
//! Each `ensure` returns immediately if the program is already installed. Otherwise it installs it completely or not at
//! all.

pub mod apt;
pub mod cargo_tool;
pub mod chromium;
pub mod envoy;
pub mod go_tool;
pub mod hadolint;
pub mod haproxy;
pub mod keycloak;
pub mod kubectl_validate;
pub mod kustomize;
pub mod mlflow;
pub mod promtool;
pub mod python;
pub mod redis;
pub mod wasm;
pub mod wheel;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Extracts a zip archive, such as a wheel, with its Unix permissions.
pub fn unzip(archive: &Path, into: &Path) -> Result<()> {
    let file = fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    zip::ZipArchive::new(file)
        .and_then(|mut zip| zip.extract(into))
        .with_context(|| format!("unpacking {}", archive.display()))
}

/// Creates a folder that is either complete or absent. `fill` works in a folder beside it, which is renamed at the end.
pub fn folder_at_once(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = folder.with_added_extension("new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    fill(&unfinished)?;
    fs::rename(&unfinished, folder).with_context(|| format!("completing {}", folder.display()))
}

/// Makes a program executable that came from an archive without permissions.
pub fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_could_not_be_filled_is_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("tool");
        folder_at_once(&folder, |new| {
            fs::write(new.join("half"), "")?;
            anyhow::bail!("no space left")
        })
        .unwrap_err();
        assert!(!folder.exists());
        folder_at_once(&folder, |new| Ok(fs::write(new.join("whole"), "")?)).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["whole"], "what the failed attempt left behind is gone");
    }
}
