//! `cargo xtask build`: builds the filter and the package for MLflow for release.

use std::fs;
use std::io::Write;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::progress::Progress;
use crate::workspace::Workspace;
use crate::{download, install};

/// Builds `dist/oidc_gate.wasm`, and prints its size, its size as gzip, and its SHA-256. Then the wheel of `mlflow/`.
pub fn run(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let built = install::wasm::build(workspace, progress)?;
    let folder = workspace.root().join("dist");
    fs::create_dir_all(&folder)?;
    let wasm = folder.join("oidc_gate.wasm");
    fs::copy(built, &wasm)?;
    let code = fs::read(&wasm)?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&code)?;
    println!("{}", wasm.display());
    println!("  size     {} bytes, {} with gzip", code.len(), gzip.finish()?.len());
    println!("  sha256   {}", download::file_sha256(&wasm)?);
    let wheel = install::mlflow::wheel(workspace, &folder, progress)?;
    println!("{}", wheel.display());
    println!("  sha256   {}", download::file_sha256(&wheel)?);
    Ok(())
}
