//! `cargo xtask sim`: the core in simulated worlds, one for each seed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::command::each_line_of_output;
use crate::progress::Progress;
use crate::signals;
use crate::workspace::Workspace;

const PACKAGE: &str = "oidc-gate-sim";

/// Which worlds to run.
#[derive(Args)]
pub struct Seeds {
    /// How many worlds to run.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed. To repeat a failing one, use `--seed N --seeds 1`.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the seeds and their hashes to this file. Two versions with the same behaviour write the same file.
    #[arg(long, value_name = "FILE")]
    hashes: Option<PathBuf>,
}

/// Runs the worlds on all cores and prints the result.
///
/// # Errors
/// If a rule was broken. The trace of that world, and the command that repeats it, have been printed.
pub fn run(workspace: &Workspace, Seeds { seeds, seed, hashes }: &Seeds, progress: &Progress) -> Result<()> {
    let task = progress.task("simulator");
    let built = workspace.cargo().args(["build", "--locked", "--quiet", "--package", PACKAGE]).status()?;
    if !built.success() {
        bail!("the simulator does not build");
    }
    task.finish("");

    let task = progress.task(format!("{seeds} seeds"));
    task.expect_count(*seeds);
    let mut command = Command::new(workspace.metadata()?.target_directory.join("debug").join(PACKAGE));
    command.args(["--progress", "--seeds", &seeds.to_string(), "--seed", &seed.to_string()]);
    if let Some(file) = hashes {
        command.arg("--hashes").arg(std::path::absolute(file)?);
    }
    let mut report = String::new();
    let status = each_line_of_output(&mut command, |line| {
        match line.trim_end().strip_prefix("done ").and_then(|count| count.parse().ok()) {
            Some(count) => task.reached(count),
            None => report += line,
        }
    })?;
    if status.success() {
        task.finish("");
    } else {
        drop(task);
    }
    print!("{report}");
    signals::check()?;
    if !status.success() {
        bail!("a rule was broken");
    }
    Ok(())
}
