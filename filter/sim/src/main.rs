//! Runs seeds and prints the results.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use oidc_gate_sim::runner;
use oidc_gate_sim::sabotage::Sabotage;

/// Run the gate's core in a simulated world, once for each seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Plant this bug, to show that the rules find it.
    #[arg(long)]
    sabotage: Option<Sabotage>,
    /// Stop after this many failing seeds.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Print only this many of the last events.
    #[arg(long, default_value_t = 400)]
    lines: usize,
    /// Write the seeds and their hashes to this file. Two versions with the same behaviour write the same file.
    #[arg(long)]
    hashes: Option<PathBuf>,
    /// Print `done N` now and then, for a program that shows progress.
    #[arg(long)]
    progress: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let step = (arguments.seeds / 200).max(1);
    let progress = |done: u64| {
        if arguments.progress && (done.is_multiple_of(step) || done == arguments.seeds) {
            let mut out = std::io::stdout().lock();
            // The reader may be gone. The seeds run on.
            let _ = writeln!(out, "done {done}").and_then(|()| out.flush());
        }
    };
    let mut report =
        runner::run_many(arguments.seed, arguments.seeds, arguments.sabotage, arguments.failures, &progress);
    let seconds = started.elapsed().as_secs_f64();
    for failure in &mut report.failures {
        let surplus = failure.lines.len().saturating_sub(arguments.lines);
        failure.lines.drain(..surplus);
        println!("{failure}\n");
    }
    if let Some(file) = &arguments.hashes {
        let lines: String =
            report.hashes.iter().map(|(seed, hash)| format!("{seed} {hash:016x}\n")).collect();
        if let Err(error) = std::fs::write(file, lines) {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    let tally = report.tally;
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let rate = report.seeds as f64 / seconds.max(0.001);
    println!(
        "{} seeds in {seconds:.1} s ({rate:.0}/s): {} steps, {} requests forwarded, {} answered, {} logins, {} refreshes, \
         {} sign-outs, {} announced logouts, {} Redis commands",
        report.seeds,
        tally.steps,
        tally.forwarded,
        tally.answered,
        tally.logins,
        tally.refreshes,
        tally.sign_outs,
        tally.announcements,
        tally.commands,
    );
    if report.failures.is_empty() {
        println!("no rule was broken");
        ExitCode::SUCCESS
    } else {
        let seeds: Vec<String> = report.failures.iter().map(|failure| failure.seed.to_string()).collect();
        println!("{} seeds broke a rule: {}", seeds.len(), seeds.join(", "));
        ExitCode::FAILURE
    }
}
