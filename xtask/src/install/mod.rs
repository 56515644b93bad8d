//! Everything that the repository needs besides Rust. It is installed once under `.oidc-gate/`, at exact versions.
//!
//! Each `ensure` returns immediately if the program is already installed. Otherwise it installs it completely or not at
//! all.

pub mod apt;
pub mod cargo_tool;
pub mod envoy;
pub mod go_tool;
pub mod keycloak;
pub mod mlflow;
pub mod python;
pub mod wasm;
pub mod wheel;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::progress::{Progress, Task};
use crate::workspace::Workspace;

/// The path of a program in the folder of this tool and version. If it is missing, `make` fills the folder, and returns
/// what the user is told about its source.
fn tool(
    workspace: &Workspace,
    progress: &Progress,
    name: &str,
    version: &str,
    program: &str,
    make: impl FnOnce(&Path, &Task) -> Result<&'static str>,
) -> Result<PathBuf> {
    let folder = workspace.tools().join(format!("{name}-{version}"));
    let path = folder.join(program);
    if !path.is_file() {
        let task = progress.task(format!("{name} {version}"));
        let source = make(&folder, &task)?;
        ensure!(path.is_file(), "{name} {version} has no program {program}");
        task.finish(source);
    }
    Ok(path)
}

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
